"""Several real processes at one cache: both fill it, one is killed, one cleans up."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from ct_vlm.cache import ArrayCache, collect, verify

ROOT = Path(__file__).resolve().parents[2]
FILL = """
import sys, time, pathlib
import numpy as np
from ct_vlm.cache import ArrayCache
folder, name, codec = sys.argv[1:]
pathlib.Path(folder, name).touch()
while len(list(pathlib.Path(folder).glob("process-*"))) < 2:
    time.sleep(0.001)
cache = ArrayCache(pathlib.Path(folder, "cache"), codec)
made = 0
for round in range(3):
    for number in range(10):
        array = np.random.default_rng(number).integers(-99, 99, (10, 30, 40)).astype(np.int16)
        def make():
            global made
            made += 1
            return {"x": array, "n": np.array(number)}
        found = cache.get(f"p/{number}", {"n": number}, make)
        assert np.array_equal(found["x"], array) and found["n"] == number
        part = cache.read(f"p/{number}", {"n": number}, make, lambda arrays: arrays["x"][2:5, 1])
        assert np.array_equal(part, array[2:5, 1])
        if round == 1 and number % 2:  # what is being read may vanish and come again
            cache.path(f"p/{number}", {"n": number}).unlink(missing_ok=True)
sys.stdout.write(str(made))
"""
HANG = """
import sys, time
import numpy as np
from ct_vlm.cache import ArrayCache, writing
original = writing.encode
def slow(array, codec):
    if array.ndim == 1:
        sys.stdout.write("writing\\n")
        sys.stdout.flush()
        time.sleep(60)
    return original(array, codec)
writing.encode = slow
cache = ArrayCache(sys.argv[1], "uncompressed")
noise = np.random.default_rng(0).integers(-99, 99, (10, 30, 40)).astype(np.int16)
cache.get("p/a", {"n": 1}, lambda: {"x": noise, "last": np.arange(9)})
"""


def start(script: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("codec", ["uncompressed", pytest.param("zstd", marks=pytest.mark.slow)])
def test_two_processes_fill_one_cache(tmp_path: Path, codec: str) -> None:
    processes = [start(FILL, tmp_path, f"process-{number}", codec) for number in range(2)]
    made = 0
    for process in processes:
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        made += int(out)
    # at least once each, and again what was removed
    assert 15 <= made <= 80
    result = verify(tmp_path / "cache", progress=False)
    assert result.bad == {}
    assert result.checked == 10
    assert not list(tmp_path.rglob(".tmp-*"))


def test_a_writer_killed_in_the_middle_leaves_no_entry(tmp_path: Path) -> None:
    process = start(HANG, tmp_path)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "writing\n"
        (temporary,) = tmp_path.rglob(".tmp-*")
        assert temporary.stat().st_size > 0
        old = time.time() - 10 * 86_400
        os.utime(temporary, (old, old))
        assert collect(tmp_path, progress=False).removed == {}  # it looks old, but its writer lives
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    cache = ArrayCache(tmp_path)
    path = cache.path("p/a", {"n": 1})
    assert not cache.contains(path)
    assert temporary.exists()
    now = time.time()
    os.utime(temporary, (now, now))
    assert collect(tmp_path, progress=False).removed == {}  # nobody holds it, but it is new
    for skew in (-(10**6), 10**8):
        os.utime(temporary, (now + skew, now + skew))
        result = collect(tmp_path, progress=False, dry_run=True)
        assert result.removed == {str(temporary): "a killed writer left it"}
        assert temporary.exists()
    assert cache.get("p/a", {"n": 1}, lambda: {"x": np.array([2])})["x"].tolist() == [2]
    assert list(collect(tmp_path, progress=False).removed) == [str(temporary)]
    assert cache.load(path)["x"].tolist() == [2]
    assert not temporary.exists()
