"""What `volant transcribe` takes: recordings in files."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.processes import environment
from tests.ports import reserved_port

SPEECH = Path(__file__).parents[1] / "audio/goforward.wav"


@pytest.fixture
def nobody() -> Iterator[str]:
    """Give the address of a service that cannot be reached."""
    with reserved_port() as port:
        yield f"http://127.0.0.1:{port}"


@pytest.mark.parametrize("file", ["-", "/dev/stdin"])
def test_a_pipe_is_refused_with_a_sentence(nobody: str, file: str) -> None:
    """The length of the recording is told before it is sent, and a pipe has none."""
    with subprocess.Popen(["cat", SPEECH], stdout=subprocess.PIPE) as pipe:  # noqa: S607 - the PATH is ours
        done = subprocess.run(
            ["volant", "transcribe", file],  # noqa: S607 - the PATH is ours
            env=environment({"url": nobody, "apikey": "key"}),
            stdin=pipe.stdout,
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 2
    assert "FILE must be a regular file, not a pipe: its size is told first." in done.stderr


def test_a_redirected_file_is_a_file(nobody: str) -> None:
    """Standard input that is a file has a size, and is sent."""
    with SPEECH.open("rb") as recording:
        done = subprocess.run(
            ["volant", "transcribe", "-"],  # noqa: S607 - the PATH is ours
            env=environment({"url": nobody, "apikey": "key"}),
            stdin=recording,
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert "cannot be reached" in done.stderr


def test_an_address_that_is_none_is_refused_with_a_sentence() -> None:
    """Before anything is sent anywhere."""
    done = subprocess.run(
        ["volant", "transcribe", SPEECH],  # noqa: S607 - the PATH is ours
        env=environment({"url": "localhost:8080", "apikey": "key"}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.endswith("Error: The base URL must begin with http:// or https://.\n")
