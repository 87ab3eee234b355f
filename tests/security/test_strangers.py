"""No answer tells another tenant's id from one that nobody has."""

from collections.abc import Iterator

import pytest

from api.routes import SERVICE
from tests.security.strangers import SAME_FOR_ALL, Question, compare, houses

PAIRS = 20


@pytest.fixture(scope="module")
def asked() -> Iterator[tuple[str, list[Question], str]]:
    """Give what is asked, by whom, of which service."""
    with houses() as found:
        yield found


def test_every_answer_is_the_same(asked: tuple[str, list[Question], str]) -> None:
    """Status, headers and body; for every route that takes something of a tenant's."""
    url, questions, key = asked
    for question in questions:
        seen = compare(url, question, key, pairs=PAIRS)
        there, nowhere = ({answer for is_there, answer in seen.answers if is_there is kind} for kind in (True, False))
        assert there == nowhere, f"{question.method} {question.path}, {question.about}"
        assert len(there) == 1, f"{question.method} {question.path}, {question.about}"


def test_no_route_is_left_out(asked: tuple[str, list[Question], str]) -> None:
    """A new one has to be asked about, or has to say why not."""
    _, questions, _ = asked
    served = {(path, method) for path, operations in SERVICE.items() for method in operations}
    named = {(question.path, question.method) for question in questions}
    assert served == named | SAME_FOR_ALL.keys()
