"""How far a machine lets processes run side by side at all: what the scaling of real work is to be compared with.

Each process compresses the same 32 KiB, which stay in its core's cache: no disk, no shared memory. Cores that are
threads of one core, that lower their clock together, or that a host lends to others as well fall short even here.
"""

from __future__ import annotations

import statistics
import subprocess
import sys

ROUNDS = 4000
_WORK = """
import sys, time, zlib
block = bytes(range(256)) * 128
zlib.compress(block, 6)
print("ready", flush=True)
sys.stdin.readline()
start = time.perf_counter()
for _ in range(int(sys.argv[1])):
    zlib.compress(block, 6)
print(time.perf_counter() - start, flush=True)
"""


def spin(workers: int, rounds: int = ROUNDS) -> float:
    """Return the mean wall seconds of processes that do the same work at the same time.

    Args:
        workers: Number of processes.
        rounds: Blocks that each compresses.
    """
    command = [sys.executable, "-c", _WORK, str(rounds)]
    processes = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)  # noqa: S603 (fixed)
        for _ in range(workers)
    ]
    try:
        for process in processes:
            process.stdout.readline()  # type: ignore[union-attr]  # a pipe was asked for
        for process in processes:
            process.stdin.write("go\n")  # type: ignore[union-attr]
            process.stdin.flush()  # type: ignore[union-attr]
        return statistics.mean(float(process.stdout.readline()) for process in processes)  # type: ignore[union-attr]
    finally:
        for process in processes:
            process.kill()
            process.communicate()
