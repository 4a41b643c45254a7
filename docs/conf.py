"""Sphinx configuration: `sphinx-build -W docs docs/_build`."""

from __future__ import annotations

import importlib
import pkgutil
import shutil
from pathlib import Path

import ct_vlm

project = "ct_vlm"
author = "ct_vlm maintainers"
release = ct_vlm.__version__

extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode", "myst_nb"]
html_theme = "furo"
exclude_patterns = ["_build"]

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_inherit_docstrings = False
napoleon_custom_sections = [("Shape", "params_style"), "References"]
myst_enable_extensions = ["colon_fence"]
# the notebooks are executed by the tests
nb_execution_mode = "off"

# names that packages import on first use are invisible to autodoc until they are used
for _info in pkgutil.iter_modules(ct_vlm.__path__, "ct_vlm."):
    if _info.ispkg:
        _package = importlib.import_module(_info.name)
        for _name in getattr(_package, "__all__", ()):
            setattr(_package, _name, getattr(_package, _name))

# the example notebooks live beside the configurations; Sphinx reads only what is under docs/
_here = Path(__file__).parent
_copies = _here / "notebooks"
_copies.mkdir(exist_ok=True)
for _notebook in (_here.parent / "examples" / "notebooks").glob("*.ipynb"):
    shutil.copyfile(_notebook, _copies / _notebook.name)
