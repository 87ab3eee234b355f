"""The directory that an operator provides with a model in it: engines read their files there, and nowhere else."""

from pathlib import Path


def opened(model: Path | None) -> Path:
    """Return the directory, without links. Raises ValueError when there is none."""
    if model is None:
        raise ValueError("it needs a model: set recognizer_model to the model's directory")
    if not model.is_dir():
        raise ValueError(f"recognizer_model: {model} is not a directory")
    return model.resolve()


def file(directory: Path, name: str) -> str:
    """Return the path of a file that is in the directory. Raises ValueError when it is not."""
    path = (directory / name).resolve()
    if not path.is_relative_to(directory):
        raise ValueError(f"recognizer_model: {name} leads out of {directory}")
    if not path.is_file():
        raise ValueError(f"recognizer_model: there is no file {name} in {directory}")
    return str(path)
