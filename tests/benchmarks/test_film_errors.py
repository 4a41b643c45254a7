"""The table of films is printed, and the lossless ones cost what 8 bits cost."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import film_errors

pytest.importorskip("av", reason="films need PyAV")


def test_every_way_has_a_line_and_lossless_ones_equal_memory(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hu = np.random.default_rng(0).integers(-1100, 300, (3, 32, 48), dtype=np.int16)
    monkeypatch.setattr(film_errors, "_volume", lambda path, slices: hu)
    assert film_errors.main([]) == 0
    rows = {line[:30].strip(): line[30:].split() for line in capsys.readouterr().out.splitlines()[2:]}
    assert list(rows) == ["8 bits in memory", *film_errors.FILMS]
    memory = rows["8 bits in memory"][:4]
    for lossless in ("libx264 crf 0", "libx265 crf 0", "libx264rgb crf 0", "ffv1"):
        assert rows[lossless][:4] == memory
    assert float(rows["libx264 crf 23"][3]) > float(rows["libx264 crf 18"][3]) > float(memory[3])


def test_middle_slices_of_a_scan_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    class Scan:
        array = np.arange(10, dtype=np.int16)[:, None, None]

    monkeypatch.setattr(film_errors, "load_on_grid", lambda path, preset: Scan)
    assert film_errors._volume("scan.nii.gz", 4).ravel().tolist() == [3, 4, 5, 6]
    assert len(film_errors._volume("scan.nii.gz", 40)) == 10
