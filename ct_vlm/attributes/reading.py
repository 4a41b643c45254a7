"""Masks from files: a folder with one file a structure, or one label map."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ct_vlm.attributes.grids import check_grid, stored_axcodes
from ct_vlm.attributes.label_names import read_label_names
from ct_vlm.attributes.masks import MaskSet
from ct_vlm.attributes.names import find_structure, plain_name
from ct_vlm.attributes.provenance import MaskProvenance
from ct_vlm.batch import CANONICAL_AXCODES
from ct_vlm.errors import DatasetError
from ct_vlm.transforms.load import load_label_map

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from ct_vlm.attributes.grids import Grid
    from ct_vlm.attributes.provenance import MaskKind

_SUFFIXES = (".nii.gz", ".nii")


def read_masks(
    path: str | Path,
    labels: Mapping[str, int | Sequence[int]] | str | Path | None = None,
    *,
    grid: Grid | None = None,
    kind: MaskKind = "pseudo",
    only_known: bool = False,
    only: Collection[str] | None = None,
) -> MaskSet:
    """Read the masks of a scan.

    Args:
        path: A folder of NIfTI files, each named by its structure (``lung_upper_lobe_left.nii.gz``),
            or one label map. Files are only read.
        labels: Of a label map: name to value or values; or a JSON file of that, or of values to
            names as TotalSegmentator's class maps have them.
        grid: Shape and affine, in canonical orientation, of the volume that the masks belong to;
            masks on another grid raise.
        kind: Whether a model drew them (``pseudo``) or people did (``reference``).
        only_known: Whether files of a folder that the attributes do not use are left unread.
        only: Names of the files of a folder that are read (case and underscores do not matter); with
            ``only_known`` those that the attributes use are read too.

    Returns:
        The masks; their provenance holds a checksum of the files.

    Raises:
        DatasetError: If nothing is there, names are missing, or grids differ.
        VolumeError: If a file cannot be read.

    Example:
        >>> import tempfile, pathlib, numpy as np, nibabel as nib
        >>> from ct_vlm.attributes import read_masks
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = pathlib.Path(folder, "heart.nii.gz")
        ...     nib.save(nib.Nifti1Image(np.ones((2, 3, 4), np.uint8), np.diag([-1.0, -1.0, 5.0, 1.0])), file)
        ...     masks = read_masks(folder)
        >>> masks.names, masks.spacing
        (('heart',), (5.0, 1.0, 1.0))
    """
    source = Path(path)
    files = _files(source, _choice(only, only_known=only_known))
    arrays, affines = {}, {}
    for name, file in files.items():
        arrays[name], affines[name] = load_label_map(file)
        check_grid(file, (arrays[name].shape, affines[name]), grid or _first(arrays, affines))
    first = next(iter(files))
    options: dict[str, Any] = {
        "affine": affines[first],
        "provenance": MaskProvenance(kind, str(source), file_digest(*files.values())),
        "stored_axcodes": stored_axcodes(files[first]),
    }
    if source.is_dir():
        return MaskSet(arrays, axcodes=CANONICAL_AXCODES, **options)
    if labels is None:
        cause = f"`{source}` is a label map, and its values have no names."
        raise DatasetError(cause, 'Pass `labels`, e.g. {"liver": 5, "right lung": [12, 13, 14]}.')
    return MaskSet.from_label_map(arrays[first], read_label_names(labels), **options)


def find_masks(folder: str | Path, volume_id: str) -> Path:
    """Return where the masks of a volume lie below a folder.

    Looked for in this order: a folder of that name, ``seg_<name>`` as in RadGenome-ChestCT, a label
    map of that name.

    Args:
        folder: Holds the masks of many volumes.
        volume_id: Name of the volume without suffix.

    Raises:
        DatasetError: If there is none.
    """
    root = Path(folder)
    if not volume_id or Path(volume_id).name != volume_id:
        cause = f"`{volume_id}` is no name of a volume."
        raise DatasetError(cause, "Pass the file's name without folder and suffix, e.g. `train_1_a_1`.")
    places = [root / volume_id, root / f"seg_{volume_id}", *(root / f"{volume_id}{suffix}" for suffix in _SUFFIXES)]
    for place in places:
        if place.exists():
            return place
    cause = f"There are no masks of `{volume_id}` in `{root}`."
    raise DatasetError(cause, f"Expected one of {', '.join(place.name for place in places)}.")


def file_digest(*files: Path) -> str:
    """Return a SHA-256 of the names and content of files, 16 digits of it.

    Args:
        files: Any files; their order does not matter.
    """
    digest = hashlib.sha256()
    for file in sorted(files):
        digest.update(file.name.encode())
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return f"sha256:{digest.hexdigest()[:16]}"


def _choice(only: Collection[str] | None, *, only_known: bool) -> Callable[[str], bool]:
    """Return what tells the files to read by their names."""
    wanted = None if only is None else {plain_name(name) for name in only}

    def is_wanted(name: str) -> bool:
        if wanted is None and not only_known:
            return True
        return plain_name(name) in (wanted or ()) or (only_known and find_structure(name) is not None)

    return is_wanted


def _files(source: Path, is_wanted: Callable[[str], bool]) -> dict[str, Path]:
    """Return the mask files of a folder by structure, or the label map alone."""
    if source.is_file():
        return {source.name: source}
    if not source.is_dir():
        cause = f"There are no masks at `{source}`."
        raise DatasetError(cause, "Pass a folder of NIfTI files, or a label map.")
    names: dict[str, Path] = {}
    others = 0
    for file in sorted(source.iterdir()):
        suffix = next((suffix for suffix in _SUFFIXES if file.name.endswith(suffix)), None)
        if suffix is None or file.name.startswith("."):
            continue
        name = file.name.removesuffix(suffix)
        if not is_wanted(name):
            others += 1
            continue
        if name in names:
            cause = f"`{source}` holds `{name}` twice: `{names[name].name}` and `{file.name}`."
            raise DatasetError(cause, "Keep one.")
        names[name] = file
    if not names:
        rest = f" of a structure that is asked for, but {others} others" if others else ""
        cause = f"The folder `{source}` holds no NIfTI file{rest}."
        cure = "Pass the folder of one volume, with files such as `heart.nii.gz` or `lung_upper_lobe_left.nii.gz`."
        raise DatasetError(cause, cure)
    return names


def _first(arrays: Mapping[str, NDArray[Any]], affines: Mapping[str, NDArray[np.float64]]) -> Grid:
    """Return the grid of the mask that was read first."""
    name = next(iter(arrays))
    return arrays[name].shape, affines[name]
