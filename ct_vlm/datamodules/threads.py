"""One thread in every reading process, however it was started."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ct_vlm.datasets.preprocessing.worker import limit_threads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class OneThread:
    """Starts a reading process: one thread for every library, then what else was asked for.

    Args:
        then: Start function of the user or of Lightning.
        forked: Whether the process is a fork, which must not touch thread pools of its parent; it inherits the
            settings of :func:`one_thread_to_inherit`.

    Example:
        >>> from ct_vlm.datamodules.threads import OneThread
        >>> OneThread(print, forked=True).then is print
        True
    """

    def __init__(self, then: Callable[[int], Any] | None, *, forked: bool) -> None:
        self.then = then
        self.forked = forked

    def __call__(self, worker: int) -> None:
        """Run in the new process.

        Args:
            worker: Its number.
        """
        limit_threads(loaded=not self.forked)
        if self.then is not None:
            self.then(worker)


@contextmanager
def one_thread_to_inherit() -> Iterator[None]:
    """Let processes that are forked inside the block start with one thread in OpenCV and blosc2.

    After the fork it is too late: OpenCV would wait for threads that only its parent has, blosc2 would crash. torch
    limits its own threads in loader processes.

    Example:
        >>> import cv2
        >>> from ct_vlm.datamodules.threads import one_thread_to_inherit
        >>> with one_thread_to_inherit():
        ...     cv2.getNumThreads()
        1
    """
    opencv, blosc2 = sys.modules.get("cv2"), sys.modules.get("blosc2")
    opencv_threads = None if opencv is None else opencv.getNumThreads()
    blosc2_threads = None if blosc2 is None else blosc2.set_nthreads(1)
    if opencv is not None:
        opencv.setNumThreads(1)
    try:
        yield
    finally:
        if opencv is not None:
            opencv.setNumThreads(opencv_threads)
        if blosc2 is not None:
            blosc2.set_nthreads(blosc2_threads)
