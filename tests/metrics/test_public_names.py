from __future__ import annotations

import importlib
import subprocess
import sys

import pytest


@pytest.mark.parametrize("module", ["ct_vlm.metrics", "ct_vlm.metrics.adapters", "ct_vlm.metrics.functional"])
def test_every_public_name_can_be_imported(module):
    package = importlib.import_module(module)
    assert set(dir(package)) == set(package.__all__)
    assert all(getattr(package, name) is not None for name in package.__all__)
    with pytest.raises(AttributeError, match="nothing"):
        package.nothing  # noqa: B018


def test_labelling_needs_no_torch():
    code = "import sys; from ct_vlm.metrics import RuleLabeler; RuleLabeler()(['x']); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
