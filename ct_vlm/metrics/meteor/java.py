"""METEOR 1.5 by its own program."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING

import numpy as np

from ct_vlm.errors import CTVLMError
from ct_vlm.metrics.meteor.parameters import NUM_STATISTICS
from ct_vlm.metrics.meteor.resources import find_jar, find_java

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

# the paraphrase table alone takes about ten seconds to load
_STARTUP_SECONDS, _SECONDS_PER_PAIR = 300.0, 1.0


class MeteorProgramError(CTVLMError, RuntimeError):
    """The METEOR program failed, hung or printed something else."""


def java_statistics(predictions: Sequence[str], references: Sequence[str]) -> NDArray[np.float64]:
    """Return the statistics that METEOR 1.5 counts for each pair.

    One process is started, fed and closed; the settings are those of pycocoevalcap (``-l en -norm``),
    with the text passed as UTF-8 whatever the locale.

    Args:
        predictions: Generated reports, "" where missing.
        references: True reports.

    Shape:
        - Output: ``(B, 23)``.

    Raises:
        MissingDependencyError: If Java or the program is missing.
        MeteorProgramError: If the program fails.
    """
    # Java before 18 reads and writes in the locale's encoding unless told otherwise
    encodings = ["-Dfile.encoding=UTF-8", "-Dstdout.encoding=UTF-8"]
    program = [find_java(), *encodings, "-Xmx2G", "-jar", str(find_jar()), "-", "-", "-stdio", "-l", "en", "-norm"]
    if not predictions:
        return np.zeros((0, NUM_STATISTICS))
    lines = [
        f"SCORE ||| {_one_line(reference)} ||| {_one_line(prediction)}\n"
        for prediction, reference in zip(predictions, references, strict=True)
    ]
    patience = _STARTUP_SECONDS + _SECONDS_PER_PAIR * len(lines)
    try:
        done = subprocess.run(  # noqa: S603 - a fixed program; the text goes to its standard input
            program, input="".join(lines), capture_output=True, encoding="utf-8", timeout=patience, check=False
        )
    except subprocess.TimeoutExpired as error:
        cause = f"METEOR 1.5 scored {len(lines)} pairs for more than {patience:.0f} s and was stopped."
        raise MeteorProgramError(cause, "Try fewer pairs at a time, and see that 2 GB of memory are free.") from error
    except OSError as error:
        cause = f"Java cannot be started: {error}."
        raise MeteorProgramError(cause, "Check that `java -version` works, or leave METEOR out.") from error
    return _read_statistics(done.stdout, len(lines), done.stderr)


def java_version() -> str:
    """Return the first line of ``java -version``, or "unknown" where it says nothing."""
    try:
        done = subprocess.run(  # noqa: S603 - a fixed command
            [find_java(), "-version"], capture_output=True, encoding="utf-8", errors="replace", timeout=60, check=False
        )
    except (OSError, subprocess.TimeoutExpired):  # scores that took minutes are not lost for a version
        return "unknown"
    lines = (done.stderr or done.stdout).splitlines()
    return lines[0] if lines else "unknown"


def _read_statistics(printed: str, expected: int, complaint: str) -> NDArray[np.float64]:
    """Read one row of numbers a line."""
    try:
        rows = [[float(value) for value in line.split()] for line in printed.splitlines()]
    except ValueError:
        rows = []
    if len(rows) != expected or any(len(row) != NUM_STATISTICS for row in rows):
        first = next(iter((complaint or printed).strip().splitlines()), "nothing")
        cause = f"METEOR 1.5 printed {len(rows)} of {expected} results; it said: {first[:300]}."
        raise MeteorProgramError(cause, "Run `java -version`; the program needs Java 8 or newer and 2 GB of memory.")
    return np.array(rows, dtype=np.float64)


def _one_line(text: str) -> str:
    """Keep a report to one field of one line, as pycocoevalcap does."""
    return re.sub(r"[\r\n\v\f\x1c-\x1e\x85\u2028\u2029]+", " ", text).replace("|||", "").replace("  ", " ")
