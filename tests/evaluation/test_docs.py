import doctest
import re
from pathlib import Path

DOCS = Path(__file__).resolve().parents[2] / "docs"


def test_the_negation_example_of_the_documentation_holds() -> None:
    text = (DOCS / "evaluation.md").read_text(encoding="utf-8")
    blocks = [block for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if block.startswith(">>>")]
    assert blocks
    runner = doctest.DocTestRunner()
    for block in blocks:
        runner.run(doctest.DocTestParser().get_doctest(block, {}, "evaluation.md", None, 0))
    assert runner.summarize(verbose=False) == doctest.TestResults(0, runner.tries)
    assert runner.tries >= 7
