"""No op is timed whose tests are red."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

from benchmarks.environment import ROOT
from ct_vlm.errors import CTVLMError

if TYPE_CHECKING:
    from pathlib import Path


class RedTestsError(CTVLMError, RuntimeError):
    """Tests of an op fail, or there are none."""


def require_green(tests: str, root: Path = ROOT) -> None:
    """Run the tests of an op in a process of their own.

    Args:
        tests: Folder or file below ``root``.
        root: The working tree.

    Raises:
        RedTestsError: If a test fails or none was found.
    """
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", tests]
    # options meant for a run of pytest that this one may be a part of
    environment = {name: value for name, value in os.environ.items() if name != "PYTEST_ADDOPTS"}
    environment["OMP_NUM_THREADS"] = "1"
    ended = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)  # noqa: S603
    if ended.returncode != 0:
        last = "\n".join((ended.stdout + ended.stderr).rstrip().splitlines()[-8:])
        cause = f"`{tests}` does not pass, so nothing is timed (pytest ended with {ended.returncode}):\n{last}\n"
        raise RedTestsError(cause, f"Run `pytest {tests}`, and mend what it names.")
