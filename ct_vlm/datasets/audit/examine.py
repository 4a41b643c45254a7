"""Read the headers of many volumes and compare them with each other."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ct_vlm.datasets.audit.geometry_checks import LPS, check_geometry, common_axcodes
from ct_vlm.datasets.audit.header_checks import check_size, check_values
from ct_vlm.datasets.audit.headers import HeaderFacts, HeaderProblem, read_header
from ct_vlm.datasets.audit.layouts import PUBLISHED, bases, is_folder
from ct_vlm.datasets.audit.pool import in_threads, progress_bar
from ct_vlm.datasets.audit.report import Count
from ct_vlm.datasets.audit.tree import list_folder

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ct_vlm.datasets.audit.collector import Collector
    from ct_vlm.datasets.audit.context import AuditContext
    from ct_vlm.datasets.audit.volumes import VolumeFile

RAW_RELEASES = {"v1"}


def check_folders(context: AuditContext, names: set[str]) -> None:
    """Note folders of tables that cannot be listed: the tables in them would only seem to be missing."""
    for base in bases(context.root):
        for entry in list_folder(base, context.collector):
            if entry.name in names and is_folder(Path(entry.path)):
                list_folder(entry.path, context.collector)


def read_headers(context: AuditContext, paths: Sequence[str], label: str) -> Iterator[HeaderFacts | None]:
    """Yield the header of every file whose size makes sense, ``None`` for the others, and note what is wrong."""
    with progress_bar(label, len(paths), show=context.is_progress_shown) as advance:
        results = in_threads(read_header, paths, context.workers, advance)
        for path, result in zip(paths, results, strict=True):
            context.report.headers += 1
            if isinstance(result, HeaderProblem):
                context.collector.add(result.code, path, result.detail)
                yield None
                continue
            if result.is_gzip != path.endswith(".gz"):
                context.collector.add("header.wrong_suffix", path, "gzip" if result.is_gzip else "no gzip")
            problem = next(check_size(result), None)
            if problem is not None:
                context.collector.add(problem[0], path, problem[1])
            # the length that gzip notes is that of its last stream, so decoding has the last word
            is_doubtful = problem is not None and problem[0] == "header.truncated" and result.is_gzip
            if is_doubtful:
                context.doubtful.add(path)
            yield result if problem is None or is_doubtful or problem[0] == "header.trailing_data" else None


def examine_volumes(context: AuditContext, volumes: Sequence[VolumeFile]) -> dict[str, HeaderFacts]:
    """Check the headers of volumes; return those that can be decoded, by path."""
    sound: dict[str, HeaderFacts] = {}
    headers = list(read_headers(context, [volume.path for volume in volumes], "headers"))
    # the axes of RadGenome-ChestCT are on no record, so those of most of its volumes count
    preprocessed = (f for f, v in zip(headers, volumes, strict=True) if f is not None and v.release == "preprocessed")
    axcodes = common_axcodes(preprocessed)
    for volume, facts in zip(volumes, headers, strict=True):
        if facts is None:
            continue
        is_raw = volume.release in RAW_RELEASES
        geometry = () if is_raw else check_geometry(facts, LPS if volume.release == "v2" else axcodes)
        problems = [*check_values(facts, stores_hu=not is_raw), *geometry]
        for code, detail in problems:
            context.collector.add(code, volume.path, detail)
        if not any(code in {"header.bad_dtype", "header.bad_scl"} for code, _ in problems):
            sound[volume.path] = facts
    check_same_content(volumes, sound, context.collector)
    return sound


def check_same_content(volumes: Sequence[VolumeFile], headers: dict[str, HeaderFacts], collector: Collector) -> None:
    """Note volumes whose gzip checksum, decoded length and file size agree."""
    first: dict[tuple[int, int, int], VolumeFile] = {}
    for volume in volumes:
        facts = headers.get(volume.path)
        if facts is None or not facts.is_gzip or facts.is_blocked:
            continue
        other = first.setdefault((facts.crc, facts.length, facts.size), volume)
        if other is volume:
            continue
        if other.name == volume.name:
            fixed = volume if volume.release == "v2" else other
            collector.add("tree.raw_in_fixed", fixed.path)
        else:
            code = "header.same_content" if other.split == volume.split else "split.same_content"
            collector.add(code, volume.path, f"as {collector.relative(other.path)}")


def count_volumes(context: AuditContext, layout: str, volumes: Sequence[VolumeFile], releases: set[str]) -> None:
    """Compare the number of volumes, scans and patients with the published ones."""
    for split, published in PUBLISHED[layout].items():
        groups = {release: [v for v in volumes if (v.split, v.release) == (split, release)] for release in releases}
        present = {release: found for release, found in groups.items() if found}
        if not present:
            context.collector.add("tree.no_volumes", context.root, f"{layout}, {split}")
        for release, found in sorted(present.items()):
            numbers = {
                "volumes": len(found),
                "scans": len({volume.name.study_id for volume in found}),
                "patients": len({volume.name.patient_id for volume in found}),
            }
            for unit, expected, note in published:
                context.report.counts.append(Count(split, release, unit, numbers[unit], expected, note))
                _check_count(
                    context, f"{split} ({release}): {numbers[unit]:,} of {expected:,} {unit}", numbers[unit] - expected
                )


def check_patients(patients: dict[str, set[str]], collector: Collector) -> None:
    """Note patients that both splits name, in folders or tables."""
    for patient in sorted(patients["train"] & patients["valid"]):
        collector.add("split.patient_in_both", collector.root, patient)


def _check_count(context: AuditContext, text: str, surplus: int) -> None:
    """Note a number that is not the published one; fewer are expected of a subset."""
    if surplus > 0:
        context.collector.add("count.more_than_published", context.root, text)
    elif surplus < 0 and context.collector.expect == "full":
        context.collector.add("count.fewer_than_published", context.root, text)
