"""Files and folders made to crash, hang or mislead a reader are findings."""

from __future__ import annotations

import gzip
import os
import sys
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from ct_vlm.datasets.audit import audit, voxels
from ct_vlm.datasets.audit.collector import Collector
from ct_vlm.datasets.audit.headers import HeaderFacts, HeaderProblem, read_header
from ct_vlm.datasets.audit.tree import walk

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ct_vlm.datasets.audit import AuditReport

A = "train_2_a_1"


def run(tree: Any, **options: Any) -> AuditReport:
    return audit(tree.root, workers=0, progress=False, **options)


def codes(report: AuditReport) -> set[str]:
    return {finding.code for finding in report.findings}


@pytest.mark.parametrize(
    ("dims", "code"),
    [
        ([3, 32767, 32767, 32767, 1, 1, 1, 1], "header.hostile_size"),
        ([7, 32767, 32767, 32767, 32767, 32767, 32767, 32767], "header.hostile_size"),
        ([3, -1, 512, 512, 1, 1, 1, 1], "header.bad_dimensions"),
        ([3, 512, 0, 512, 1, 1, 1, 1], "header.bad_dimensions"),
        ([1, 512, 1, 1, 1, 1, 1, 1], "header.bad_dimensions"),
        ([0, 1, 1, 1, 1, 1, 1, 1], "header.bad_dimensions"),
        ([-32768, 1, 1, 1, 1, 1, 1, 1], "header.bad_dimensions"),
        ([12, 4, 4, 4, 1, 1, 1, 1], "header.bad_dimensions"),
        ([3, 512, 512, 300, 1, 1, 1, 1], "header.hostile_size"),
        ([3, 64, 64, 20, 1, 1, 1, 1], "header.hostile_size"),
        ([3, 20, 20, 20, 1, 1, 1, 1], "header.truncated"),
    ],
)
def test_claims_that_cannot_be_are_found_and_never_decoded(
    ct_rate: Any, hostile_header: Callable[..., bytes], dims: list[int], code: str
) -> None:
    ct_rate.volume(A).write_bytes(hostile_header(dims))
    assert code in codes(run(ct_rate))


def test_a_gzip_bomb_is_decoded_no_further_than_its_header_asks(
    ct_rate: Any, hostile_header: Callable[..., bytes]
) -> None:
    ct_rate.volume(A).write_bytes(hostile_header([3, 20, 18, 16, 1, 1, 1, 1], body=bytes(30_000_000)))
    assert "header.truncated" in codes(run(ct_rate))
    damaged = [found for found in run(ct_rate, deep=True).findings if found.code == "voxels.damaged"]
    assert "goes on behind" in damaged[0].detail


def test_a_file_of_several_gzip_streams_is_cleared_by_decoding(ct_rate: Any) -> None:
    content = ct_rate.content(ct_rate.volume(A))
    ct_rate.volume(A).write_bytes(gzip.compress(content[:5000]) + gzip.compress(content[5000:]))
    assert codes(run(ct_rate)) == {"header.truncated"}
    assert run(ct_rate, deep=True).findings == []


def test_blocked_gzip_is_not_taken_for_truncated(ct_rate: Any) -> None:
    def block(data: bytes) -> bytes:
        packer = zlib.compressobj(1, zlib.DEFLATED, -15)
        packed = packer.compress(data) + packer.flush()
        size = (len(packed) + 25).to_bytes(2, "little")
        end = zlib.crc32(data).to_bytes(4, "little") + len(data).to_bytes(4, "little")
        return b"\x1f\x8b\x08\x04\0\0\0\0\0\xff\x06\0BC\x02\0" + size + packed + end

    content = ct_rate.content(ct_rate.volume(A))
    ct_rate.volume(A).write_bytes(block(content[:6000]) + block(content[6000:]) + block(b""))
    assert run(ct_rate, deep=True).findings == []


@pytest.mark.parametrize("cut", [1, 2, 9, 17, 60, 200, 400, 1000, -1, -4, -9])
def test_a_file_cut_anywhere_is_found_without_decoding(ct_rate: Any, cut: int) -> None:
    ct_rate.volume(A).write_bytes(ct_rate.volume(A).read_bytes()[:cut])
    errors = {finding.code for finding in run(ct_rate).findings if finding.severity == "error"}
    assert errors & {"header.truncated", "header.not_nifti", "header.damaged_gzip", "header.hostile_size"}


def test_random_headers_never_raise(tmp_path: Path, hostile_header: Callable[..., bytes]) -> None:
    rng = np.random.default_rng(0)
    sound = bytearray(gzip.decompress(hostile_header([3, 4, 4, 4, 1, 1, 1, 1], body=bytes(128))))
    file = tmp_path / "volume.nii.gz"
    kinds = set()
    for _ in range(300):
        content = bytearray(sound)
        for position in rng.integers(0, 352, rng.integers(1, 40)):
            content[position] = rng.integers(256)
        file.write_bytes(gzip.compress(bytes(content), 1) if rng.random() < 0.5 else bytes(content))
        kinds.add(type(read_header(file)))
    assert kinds == {HeaderFacts, HeaderProblem}


def test_mutated_volumes_are_audited_to_the_end(ct_rate: Any) -> None:
    rng = np.random.default_rng(1)
    sound = bytearray(ct_rate.content(ct_rate.volume(A)))
    for number in range(100, 160):
        content = bytearray(sound)
        for position in rng.integers(0, 348, 12):
            content[position] = rng.integers(256)
        path = ct_rate.volume(f"train_{number}_a_1")
        path.parent.mkdir(parents=True)
        path.write_bytes(gzip.compress(bytes(content), 1))
    report = run(ct_rate, deep=True)
    assert report.headers == 68
    assert report.has_errors


def test_big_endian_and_nifti2_headers_are_read(tmp_path: Path) -> None:
    import nibabel as nib

    array = np.zeros((4, 5, 6), np.int16)
    for header in (nib.Nifti1Header(endianness=">"), nib.Nifti2Header()):
        header.set_data_dtype(np.int16)
        image = (nib.Nifti1Image if header.sizeof_hdr == 348 else nib.Nifti2Image)(array, np.diag([2, 3, 4, 1]), header)
        nib.save(image, tmp_path / "volume.nii.gz")
        facts = read_header(tmp_path / "volume.nii.gz")
        assert isinstance(facts, HeaderFacts)
        assert (facts.dims, facts.dtype, facts.length) == ((4, 5, 6), "int16", facts.expected_bytes)
        assert facts.affine == ((2, 0, 0, 0), (0, 3, 0, 0), (0, 0, 4, 0))


def test_a_long_gzip_header_does_not_hide_the_volume(ct_rate: Any) -> None:
    packed = ct_rate.volume(A).read_bytes()
    named = packed[:3] + b"\x08" + packed[4:10] + b"n" * 9000 + b"\0" + packed[10:]
    ct_rate.volume(A).write_bytes(named)
    assert run(ct_rate, deep=True).findings == []


def test_a_pipe_or_folder_in_place_of_a_file_is_not_waited_for(ct_rate: Any) -> None:
    ct_rate.volume(A).unlink()
    os.mkfifo(ct_rate.volume(A))
    assert "tree.special_file" in codes(run(ct_rate, deep=True))


def test_links_to_folders_are_followed_once_and_never_upwards(ct_rate: Any, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere"
    ct_rate.volume(A).parent.parent.rename(moved)
    (ct_rate.base / "train_fixed/train_2").symlink_to(moved)
    assert run(ct_rate).findings == []
    (moved / "up").symlink_to(ct_rate.base)
    (moved / "self").symlink_to("self")
    (moved / "again").symlink_to(moved)
    found = [finding.file for finding in run(ct_rate).findings if finding.code == "tree.symlink_loop"]
    assert len(found) == 3


@pytest.mark.parametrize("place", ["train_fixed/train_2/train_2_a", "metadata"])
def test_a_folder_that_cannot_be_listed_is_an_error(ct_rate: Any, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    closed = str(ct_rate.base / place)
    scandir = os.scandir

    def refuse(path: Any = ".") -> Any:
        if str(path) == closed:
            raise PermissionError(13, "Permission denied", closed)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    found = {finding.code: finding for finding in run(ct_rate).findings}
    assert found["tree.unreadable_folder"].detail == "Permission denied"
    assert found["tree.unreadable_folder"].severity == "error"


def test_a_file_that_cannot_be_opened_is_an_error(ct_rate: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = str(ct_rate.volume(A))
    opened = os.open

    def refuse(path: Any, *rest: Any, **options: Any) -> int:
        if str(path) == closed:
            raise PermissionError(13, "Permission denied", closed)
        return opened(path, *rest, **options)

    monkeypatch.setattr(os, "open", refuse)
    (finding,) = run(ct_rate).findings
    assert (finding.code, finding.severity) == ("header.unreadable_file", "error")


def test_volumes_beyond_memory_are_not_decoded(ct_rate: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(voxels, "MAX_BYTES", 1000)
    report = run(ct_rate, deep=True)
    assert [finding.code for finding in report.findings] == ["voxels.skipped"] * 8
    assert {finding.severity for finding in report.findings} == {"warning"}


def test_files_that_kill_their_process_are_errors(ct_rate: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def die(function: Any, items: list[Any], workers: Any, advance: Any, died: Any) -> Any:
        return [(item, died(item) if A in item.path else function(item)) for item in items]

    monkeypatch.setattr(sys.modules["ct_vlm.datasets.audit.run"], "in_processes", die)
    found = [(finding.code, finding.severity) for finding in run(ct_rate, deep=True).findings]
    assert found == [("voxels.worker_died", "error")] * 2


def test_names_that_are_no_text_can_be_reported(ct_rate: Any, tmp_path: Path) -> None:
    strange = os.path.join(os.fsencode(ct_rate.volume(A).parent), b"\xff\x1b[31m.nii.gz")  # noqa: PTH118
    with open(strange, "wb") as stream:  # noqa: PTH123
        stream.write(b"x")
    report = run(ct_rate)
    report.save_json(tmp_path / "report.json")
    report.save_html(tmp_path / "report.html")
    assert [finding.file.rpartition("/")[2] for finding in report.findings] == ["\\udcff\\x1b[31m.nii.gz"]


def test_a_cell_beyond_the_limit_ends_the_table_and_not_the_audit(ct_rate: Any) -> None:
    ct_rate.set_cell(ct_rate.reports(), 3, "Findings_EN", "x" * 200_000)
    assert {"table.unreadable", "table.file_without_row"} <= codes(run(ct_rate))


def test_walk_lists_files_with_their_folders(tmp_path: Path) -> None:
    (tmp_path / "b/c").mkdir(parents=True)
    for name in ("b/c/two", "b/one", "zero"):
        (tmp_path / name).touch()
    collector = Collector(tmp_path)
    listed = [(entry.name, entry.folders) for entry in walk(tmp_path, collector)]
    assert listed == [("zero", ()), ("one", ("b",)), ("two", ("b", "c"))]
    assert collector.findings == []
