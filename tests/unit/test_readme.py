"""What README shows of the code is true."""

from tests.parameters import README, written


def test_the_table_of_parameters_is_what_the_code_does() -> None:
    """It is made from the front's table and the engines' statements: `python -m tests.parameters` writes it anew."""
    assert written(README.read_text()) == README.read_text()
