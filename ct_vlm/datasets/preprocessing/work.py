"""The work on one volume: the same function in this process, in worker processes and on a cluster."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ct_vlm.datasets.preprocessing.outcome import Failure, Outcome
from ct_vlm.datasets.volumes import cache_key, entry_name, preprocessed
from ct_vlm.errors import CTVLMError, VolumeError

if TYPE_CHECKING:
    from pathlib import Path

    from ct_vlm.cache import ArrayCache
    from ct_vlm.datasets.preprocessing.outcome import State
    from ct_vlm.datasets.radgenome.mask_cache import MaskCache
    from ct_vlm.datasets.sample import Sample
    from ct_vlm.transforms import CTPreset

CACHE_ERROR = "CacheWriteError"
"""Error name of a failure that is the cache's fault: every other volume would meet it too."""


WORKER_DIED, TIMED_OUT = "WorkerDied", "TimedOut"


@dataclass(frozen=True)
class Setup:
    """What all volumes of a run have in common.

    Args:
        preset: Preprocessing.
        hu_source: HU rule.
        cache: Where entries go.
        masks: What makes the masks of regions, for data sets that have them.
    """

    preset: CTPreset
    hu_source: str
    cache: ArrayCache
    masks: MaskCache | None = None


def entry_path(sample: Sample, setup: Setup) -> Path:
    """Return where a sample's entry lies.

    Raises:
        VolumeReadError: If the sample's file is gone.
    """
    key = cache_key(sample, setup.preset, setup.hu_source)
    path = setup.cache.path(entry_name(setup.preset, sample.name.volume_id), key)
    if path is None:  # callers have checked that there is a folder
        msg = "The cache has no folder."
        raise ValueError(msg)
    return path


def relative_entry(path: Path, setup: Setup) -> str:
    """Return an entry's path below the cache's folder."""
    return path.as_posix() if setup.cache.folder is None else path.relative_to(setup.cache.folder).as_posix()


def is_present(path: Path, setup: Setup) -> bool:
    """Tell whether an entry is there and whole."""
    return setup.cache.contains(path)


def preprocess_one(sample: Sample, setup: Setup) -> Outcome:
    """Preprocess one volume unless its entry is whole; errors become outcomes.

    Args:
        sample: The volume.
        setup: Preset, HU rule and cache.
    """
    wall, cpu = time.perf_counter(), time.process_time()
    path: Path | None = None
    failure: Failure | None = None
    state: State = "made"
    try:
        path = entry_path(sample, setup)
        if is_present(path, setup):
            state = "present"
        else:
            preprocessed(sample, setup.preset, setup.hu_source, setup.cache)
            if not is_present(path, setup):  # a damaged one may still lie there
                failure = _cache_failure(sample, setup)
    except Exception as error:  # one file, whatever is wrong with it, must not end the run
        failure = _failure(sample, error, "" if path is None else relative_entry(path, setup))
    if failure is None and setup.masks is not None:
        state, failure = _with_masks(sample, setup, setup.masks, state)
    return Outcome(
        sample.name.volume_id,
        state if failure is None else "failed",
        source_bytes=size_of(sample.path),
        entry_bytes=0 if path is None else size_of(path),
        wall_seconds=time.perf_counter() - wall,
        cpu_seconds=time.process_time() - cpu,
        failure=failure,
    )


def _with_masks(sample: Sample, setup: Setup, masks: MaskCache, state: State) -> tuple[State, Failure | None]:
    """Make the masks of a volume unless they are there; a failure is tried again by later runs."""
    try:
        if masks.contains(sample):
            return state, None
        masks.read(sample)
        return "made", None if masks.contains(sample) else _cache_failure(sample, setup)
    except Exception as error:  # as for volumes
        return state, replace(_failure(sample, error, ""), quarantined=False)


def given_up(sample: Sample, setup: Setup, error: str, cause: str, cure: str, attempts: int) -> Outcome:
    """Return the outcome of a file whose process gave no answer.

    Args:
        sample: The volume.
        setup: Preset, HU rule and cache.
        error: ``WorkerDied`` or ``TimedOut``; the latter is tried again by the next run, as a slow disk may be to
            blame.
        cause: What happened.
        cure: What to do about it.
        attempts: How often it was tried.
    """
    entry = known_entry(sample, setup)
    quarantined = error == WORKER_DIED and bool(entry)
    name = sample.name.volume_id
    failure = Failure(name, str(sample.path), error, cause, cure, attempts, quarantined, entry)
    return Outcome(name, "failed", source_bytes=size_of(sample.path), failure=failure)


def known_entry(sample: Sample, setup: Setup) -> str:
    """Return where a sample's entry would lie below the cache, empty if its file is gone."""
    try:
        return relative_entry(entry_path(sample, setup), setup)
    except (CTVLMError, OSError):
        return ""


def size_of(path: Path) -> int:
    """Return a file's size, 0 if it cannot be read."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _failure(sample: Sample, error: Exception, entry: str) -> Failure:
    """Describe an error; only what lies in the file itself would happen again."""
    known = isinstance(error, CTVLMError)
    return Failure(
        sample.name.volume_id,
        str(sample.path),
        type(error).__name__,
        cause=error.cause if isinstance(error, CTVLMError) else str(error) or type(error).__name__,
        cure=error.cure if isinstance(error, CTVLMError) else "",
        quarantined=_lies_in_file(error) or not (known or isinstance(error, OSError | MemoryError)),
        entry=entry,
    )


def _lies_in_file(error: Exception) -> bool:
    """Tell whether a file's content is to blame, and not a disk or network that may be back by the next run."""
    origin = error.__cause__
    # gzip's own complaints are OSErrors too, without the system's number
    return isinstance(error, VolumeError) and not (isinstance(origin, OSError) and origin.errno is not None)


def _cache_failure(sample: Sample, setup: Setup) -> Failure:
    """Describe an entry that could not be written."""
    cause = f"Cannot write to the cache `{setup.cache.folder}`."
    cure = "Check its permissions and the free space on its disk."
    return Failure(sample.name.volume_id, str(sample.path), CACHE_ERROR, cause, cure)
