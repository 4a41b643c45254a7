"""What became of one volume; plain values, so that they travel between processes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["made", "present", "failed"]


@dataclass(frozen=True)
class Failure:
    """Why a volume has no entry in the cache.

    Args:
        volume: Its name.
        path: Its file.
        error: Class of the error, ``WorkerDied`` or ``TimedOut``.
        cause: What is wrong.
        cure: What to do about it.
        attempts: How often it was tried.
        quarantined: It would fail again, so it is not tried again until the file, the preset or
            the library's version changes.
        entry: File that the entry would have had, below the cache; empty if the source is gone.

    Example:
        >>> from ct_vlm.datasets.preprocessing import Failure
        >>> Failure("train_1_a_1", "a.nii.gz", "VolumeReadError", "It is truncated.", "Fetch it again.").message
        'It is truncated. Fetch it again.'
    """

    volume: str
    path: str
    error: str
    cause: str
    cure: str = ""
    attempts: int = 1
    quarantined: bool = False
    entry: str = ""

    @property
    def message(self) -> str:
        """Cause and cure."""
        return f"{self.cause} {self.cure}".strip()


@dataclass(frozen=True)
class Outcome:
    """What became of one volume.

    Args:
        volume: Its name.
        state: ``made``, ``present`` (there was nothing to do) or ``failed``.
        source_bytes: Size of its file.
        entry_bytes: Size of its entry.
        wall_seconds: Time taken.
        cpu_seconds: Time taken by the process that did it.
        failure: What is wrong, if it failed.

    Example:
        >>> from ct_vlm.datasets.preprocessing import Outcome
        >>> Outcome("train_1_a_1", "made").failure is None
        True
    """

    volume: str
    state: State
    source_bytes: int = 0
    entry_bytes: int = 0
    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0
    failure: Failure | None = None
