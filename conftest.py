"""What is collected: modules of kernels only where Triton, which they import, is installed."""

from __future__ import annotations

import importlib.util

collect_ignore_glob = [] if importlib.util.find_spec("triton") else ["ct_vlm/ops/*/kernel*.py"]
