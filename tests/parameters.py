"""The table of parameters and engines in README, made from `api.catalogue` and from what the engines state.

`python -m tests.parameters` writes it anew; a test compares.
"""

from pathlib import Path

from api.catalogue import PARAMETERS, Parameter
from retention.offer import Feature
from worker.recognizers import installed

README = Path(__file__).parent.parent / "README.md"
BEGIN, END = "<!-- parameters: made by `python -m tests.parameters` -->", "<!-- end of parameters -->"


def table() -> str:
    """Return the table, between its marks."""
    engines = {point.name: point.load().features for point in installed()}
    rows = [
        ["parameter", "what it means", *engines],
        ["---"] * (2 + len(engines)),
        *(
            [f"`{parameter.name}`", parameter.means, *(_cell(parameter, features) for features in engines.values())]
            for parameter in PARAMETERS.values()
        ),
    ]
    return "\n".join([BEGIN, *(f"| {' | '.join(row)} |" for row in rows), END])


def _cell(parameter: Parameter, features: frozenset[Feature]) -> str:
    needs = parameter.needs
    if needs is not None and needs <= features | {"english"}:
        return "English" if "english" in needs else "yes"
    return "refused" if parameter.otherwise == "refuse" else "warned"


def written(text: str) -> str:
    """Return a text of README with the table made anew."""
    before, rest = text.split(BEGIN)
    return before + table() + rest.split(END)[1]


if __name__ == "__main__":
    README.write_text(written(README.read_text()))
