"""Where RadGenome-ChestCT keeps volumes, masks and tables."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ct_vlm.datasets.layout import check_split
from ct_vlm.errors import DatasetError

if TYPE_CHECKING:
    from ct_vlm.datasets.layout import VolumeName

MaskLevel = Literal["region", "anatomy"]
_SPLIT_NAMES = {"train": ("train",), "valid": ("valid", "validation")}
_TABLE_FOLDER = "radgenome_files"


class RadGenomeLayout:
    """Paths below a RadGenome-ChestCT download whose archives were unpacked.

    Archives and the pickles of the report hierarchy are never opened.

    Args:
        root: The folder that holds ``dataset/``, or that folder itself.

    Raises:
        DatasetError: If the folder does not exist.

    Example:
        >>> from ct_vlm.datasets.radgenome import RadGenomeLayout
        >>> RadGenomeLayout(".").tables("vqa_size", "valid")[0].parts[-2:]
        ('radgenome_files', 'validation_vqa_size.csv')
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        if not self.root.is_dir():
            cause = f"There is no folder `{self.root}`."
            raise DatasetError(cause, "Pass the folder that holds RadGenome-ChestCT's `dataset/`.")
        inner = self.root / "dataset"
        self.bases = [inner, self.root] if inner.is_dir() else [self.root]

    def tables(self, kind: str, split: str) -> list[Path]:
        """Return the places where a table may lie, most usual first.

        The public code looks for ``radgenome_files`` in the root and in ``dataset``.

        Args:
            kind: E.g. ``region_report`` or ``vqa_size``.
            split: ``train`` or ``valid``; files of the latter are called ``validation``.
        """
        names = [f"{alias}_{kind}.csv" for alias in reversed(_SPLIT_NAMES[check_split(split)])]
        folders = [folder for base in self.bases for folder in (base / _TABLE_FOLDER, base)]
        return [folder / name for folder in folders for name in names]

    def require_table(self, kind: str, split: str) -> Path:
        """Return the first table that exists.

        Raises:
            DatasetError: If there is none, naming where it was looked for.
        """
        places = self.tables(kind, split)
        found = next((place for place in places if place.is_file()), None)
        if found is None:
            cause = f"No {kind} table of split {split!r} below `{self.root}`; the usual place is `{places[0]}`."
            raise DatasetError(cause, "Download it, or switch off what needs it.")
        return found

    def volume_folder(self, split: str) -> Path:
        """Return the folder of a split's volumes.

        Raises:
            DatasetError: If there is none.
        """
        return self._folder(split, "preprocessed", "Download the volumes.")

    def mask_folder(self, split: str, level: str) -> Path:
        """Return the folder of a split's masks.

        Args:
            split: ``train`` or ``valid``.
            level: ``region`` or ``anatomy``.

        Raises:
            DatasetError: If there is none, naming archives that were not unpacked.
        """
        name = f"{split}_{level}_mask"
        packed = sorted(entry.name for base in self.bases for entry in base.glob(f"{name}*") if entry.is_file())
        cure = f"Download and unpack `{name}.tar.gz`, or pass `masks=False`."
        if packed:
            cure = f"Unpack {', '.join(packed)} (join parts with `cat` first), or pass `masks=False`."
        return self._folder(split, f"{level}_mask", cure)

    def _folder(self, split: str, kind: str, cure: str) -> Path:
        """Return the first folder of a kind that exists."""
        places = [base / f"{alias}_{kind}" for base in self.bases for alias in _SPLIT_NAMES[check_split(split)]]
        found = next((place for place in places if place.is_dir()), None)
        if found is None:
            cause = f"No folder of split {split!r} such as `{places[0]}`."
            raise DatasetError(cause, cure)
        return found


def expected_volume(folder: Path, name: VolumeName) -> Path:
    """Return where a volume lies below its split's folder: ``train_1/train_1a/train_1_a_1.nii.gz``."""
    scan = name.patient_id + name.study_id.rpartition("_")[2]
    return folder / name.patient_id / scan / f"{name.volume_id}.nii.gz"


def masks_of(folder: Path, volume_id: str) -> Path:
    """Return the folder of a volume's masks."""
    return folder / f"seg_{volume_id}"
