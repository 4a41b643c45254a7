"""Patient attributes of a split: measured once, kept as one JSON file a volume, read with the items."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ct_vlm.attributes import PatientAttributes, measure_attributes, read_masks
from ct_vlm.attributes.grids import volume_grid
from ct_vlm.datasets.audit.pool import in_processes
from ct_vlm.datasets.index_files import list_volumes
from ct_vlm.datasets.layout import SPLITS
from ct_vlm.datasets.radgenome.layout import RadGenomeLayout, masks_of
from ct_vlm.datasets.radgenome.report import RadGenomeReport
from ct_vlm.errors import ConfigError, CTVLMError, DatasetError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from ct_vlm.attributes import MaskKind

MissingAttributes = Literal["error", "absent"]


@dataclass(frozen=True)
class AttributeFolder:
    """Where the attributes of volumes lie: ``<folder>/<volume>.json``, as ``ct-vlm attributes`` writes them.

    Args:
        path: The folder.
        missing: Whether a volume without a file is an ``error``, or its attributes are ``absent``
            (None: no text joins the prompt). A file that cannot be read always raises.
    """

    path: Path
    missing: str = "error"

    def check(self, volumes: Collection[str], augment: Callable[..., object] | None) -> None:
        """Raise where items could not be given their attributes.

        Args:
            volumes: Names of the volumes.
            augment: Augmentation of the items.

        Raises:
            DatasetError: If the folder or a file that must be there is missing.
            ConfigError: If the augmentation mirrors scans, as attributes name sides.
        """
        if getattr(augment, "flip_probability", 0) > 0:
            cause = "Patient attributes name sides, but the data set's augmentation mirrors scans."
            raise ConfigError(cause, "Pass an augmentation with `flip_probability=0`.")
        if not self.path.is_dir():
            cause = f"There is no folder of patient attributes `{self.path}`."
            raise DatasetError(cause, "Write it: `ct-vlm attributes --radgenome ROOT --out FOLDER`.")
        lacking = [name for name in volumes if not self._file(name).is_file()]
        if lacking and self.missing == "error":
            cause = (
                f"{len(lacking)} volumes have no patient attributes in `{self.path}`, e.g. {', '.join(lacking[:3])}."
            )
            raise DatasetError(
                cause, 'Measure them, list the volumes in `exclude`, or use missing_attributes="absent".'
            )

    def read(self, volume_id: str) -> PatientAttributes | None:
        """Return the attributes of a volume, or None if it has none and that is no error.

        Args:
            volume_id: Name of the volume.

        Raises:
            DatasetError: If the file is missing though it must be there, unreadable, or of another volume.
        """
        file = self._file(volume_id)
        if not file.is_file() and self.missing == "absent":
            return None
        attributes = PatientAttributes.load(file)
        if attributes.volume_id not in {"", volume_id}:
            cause = f"`{file}` holds the attributes of {attributes.volume_id!r}."
            raise DatasetError(cause, "Name each file by its volume, or measure the volume again.")
        return attributes

    def _file(self, volume_id: str) -> Path:
        return self.path / f"{volume_id}.json"


@dataclass
class MeasuredAttributes:
    """What :func:`measure_radgenome` did.

    Args:
        made: Volumes that were measured.
        present: Volumes that had a file already.
        failed: Volume to what was wrong; they have no file.
    """

    made: list[str] = field(default_factory=list)
    present: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)


def measure_radgenome(
    root: str | Path,
    out: str | Path,
    *,
    split: str | None = None,
    kind: MaskKind = "pseudo",
    workers: int | None = 0,
    progress: bool = True,
) -> MeasuredAttributes:
    """Measure the patient attributes of RadGenome-ChestCT's volumes, on their own grid.

    Organs are measured on the masks of single anatomies, where those have a structure that
    :func:`ct_vlm.attributes.measure_attributes` knows. RadGenome-ChestCT has no masks of lesions, so
    that nodules, effusions and cysts are "not assessed". Volumes that have a file are left alone:
    an interrupted run goes on where it stopped.

    Args:
        root: Folder that holds ``dataset/``, or that folder itself; only read.
        out: Where ``<volume>.json`` is written; made if absent.
        split: ``train`` or ``valid``; both, where they have masks, if None.
        kind: Whether a model drew the masks (``pseudo``) or people did (``reference``).
        workers: Number of processes; 0 works in this one, None takes one a core, fewer where memory is short.
        progress: Show a bar (on a terminal only).

    Raises:
        DatasetError: If folders are missing.

    Example:
        >>> import tempfile
        >>> from ct_vlm.datasets.radgenome import measure_radgenome
        >>> from ct_vlm.phantoms import write_radgenome
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = write_radgenome(folder, 2, shape=(8, 12, 12), workers=0)
        ...     done = measure_radgenome(folder, f"{folder}/attributes", split="train")
        >>> done.made, done.failed
        (['train_1_a_1'], {})
    """
    folder = Path(out)
    result = MeasuredAttributes()
    jobs: list[_Job] = []
    for name, volume, masks in _volumes(RadGenomeLayout(root), split):
        target = folder / f"{name}.json"
        if target.is_file():
            result.present.append(name)
        else:
            jobs.append(_Job(name, volume, masks, target, kind))
    folder.mkdir(parents=True, exist_ok=True)
    with _bar(len(jobs), progress=progress) as advance:
        for job, problem in in_processes(_measure, jobs, workers, advance, _died):
            if problem:
                result.failed[job.name] = problem
            else:
                result.made.append(job.name)
    result.made.sort()
    return result


@dataclass(frozen=True)
class _Job:
    """A volume to measure, and where the result goes."""

    name: str
    volume: Path
    masks: Path
    target: Path
    kind: MaskKind


def _volumes(layout: RadGenomeLayout, split: str | None) -> Iterator[tuple[str, Path, Path]]:
    """Yield name, file and mask folder of the volumes of a split, or of those splits that are there."""
    for part in SPLITS if split is None else (split,):
        try:
            volumes, masks = layout.volume_folder(part), layout.mask_folder(part, "anatomy")
        except DatasetError:
            if split is None and part != SPLITS[0]:
                continue
            raise
        for name, file in list_volumes(volumes, part, RadGenomeReport(str(layout.root), part, "preprocessed")).items():
            yield name, file, masks_of(masks, name)


def _measure(job: _Job) -> str:
    """Measure one volume and write its file; return what was wrong."""
    try:
        found = read_masks(job.masks, grid=volume_grid(job.volume), kind=job.kind, only_known=True)
        measure_attributes(found, volume_id=job.name).save(job.target)
    except CTVLMError as error:
        return str(error)
    return ""


def _died(job: _Job) -> str:
    return f"The process that measured `{job.volume}` died."


@contextmanager
def _bar(total: int, *, progress: bool) -> Iterator[Callable[[int], None]]:
    """Show a bar while work goes on; yield what moves it."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, disable=not (progress and console.is_terminal)) as bar:
        task = bar.add_task("Measuring", total=total)
        yield lambda number: bar.advance(task, number)
