"""Green tests let an op be timed; red ones, and none at all, do not."""

from __future__ import annotations

import pytest

from benchmarks.gate import RedTestsError, require_green


@pytest.fixture(autouse=True)
def _quick_start(monkeypatch) -> None:
    """Leave out plugins, whose import takes longer than the tests."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")


def test_green_tests_pass(tmp_path) -> None:
    (tmp_path / "test_op.py").write_text("def test_op():\n    assert True\n")
    assert require_green("test_op.py", root=tmp_path) is None


@pytest.mark.parametrize(
    ("text", "code"), [("def test_op():\n    assert 1 == 2\n", 1), ("", 5), ("import nothing\n", 2)]
)
def test_red_or_no_tests_are_refused(tmp_path, text, code) -> None:
    (tmp_path / "test_op.py").write_text(text)
    with pytest.raises(RedTestsError, match=rf"`test_op.py` does not pass.*ended with {code}"):
        require_green("test_op.py", root=tmp_path)
