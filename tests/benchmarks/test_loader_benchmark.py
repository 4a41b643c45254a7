"""`python -m benchmarks.loader`, `.workers` and `.at_scale` with tiny volumes: what they compare, print and keep."""

from __future__ import annotations

import csv
import importlib.util
import json
import multiprocessing
import time
from pathlib import Path

import pytest

pytest.importorskip("monai")

from benchmarks import at_scale, loader, side_by_side, workers
from benchmarks.tables import append_csv
from ct_vlm.errors import DatasetError


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_loaders_give_the_same_voxels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "rows.csv"
    arguments = ["--volumes", "2", "--size", "16", "32", "32", "--workers", "0", "1", "--repeats", "1", "--no-progress"]
    assert loader.main([*arguments, "--csv", str(file)]) == 0
    found = rows(file)
    has_lmdb = importlib.util.find_spec("lmdb") is not None
    assert len(found) == 3 * 2 * 2 + 3 * (2 + has_lmdb)
    for row in found:
        assert float(row["difference"]) <= (0 if row["provider"].endswith("int16") else 1e-6)
        assert float(row["samples_a_second"]) > 0
        assert float(row["mib_a_sample"]) == 16 * 32 * 32 * (2 if row["provider"].startswith("ct_vlm") else 4) / 2**20
        assert (row["volumes"], row["size"]) == ("2", "16x32x32")
        (peer,) = (other for other in found if (other["provider"], other["workers"]) == (loader.PEER, row["workers"]))
        assert float(row["wall_ratio"]) == pytest.approx(float(peer["wall_ms"]) / float(row["wall_ms"]))
    printed = capsys.readouterr().out
    assert all(row["provider"] in printed for row in found)


def test_a_difference_is_seen() -> None:
    import torch

    hu = torch.zeros(1, 9, 2, 2, dtype=torch.int16)
    off = loader.Provider("off", 0, [{"image": hu[None] + 3}], lambda batch: batch["image"], windowed=False)
    loader.compare(off, [hu])
    assert off.difference == 3
    windowed = torch.full((1, 1, 9, 2, 2), 0.5)
    windowed[:, :, loader.COMPARED] = 0.75
    off = loader.Provider("off", 0, [{"image": windowed}], lambda batch: batch["image"], windowed=True)
    loader.compare(off, [hu])
    assert off.difference == 0.25


def spin(started: object) -> None:
    started.set()
    end = time.process_time() + 0.2
    while time.process_time() < end:
        pass
    time.sleep(60)


def test_time_of_children_counts() -> None:
    before = loader.cpu_seconds()
    started = multiprocessing.get_context("fork").Event()
    child = multiprocessing.get_context("fork").Process(target=spin, args=(started,), daemon=True)
    child.start()
    started.wait(20)
    own = time.process_time()
    end = time.monotonic() + 20
    while loader.cpu_seconds() - before < 0.15 + (time.process_time() - own) and time.monotonic() < end:
        time.sleep(0.02)
    found = loader.cpu_seconds() - before - (time.process_time() - own)
    child.kill()
    child.join()
    assert found >= 0.15


def test_scaling_is_printed_and_kept(tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def fake(files, count, preset, *, hu_source, cache_dir):
        calls.append(count)
        assert len(set(files)) == 3
        assert all(Path(file).is_file() for file in files)
        return workers.WorkerTiming(count, 3, 3.0 / count * (1 if count == 1 else 1.25), 3.3, 300, 30)

    monkeypatch.setattr(workers, "time_workers", fake)
    monkeypatch.setattr(workers, "spin", lambda count: {1: 1.0, 2: 1.25}[count])
    file = tmp_path / "rows.csv"
    size = ["--source", "8", "16", "16", "--target", "4", "8", "8"]
    assert workers.main(["--volumes", "3", *size, "--repeats", "2", "--csv", str(file), "--no-progress"]) == 0
    assert calls == [1, 2, 1, 2]
    found = [(row["workers"], float(row["efficiency"]), float(row["machine"])) for row in rows(file)]
    assert found == [("1", 1.0, 1.0), ("2", 0.8, 0.8)]
    assert "0.800" in capsys.readouterr().out


def test_processes_compute_side_by_side() -> None:
    assert side_by_side.spin(1, rounds=1) > 0
    assert side_by_side.spin(2, rounds=1) > 0


def test_rows_of_another_kind_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    append_csv(file, [{"a": 1}])
    append_csv(file, [{"a": 2}])
    assert rows(file) == [{"a": "1"}, {"a": "2"}]
    with pytest.raises(DatasetError, match="has other columns: a"):
        append_csv(file, [{"b": 1}])


MEASURED = {
    "environment": {"processor": "a processor", "date": "2026-01-02T03:04:05+00:00", "load": 0.5},
    "source": [300, 512, 512],
    "repeats": 3,
    "decode_seconds": 0.25,
    "scaling": {"workers": 2, "efficiency": 0.75, "machine": 0.8},
    "presets": {
        "uvlm": {"cpu_seconds": 1.0, "grid_seconds": 0.625, "source_bytes": 60_000_000, "entry_bytes": 10_000_000}
    },
}


def test_the_table_is_arithmetic() -> None:
    (line,) = at_scale.table(MEASURED)[2:]
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    hours = 50_188 / 16 / 0.75 / 3600
    expected = [f"{hours / count:.2g}" for count in (1, 8, 64)]
    stages = ["0.25", "0.38", "0.38"]
    assert cells == ["`uvlm`", "1.00", *stages, *expected, "3.01", "0.50", f"{60e6 * 16 * 0.75 * 64 / 1e9:.1f}"]
    assert "75% of the ideal speed-up by 2 processes" in at_scale.note(MEASURED)
    assert "share nothing reach 80%" in at_scale.note(MEASURED)


def test_measures_presets_and_writes_the_page(tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def fake(files, counts, preset, repeats, folder):
        asked.append((len(files), counts, preset.size))
        return [{"efficiency": 1.0, "machine": 1.0}, {"efficiency": 0.9, "machine": 0.97}]

    monkeypatch.setattr(at_scale, "measure_workers", fake)
    page, numbers = tmp_path / "page.md", tmp_path / "numbers.json"
    page.write_text(f"before\n\n{at_scale.BEGIN}\nold\n{at_scale.END}\n\nafter\n")
    files = ["--page", str(page), "--measured", str(numbers)]
    small = ["--source", "30", "32", "32", "--repeats", "1", "--files", "2", "--no-progress"]
    arguments = ["--measure", "--presets", "phantom", *small]
    assert at_scale.main([*arguments, *files]) == 0
    measured = json.loads(numbers.read_text())
    assert asked == [(2, (1, 2), (24, 30, 30))]
    assert measured["scaling"] == {"workers": 2, "efficiency": 0.9, "machine": 0.97}
    row = measured["presets"]["phantom"]
    assert row["cpu_seconds"] > 0
    assert row["grid_seconds"] > 0
    assert row["entry_bytes"] > 0
    text = page.read_text()
    assert text.startswith("before")
    assert text.endswith("after\n")
    assert "old" not in text
    assert at_scale.main(files) == 0
    assert page.read_text() == text
    assert "| `phantom` |" in capsys.readouterr().out


def test_the_documentation_shows_the_kept_numbers() -> None:
    from ct_vlm.transforms.preset_data import PRESET_SETTINGS

    measured = json.loads(at_scale.MEASURED.read_text(encoding="utf-8"))
    block = at_scale.PAGE.read_text(encoding="utf-8").partition(at_scale.BEGIN)[2].partition(at_scale.END)[0]
    assert block.strip().splitlines() == [*at_scale.table(measured), "", at_scale.note(measured)]
    assert list(measured["presets"]) == [settings["name"] for settings in PRESET_SETTINGS]
