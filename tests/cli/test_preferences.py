"""`ct-vlm preferences`: pairs of both layouts, and messages."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest

from ct_vlm.cli import main
from ct_vlm.datasets.preferences import read_preferences
from ct_vlm.datasets.steering import AbnormalityBuilder, read_scans
from ct_vlm.phantoms import write_radgenome
from ct_vlm.text import STEERING_PROMPT, read_cot, render_cot

if TYPE_CHECKING:
    from pathlib import Path

    Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def radgenome(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Phantoms in RadGenome-ChestCT's layout; their volumes are removed, since lists need none."""
    folder = tmp_path_factory.mktemp("radgenome")
    write_radgenome(folder, 8, shape=(12, 16, 16), workers=0, progress=False)
    for path in folder.rglob("*.nii.gz"):
        path.unlink()
    return folder


def pairs_of(root: Path, out: Path, *options: str) -> list:
    assert main(["preferences", "--root", str(root), "--out", str(out), "--no-progress", *options]) == 0
    return read_preferences(out)


def test_pairs_of_a_radgenome_tree(radgenome: Path, tmp_path: Path, capsys: Capture) -> None:
    pairs = pairs_of(radgenome, tmp_path / "pairs.jsonl", "--show", "2")
    said = capsys.readouterr().out
    scans = {scan.id: scan for scan in read_scans(radgenome)}
    assert f"{len(pairs)} pairs of {len(scans)} volumes" in said
    assert pairs[0].changes[0].region in said
    assert "0 abnormal sentences are in no list" in said
    for pair in pairs:
        assert pair.prompt == STEERING_PROMPT
        assert render_cot(scans[pair.id].abnormalities, scans[pair.id].report).startswith(pair.chosen)
        assert pair.chosen.endswith(")\n\nReport:\n")
        assert pair.rejected.endswith(")\n\nReport:\n")
        assert read_cot(pair.chosen).abnormalities == scans[pair.id].abnormalities
        wrong = read_cot(pair.rejected).abnormalities
        assert [region for region, _ in wrong] == [region for region, _ in scans[pair.id].abnormalities]
    # only volumes without a change have no pair
    assert {pair.id for pair in pairs} == {scan.id for scan in scans.values() if scan.abnormalities}


def test_pairs_of_a_ct_rate_tree(tree: Path, tmp_path: Path) -> None:
    scans = read_scans(tree, "train")
    assert all(scan.labels or not scan.abnormalities for scan in scans)
    options = ("--strategy", "random", "--max-changes", "1", "--insert", "--form", "plain", "--answer", "full")
    out = tmp_path / "new" / "pairs.jsonl"
    pairs = pairs_of(tree, out, *options, "--prompt", "Go.", "--layout", "ct_rate")
    assert [pair.id for pair in pairs] == [scan.id for scan in scans]
    for pair, scan in zip(pairs, scans, strict=True):
        assert len(pair.changes) == 1
        assert read_cot(pair.chosen).report == read_cot(pair.rejected).report == scan.report
    row = json.loads(out.read_text().splitlines()[0])
    assert row["prompt"] == "Go."


def test_lists_alone_and_sentences_in_no_list(radgenome: Path, tmp_path: Path, capsys: Capture) -> None:
    root = tmp_path / "tree"
    shutil.copytree(radgenome, root)
    path = next(root.rglob("train_region_report.csv"))
    with path.open("a", encoding="utf-8") as file:
        file.write("train_999_a_1.nii.gz,lung,A nodule is seen.\ntrain_999_a_1.nii.gz,others,A cyst. A clip.\n")
    pairs = pairs_of(root, tmp_path / "pairs.jsonl", "--answer", "list")
    assert "2 abnormal sentences are in no list" in capsys.readouterr().out
    assert all(pair.chosen.endswith(".)") for pair in pairs)
    assert {scan.id: scan.unplaced for scan in read_scans(root)}["train_999_a_1"] == ("A cyst.", "A clip.")


def test_the_same_command_writes_the_same_pairs(radgenome: Path, tmp_path: Path) -> None:
    first, second = (pairs_of(radgenome, tmp_path / f"{name}.jsonl") for name in "ab")
    assert first == second
    assert pairs_of(radgenome, tmp_path / "c.jsonl", "--seed", "1") != first


def test_linked_sentences_give_the_lists_of_whole_reports(radgenome: Path) -> None:
    build = AbnormalityBuilder()
    for scan in read_scans(radgenome):
        assert set(build.from_report(scan.report)) == set(scan.abnormalities)


def test_messages(radgenome: Path, tmp_path: Path, capsys: Capture) -> None:
    out = str(tmp_path / "x.jsonl")
    assert main(["preferences", "--root", str(radgenome), "--out", str(tmp_path)]) == 2
    assert main(["preferences", "--root", str(tmp_path / "none"), "--out", out]) == 1
    assert "There is no folder" in capsys.readouterr().err
    assert main(["preferences", "--root", str(radgenome), "--out", out, "--strategy", "swap"]) == 2
    empty = tmp_path / "empty"
    shutil.copytree(radgenome, empty)
    next(empty.rglob("train_region_report.csv")).unlink()
    assert main(["preferences", "--root", str(empty), "--out", out, "--no-progress"]) == 1
    assert "No reports table" in capsys.readouterr().err
