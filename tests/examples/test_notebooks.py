"""The example notebooks are fresh and run from top to bottom."""

from __future__ import annotations

import ast
import importlib.util
import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted((ROOT / "examples" / "notebooks_src").glob("*.py"))

pytest.importorskip("jupytext", reason="the notebooks need the extra `test`")


def load_script():
    spec = importlib.util.spec_from_file_location("make_notebooks", ROOT / "examples" / "make_notebooks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_there_is_a_notebook_for_every_source_and_no_other() -> None:
    script = load_script()
    assert {script.target(source) for source in SOURCES} == set((ROOT / "examples" / "notebooks").glob("*.ipynb"))
    assert len(SOURCES) >= 2


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_notebook_is_fresh(source: Path) -> None:
    script = load_script()
    message = "run `python examples/make_notebooks.py`"
    assert script.target(source).read_text(encoding="utf-8") == script.build(source), message


@pytest.mark.notebook
@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_notebook_runs(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import nbformat
    from nbclient import NotebookClient

    script = load_script()
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.delenv("MPLBACKEND", raising=False)  # the kernel shows figures itself
    notebook = nbformat.reads(script.build(source), as_version=4)
    NotebookClient(notebook, timeout=240, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [cell.outputs for cell in notebook.cells if cell.cell_type == "code" and cell.outputs]
    assert outputs, "the notebook shows nothing"


def test_custom_parts_take_at_most_twenty_lines_of_user_code() -> None:
    source = (ROOT / "examples" / "notebooks_src" / "custom_parts.py").read_text(encoding="utf-8")
    classes = [node for node in ast.parse(source).body if isinstance(node, ast.ClassDef)]
    assert [node.name for node in classes] == ["PatchEncoder", "QueryTokens"]
    lines = [line for node in classes for line in ast.unparse(node).splitlines() if line.strip()]
    assert len(lines) <= 20
