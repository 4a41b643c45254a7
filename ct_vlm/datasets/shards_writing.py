"""Writing a data set as shards: independent groups of volumes, each finished or not there."""

from __future__ import annotations

import hashlib
import json
import math
import tempfile
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ct_vlm.cache.codecs import check_codec
from ct_vlm.datasets.preprocessing.outcome import Outcome
from ct_vlm.datasets.preprocessing.progress import Display
from ct_vlm.datasets.preprocessing.shards import Shard
from ct_vlm.datasets.preprocessing.worker import limit_threads
from ct_vlm.datasets.shards_format import FORMAT, pack_item
from ct_vlm.datasets.shards_library import INDEX, SAMPLES, litdata
from ct_vlm.datasets.volumes import PREPROCESSING, identity, preprocessed
from ct_vlm.errors import ConfigError, DatasetError, VolumeError
from ct_vlm.files import write_json

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ct_vlm.datasets.ct_rate import CTRateDataset

PARTS = ".parts"
"""Folder of notes on finished groups; not needed for reading."""
_SETTINGS = "settings.json"
_LARGEST_FILE = 2**32 - 1  # places in a file are 32-bit numbers


@dataclass
class ShardResult:
    """What :func:`write_shards` did.

    Args:
        folder: Where the shards are.
        volumes: Volumes in them.
        written: Those written by this run.
        failures: Volume to what is wrong with it; these were left out.
        complete: Whether all groups are there, and thus the index; other tasks of a job array may be at work.

    Example:
        >>> from pathlib import Path
        >>> from ct_vlm.datasets import ShardResult
        >>> print(ShardResult(Path("out"), volumes=8, written=2, complete=True))
        8 volumes, 2 of them written now, 0 left out
    """

    folder: Path
    volumes: int = 0
    written: int = 0
    failures: dict[str, str] = field(default_factory=dict)
    complete: bool = False

    def __str__(self) -> str:
        """Return counts, and one line a failure."""
        head = f"{self.volumes} volumes, {self.written} of them written now, {len(self.failures)} left out"
        more = "" if self.complete else "; groups of other tasks are missing, so there is no index yet"
        return "\n".join([head + more, *(f"  {name}: {message}" for name, message in self.failures.items())])


@dataclass(frozen=True)
class _Job:
    """What all groups of a run have in common."""

    dataset: CTRateDataset
    folder: Path
    size: int
    codec: str

    def positions(self, group: int) -> range:
        """Return the samples of a group."""
        return range(group * self.size, min((group + 1) * self.size, len(self.dataset)))

    def note(self, group: int) -> Path:
        """Return where it is noted that a group is finished."""
        return self.folder / PARTS / f"{group}.json"

    def key(self, group: int) -> str:
        """Return a digest of what is known of the group's volumes without opening them."""
        samples = [self.dataset.sample(position) for position in self.positions(group)]
        rows = [[s.report, s.labels, {name: str(value) for name, value in s.extras.items()}] for s in samples]
        return hashlib.sha256(json.dumps(rows).encode()).hexdigest()

    def sources(self, group: int) -> list[dict[str, Any] | None]:
        """Return the identities of the group's files, ``None`` for one that cannot be read."""
        return [_source(self.dataset.sample(position)) for position in self.positions(group)]


def write_shards(
    dataset: CTRateDataset,
    folder: str | Path,
    *,
    volumes_per_file: int = 2,
    codec: str = "zstd",
    workers: int = 0,
    shard: Shard | None = None,
    progress: bool = True,
) -> ShardResult:
    """Write every reconstruction of a data set, preprocessed, into files that can be read from an object store.

    Volumes come from the data set's cache where they are there (fill it with all cores first:
    ``ct-vlm preprocess``), and are made otherwise. A run that was interrupted goes on where it stopped, and a volume
    that changed is written again. A bad file is left out and named. Augmentation is not applied.

    Args:
        dataset: Its preset decides the voxels; text and labels are written as it gives them.
        folder: Empty, or of an earlier run with the same settings.
        volumes_per_file: Files of 50 to 100 MB suit object stores: 2 at 240 x 480 x 480.
        codec: As in :class:`ct_vlm.cache.ArrayCache`.
        workers: Processes; 0 works in this one.
        shard: Write only this part; the task that comes last writes the index.
        progress: Show a bar on a terminal, or a line every 30 seconds elsewhere.

    Raises:
        MissingDependencyError: If litdata is not installed.
        ConfigError: If an argument is out of range.
        DatasetError: If the folder holds other files, or no volume could be read.
    """
    litdata()
    check_codec(codec)
    if volumes_per_file < 1 or workers < 0:
        cause = f"Expected at least 1 volume a file and 0 workers, but got {volumes_per_file} and {workers}."
        raise ConfigError(cause, "Use e.g. `volumes_per_file=2` and `workers=4`.")
    whole = dataset.subset(dataset.patient_ids(), recon_policy="all", augment=None)
    job = _Job(whole, Path(folder), volumes_per_file, codec)
    _claim_folder(job)
    shard = shard or Shard()
    groups = range(math.ceil(len(whole) / volumes_per_file))
    mine = [group for group in groups if group % shard.count == shard.number - 1]
    result = ShardResult(job.folder)
    with Display(sum(len(job.positions(group)) for group in mine), "Writing shards", enabled=progress) as display:
        todo = []
        for group in mine:
            if _finished(job, group) is None:
                todo.append(group)
            else:
                display.skip(len(job.positions(group)))
        for note in _write_all(job, todo, workers):
            result.written += len(note["samples"])
            for row in note["samples"]:
                display.add(Outcome(row["name"][0], "made", source_bytes=row["bytes"]))
            for name in note["failures"]:
                display.add(Outcome(name, "failed"))
    _finish(job, groups, result)
    return result


def _claim_folder(job: _Job) -> None:
    """Note the settings in an empty folder, or compare them with those of the earlier run.

    Raises:
        DatasetError: If the folder is not ours, or of other settings.
    """
    settings = {
        "format": FORMAT,
        "preprocessing": PREPROCESSING,
        "preset": job.dataset.preset.to_config(),
        "hu_source": job.dataset.hu_source,
        "codec": job.codec,
        "volumes_per_file": job.size,
        "has_labels": job.dataset.has_labels,
        "volumes": hashlib.sha256(
            json.dumps([sample.name.volume_id for sample in job.dataset.samples]).encode()
        ).hexdigest(),
    }
    path = job.folder / PARTS / _SETTINGS
    if path.is_file():
        before = json.loads(path.read_text(encoding="utf-8"))
        changed = sorted(name for name in settings.keys() | before.keys() if settings.get(name) != before.get(name))
        if changed:
            cause = f"`{job.folder}` holds shards of another run; what differs: {', '.join(changed)}."
            raise DatasetError(cause, "Use the same data and settings, or an empty folder.")
        return
    if job.folder.is_dir() and any(path.name != PARTS for path in job.folder.iterdir()):
        cause = f"`{job.folder}` is not empty and holds no shards of an earlier run."
        raise DatasetError(cause, "Choose an empty folder; nothing is ever written over.")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, settings)


def _write_all(job: _Job, groups: list[int], workers: int) -> Iterator[dict[str, Any]]:
    """Write groups, here or in processes, and yield their notes as they finish."""
    if workers == 0 or len(groups) < 2:
        for group in groups:
            yield _write_group(job, group)
        return
    with ProcessPoolExecutor(min(workers, len(groups)), get_context("spawn"), _start_worker, (job,)) as pool:
        # a few at a time: what fails ends the run soon
        running = {pool.submit(_write_in_worker, group) for group in groups[: 2 * workers]}
        rest = iter(groups[2 * workers :])
        while running:
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                yield _result(future)
                running |= {pool.submit(_write_in_worker, group) for group in [next(rest, None)] if group is not None}


def _result(future: Future[dict[str, Any]]) -> dict[str, Any]:
    """Return what a worker process returned.

    Raises:
        DatasetError: If it died.
    """
    try:
        return future.result()
    except BrokenProcessPool as error:
        cause = "A process that writes shards died, perhaps for want of memory."
        raise DatasetError(cause, "Run it again with fewer workers; finished files are kept.") from error


_JOB: list[_Job] = []


def _start_worker(job: _Job) -> None:
    """Keep the job in a worker process."""
    limit_threads()
    _JOB[:] = [job]


def _write_in_worker(group: int) -> dict[str, Any]:
    """Write one group in a worker process."""
    return _write_group(_JOB[0], group)


def _write_group(job: _Job, group: int) -> dict[str, Any]:
    """Write one file and the note that it is finished, and return the note."""
    sources = job.sources(group)
    items, rows, failures = [], [], {}
    for position in job.positions(group):
        sample = job.dataset.sample(position)
        try:
            arrays = preprocessed(sample, job.dataset.preset, job.dataset.hu_source, job.dataset.cache)
        except VolumeError as error:
            failures[sample.name.volume_id] = str(error)
            continue
        record = job.dataset.record(position)
        items.append(pack_item(record, arrays, job.codec))
        rows.append({"name": list(sample.name), "labels": _labels(sample.labels), "bytes": len(items[-1])})
    note: dict[str, Any] = {
        "key": job.key(group),
        "sources": sources,
        "samples": rows,
        "failures": failures,
        "index": None,
    }
    if items:
        note["index"] = _write_file(job, group, items)
    write_json(job.note(group), note)
    return note


def _write_file(job: _Job, group: int, items: list[bytes]) -> dict[str, Any]:
    """Write items to a file by litdata, put it in its place, and return litdata's index of it.

    Raises:
        ConfigError: If the file would be too large.
    """
    if sum(map(len, items)) > _LARGEST_FILE // 2:
        cause = f"{len(items)} volumes make a file of {sum(map(len, items)) / 1e9:.1f} GB."
        raise ConfigError(cause, "Use fewer `volumes_per_file`.")
    with tempfile.TemporaryDirectory(dir=job.folder / PARTS, prefix="tmp-") as temporary:
        writer = litdata().writer(temporary, chunk_size=len(items), chunk_index=group)
        for number, item in enumerate(items):
            writer[number] = item
        (made,) = writer.done()
        (note,) = Path(temporary).glob(f"*.{INDEX}")
        index: dict[str, Any] = json.loads(note.read_text(encoding="utf-8"))
        index["config"]["chunk_size"] = job.size
        (chunk,) = index["chunks"]
        chunk["filename"] = f"chunk-0-{group}.bin"
        Path(made).replace(job.folder / chunk["filename"])
    return index


def _finished(job: _Job, group: int) -> dict[str, Any] | None:
    """Return the note of a group that is finished and up to date."""
    try:
        note: dict[str, Any] = json.loads(job.note(group).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    # a volume that is written needs no file any more
    pairs = zip(job.sources(group), note["sources"], strict=True)
    if note["key"] != job.key(group) or any(now not in (None, before) for now, before in pairs):
        return None
    for chunk in (note["index"] or {"chunks": []})["chunks"]:
        path = job.folder / chunk["filename"]
        if not path.is_file() or path.stat().st_size != chunk["chunk_bytes"]:
            return None
    return note


def _finish(job: _Job, groups: range, result: ShardResult) -> None:
    """Write the list of samples and the index once all groups are there, and count.

    Raises:
        DatasetError: If there is no volume at all.
    """
    notes = [_finished(job, group) for group in groups]
    there = [note for note in notes if note is not None]
    result.volumes = sum(len(note["samples"]) for note in there)
    for note in there:
        result.failures |= note["failures"]
    if len(there) < len(notes):
        return
    indexes = [note["index"] for note in there if note["index"] is not None]
    if not indexes:
        cause = (
            f"No volume of {len(job.dataset)} could be read; {next(iter(result.failures.items()), 'there are none')}"
        )
        raise DatasetError(cause, "Look at the files with `ct-vlm audit`.")
    rows = [{name: row[name] for name in ("name", "labels")} for note in there for row in note["samples"]]
    meta = {
        "format": FORMAT,
        "preset": job.dataset.preset.to_config(),
        "has_labels": job.dataset.has_labels,
        "samples": rows,
    }
    # the index comes last: a folder that has one is complete
    write_json(job.folder / SAMPLES, meta)
    chunks = [chunk for index in indexes for chunk in index["chunks"]]
    digest = hashlib.sha256(json.dumps([note["key"] for note in there]).encode()).hexdigest()[:16]
    write_json(job.folder / INDEX, {"chunks": chunks, "config": indexes[0]["config"], "updated_at": digest})
    result.complete = True


def _source(sample: Any) -> Any:
    """Return the identity of a sample's file, ``None`` if it cannot be read."""
    try:
        return identity(sample.path)
    except VolumeError:
        return None


def _labels(labels: tuple[float, ...] | None) -> list[float | None] | None:
    """Return labels as JSON knows them."""
    return None if labels is None else [None if math.isnan(value) else value for value in labels]
