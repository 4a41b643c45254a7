import doctest
from pathlib import Path

DOCS = Path(__file__).resolve().parents[2] / "docs"


def test_the_negation_example_of_the_documentation_holds() -> None:
    found = doctest.testfile(str(DOCS / "evaluation.md"), module_relative=False)
    assert found.attempted >= 7
    assert found.failed == 0
