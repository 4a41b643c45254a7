"""A worker process. Imports nothing heavy before its thread counts are set."""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from types import FrameType

_ONE_THREAD = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "BLOSC_NTHREADS",
    "OPENCV_FOR_THREADS_NUM",
)
_SETTERS = {"cv2": "setNumThreads", "blosc2": "set_nthreads", "torch": "set_num_threads"}


def worker_main(connection: Connection) -> None:
    """Preprocess one sample after another until the other end closes.

    The first message is the setup, answered by ``None``; then every sample is answered by its outcome.

    Args:
        connection: To the process that hands out samples.
    """
    # Ctrl-C reaches every process of the terminal; only the first one decides what happens
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _leave)
    limit_threads()
    try:
        setup = connection.recv()  # unpickling imports what the setup needs, after the environment is set
        from ct_vlm.datasets.preprocessing.work import preprocess_one

        connection.send(None)
        while True:
            connection.send(preprocess_one(connection.recv(), setup))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return  # whoever handed out the samples is gone or done


def limit_threads(*, loaded: bool = True) -> None:
    """Make the libraries of this process use one thread: the other cores have workers of their own.

    Libraries that are not loaded yet (loading one takes a second) follow the environment, which is set here too.

    Args:
        loaded: Also tell the libraries that are loaded. Not in a forked process: OpenCV waits there for threads of
            its parent, and blosc2 crashes.
    """
    os.environ.update(dict.fromkeys(_ONE_THREAD, "1"))
    for library, function in _SETTERS.items():
        if loaded and library in sys.modules:
            getattr(sys.modules[library], function)(1)


def _leave(signal_number: int, _frame: FrameType | None) -> NoReturn:
    """Unwind, so that half-written files are removed."""
    sys.exit(128 + signal_number)
