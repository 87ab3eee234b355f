"""What README shows of the code is true."""

import re
from typing import Any

from tests.parameters import README, written
from worker.recognizers import Recognizer, Utterance, Word


def test_the_table_of_parameters_is_what_the_code_does() -> None:
    """It is made from the front's table and the engines' statements: `python -m tests.parameters` writes it anew."""
    assert written(README.read_text()) == README.read_text()


def test_the_example_of_an_engine_is_one() -> None:
    """It can be copied, loads, and recognises as the protocol says."""
    (example,) = re.findall(r"```python\n([^`]*class Mine:.*?)```", README.read_text(), re.DOTALL)
    names: dict[str, Any] = {}
    exec(example, names)  # noqa: S102 - it is ours
    engine: Recognizer = names["Mine"](None)
    assert engine.offer.features == names["Mine"].features
    heard = engine.recognize(bytes(32000), language=engine.offer.languages[0], alternatives=1)
    assert heard == Utterance(words=(Word("hello", 0.0, 1.0),))
