"""The data-security page: every sentence has its tests, and README says which."""

import ast
from pathlib import Path

import pytest

from deploy.processes import ROOT
from tests.security.page import PAGE, Sentence, table


@pytest.mark.parametrize("sentence", PAGE, ids=[sentence.says for sentence in PAGE])
def test_every_sentence_has_tests_that_exist(sentence: Sentence) -> None:
    """By name: one that is renamed or removed must be missed here."""
    assert sentence.tests
    for name in sentence.tests:
        module, _, test = name.partition("::")
        tree = ast.parse(Path(ROOT, "tests", f"{module}.py").read_text())
        found = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
        assert test in found, name


def test_readme_has_the_table() -> None:
    """As `python -m tests.security.page` prints it."""
    assert table() in (ROOT / "README.md").read_text()
