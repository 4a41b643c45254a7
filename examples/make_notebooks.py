"""Write the example notebooks from their py:percent sources: `python examples/make_notebooks.py`.

Notebooks carry no outputs and the same cell ids every time, so that a diff shows what changed.
"""

from __future__ import annotations

from pathlib import Path

import jupytext
import nbformat

HERE = Path(__file__).resolve().parent
SOURCES = HERE / "notebooks_src"
NOTEBOOKS = HERE / "notebooks"
_METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def build(source: Path) -> str:
    """Return the notebook of a source file as text.

    Args:
        source: A py:percent file.

    Returns:
        The notebook as JSON, ending in a newline.
    """
    notebook = jupytext.read(source, fmt="py:percent")
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    notebook.metadata = nbformat.from_dict(_METADATA)
    for position, cell in enumerate(notebook.cells):
        cell.id = f"{source.stem.replace('_', '-')}-{position}"
        cell.metadata = nbformat.from_dict({})
    return nbformat.writes(notebook).rstrip("\n") + "\n"


def target(source: Path) -> Path:
    """Return where the notebook of a source file goes."""
    return NOTEBOOKS / f"{source.stem}.ipynb"


def main() -> None:
    """Write every notebook."""
    NOTEBOOKS.mkdir(exist_ok=True)
    for source in sorted(SOURCES.glob("*.py")):
        target(source).write_text(build(source), encoding="utf-8")
        print(target(source).relative_to(HERE.parent))


if __name__ == "__main__":
    main()
