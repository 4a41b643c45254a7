"""Which pieces of mapped files this process has checked already."""

from __future__ import annotations

import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import os

    from numpy.typing import NDArray

_LIMIT = 8192  # files; a volume's pieces take 2 kB
_RACY_NS = 2_000_000_000  # file systems' clocks tick slowly: a second change may get the time of the first
_SEEN: OrderedDict[tuple[int, ...], NDArray[np.bool_]] = OrderedDict()


@dataclass
class VerifiedPieces:
    """The pieces of one file that were found whole since it last changed.

    Reading a crop of a mapped file is faster than checking it, so a piece is checked when this
    process first reads it. Any write to the file (the system's time of change cannot be set back)
    and any new file in its place starts anew. What is not seen is a disk that alters a file by
    itself in the life of one process; ``ct-vlm cache verify`` finds it.

    Args:
        state: True for each piece that was checked.
    """

    state: NDArray[np.bool_]

    def add(self, numbers: NDArray[np.int64]) -> None:
        """Note that pieces are whole."""
        self.state[numbers] = True


def verified_pieces(status: os.stat_result, count: int, *, fresh: bool = False) -> VerifiedPieces:
    """Return what is known of a file.

    Args:
        status: Of the open file.
        count: Number of its pieces.
        fresh: Know nothing, and keep nothing.
    """
    identity = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns, count)
    if fresh or time.time_ns() - status.st_ctime_ns < _RACY_NS:
        return VerifiedPieces(np.zeros(count, dtype=bool))
    state = _SEEN.pop(identity, None)  # and back in at the end; another thread may drop it at any time
    if state is None:
        state = np.zeros(count, dtype=bool)
    _SEEN[identity] = state
    while len(_SEEN) > _LIMIT:
        _SEEN.popitem(last=False)
    return VerifiedPieces(state)
