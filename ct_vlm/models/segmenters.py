"""Where region, organ and lesion masks of a volume come from: files, a model, or any function."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
import torch

from ct_vlm.attributes import MaskProvenance, MaskSet, find_masks, read_masks
from ct_vlm.batch import CANONICAL_AXCODES
from ct_vlm.errors import ConfigError, ShapeError
from ct_vlm.models.inputs import floating_dtype
from ct_vlm.models.mask_inputs import oriented
from ct_vlm.transforms import get_preset

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from numpy.typing import NDArray
    from torch import nn

    from ct_vlm.attributes import MaskKind
    from ct_vlm.models.segmentation import SegmentationModel
    from ct_vlm.transforms import CTPreset, Volume

    Names = Mapping[str, int | Sequence[int]]

_SUFFIXES = (".gz", ".nii")


@runtime_checkable
class Segmenter(Protocol):
    """Anything that gives the masks of a volume, with their provenance, on the volume's own grid.

    Systems that use masks take any segmenter; the papers' ones are not tied to one either.
    """

    def segment(self, volume: Volume, volume_id: str | None = None) -> MaskSet:
        """Return the masks of a volume.

        Args:
            volume: The scan.
            volume_id: Its name; taken from the file's unless given.
        """
        ...


class FileSegmenter:
    """Reads masks that lie on disk, see :func:`ct_vlm.attributes.find_masks` for the layouts.

    Args:
        folder: Holds one folder or label map a volume.
        labels: Names of a label map's values, see :func:`ct_vlm.attributes.read_masks`.
        kind: ``pseudo`` for a model's masks, ``reference`` for those drawn by people.
        only: Names of the files of a folder that are read (case and underscores do not matter); all unless
            given, which is a lot of memory for folders of a hundred anatomies.

    Raises:
        DatasetError: If a volume has no masks, or they lie on another grid.

    Example:
        >>> import tempfile, pathlib, numpy as np, nibabel as nib
        >>> from ct_vlm.models import FileSegmenter
        >>> from ct_vlm.transforms import Volume
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     heart = nib.Nifti1Image(np.ones((4, 3, 2), np.uint8), np.eye(4))
        ...     pathlib.Path(folder, "scan_1").mkdir()
        ...     nib.save(heart, pathlib.Path(folder, "scan_1", "heart.nii.gz"))
        ...     affine = np.array([[0, 0, -1, 3], [0, -1, 0, 2], [-1, 0, 0, 1], [0, 0, 0, 1.0]])
        ...     volume = Volume(np.zeros((2, 3, 4), np.int16), (1, 1, 1), affine)
        ...     FileSegmenter(folder, kind="reference").segment(volume, "scan_1").provenance.kind
        'reference'
    """

    def __init__(
        self,
        folder: str | Path,
        labels: Names | str | Path | None = None,
        *,
        kind: MaskKind,
        only: Collection[str] | None = None,
    ) -> None:
        self.folder, self.labels, self.kind, self.only = Path(folder), labels, kind, only

    def segment(self, volume: Volume, volume_id: str | None = None) -> MaskSet:
        """Read the masks of a volume.

        Args:
            volume: Its grid must be that of the masks.
            volume_id: Its name; taken from the file's unless given.
        """
        place = find_masks(self.folder, volume_id or volume_name(volume))
        scan = oriented(volume, CANONICAL_AXCODES)
        return read_masks(place, self.labels, grid=(scan.shape, scan.affine), kind=self.kind, only=self.only)


class CallableSegmenter:
    """Wraps a function of one's own, e.g. around TotalSegmentator or SAT.

    Args:
        function: A volume to a label map, or to a dict of name to mask, on the volume's grid.
        labels: Name to value or values, where the function returns a label map.
        kind: ``pseudo`` for a model's masks, ``reference`` for those drawn by people.
        source: What to call it; the function's name unless given.
        identity: Version or checksum of what it runs.

    Raises:
        ConfigError: If the function returns a label map and there are no names.
        ShapeError: If the masks have another shape than the volume.

    Example:
        >>> import numpy as np
        >>> from ct_vlm.models import CallableSegmenter
        >>> from ct_vlm.transforms import Volume
        >>> segmenter = CallableSegmenter(lambda volume: {"lung": volume.array < -500}, source="threshold")
        >>> masks = segmenter.segment(Volume(np.full((2, 3, 4), -900, np.int16), (5, 1, 1), np.eye(4)))
        >>> masks.provenance.source, masks["lung"].all()
        ('threshold', np.True_)
    """

    def __init__(
        self,
        function: Callable[[Volume], NDArray[Any] | Mapping[str, NDArray[Any]]],
        labels: Names | None = None,
        *,
        kind: MaskKind = "pseudo",
        source: str | None = None,
        identity: str = "",
    ) -> None:
        self.function, self.labels = function, labels
        name = source or getattr(function, "__qualname__", None) or type(function).__name__
        self.provenance = MaskProvenance(kind, str(name), identity)

    def segment(self, volume: Volume, volume_id: str | None = None) -> MaskSet:  # noqa: ARG002
        """Call the function.

        Args:
            volume: What the function gets.
            volume_id: Not used.
        """
        result = self.function(volume)
        options = _geometry(volume, self.provenance)
        if isinstance(result, Mapping):
            for name, mask in result.items():
                _check_shape(np.shape(mask), volume, f"The mask {name!r}")
            return MaskSet(result, **options)
        if self.labels is None:
            cause = f"`{self.provenance.source}` returned a label map, and its values have no names."
            raise ConfigError(cause, 'Pass `labels`, e.g. {"liver": 5}, or return a dict of masks.')
        _check_shape(np.shape(result), volume, "The label map")
        return MaskSet.from_label_map(np.asarray(result), self.labels, **options)


class ModelSegmenter:
    """Runs our segmentation network (stage 1 of U-VLM) and brings its labels back to the volume's grid.

    Args:
        model: The network.
        class_names: Name of each class; the first is the background.
        preset: Preprocessing that the network was trained with.
        roi_size: Window of MONAI's sliding-window inference; the whole volume unless given.
        overlap: Overlap of neighbouring windows.
        source: What to call it, e.g. the checkpoint's path.

    Raises:
        ConfigError: If names and classes differ in number.

    Example:
        >>> import numpy as np
        >>> from ct_vlm.encoders import ResidualUNetEncoder
        >>> from ct_vlm.models import ModelSegmenter, SegmentationModel
        >>> from ct_vlm.modules import UNetDecoder
        >>> from ct_vlm.transforms import CTPreset, Volume
        >>> encoder = ResidualUNetEncoder(features=(4, 8), blocks=(1, 1), strides=(1, 2))
        >>> model = SegmentationModel(encoder, UNetDecoder((4, 8), (1, 2), num_classes=3))
        >>> preset = CTPreset("small", size=(8, 8, 8), windows=((-1000, 200),))
        >>> segmenter = ModelSegmenter(model, ("background", "heart", "liver"), preset)
        >>> volume = Volume(np.zeros((10, 12, 12), np.int16), (5, 2, 2), np.diag([-5.0, -2.0, 2.0, 1.0])[[2, 1, 0, 3]])
        >>> segmenter.segment(volume).shape
        (10, 12, 12)
    """

    def __init__(
        self,
        model: SegmentationModel,
        class_names: Sequence[str],
        preset: CTPreset | str | Mapping[str, Any],
        *,
        roi_size: tuple[int, int, int] | None = None,
        overlap: float = 0.5,
        source: str | None = None,
    ) -> None:
        known = getattr(model.decoder, "num_classes", len(class_names))
        if known != len(class_names):
            cause = f"Expected a name for each of the {known} classes, but got {len(class_names)}."
            raise ConfigError(cause, "Name every class, the background first.")
        self.model, self.class_names, self.preset = model, tuple(class_names), get_preset(preset)
        self.roi_size, self.overlap = roi_size, overlap
        self.source = source or type(model).__name__

    def segment(self, volume: Volume, volume_id: str | None = None) -> MaskSet:  # noqa: ARG002
        """Predict the masks of a volume.

        Args:
            volume: In any orientation.
            volume_id: Not used.
        """
        volume = oriented(volume, self.preset.axcodes)
        parameter = next(self.model.parameters())
        hu = torch.from_numpy(np.ascontiguousarray(self.preset.resample(volume)))
        image = self.preset.window(hu[None, None].to(parameter.device)).to(floating_dtype(self.model))
        training = self.model.training
        self.model.eval()
        try:
            labels = self.model.segment(image, self.roi_size, overlap=self.overlap)
        finally:
            self.model.train(training)
        names = {name: value for value, name in enumerate(self.class_names) if value > 0}
        small = labels[0].to(torch.int16).cpu().numpy()
        provenance = MaskProvenance("pseudo", self.source, weights_digest(self.model))
        return MaskSet.from_label_map(
            restore_labels(small, volume, self.preset), names, **_geometry(volume, provenance)
        )


def restore_labels(labels: NDArray[Any], volume: Volume, preset: CTPreset) -> NDArray[Any]:
    """Bring a label map from a preset's grid back to the grid of its volume, by the nearest voxel.

    Args:
        labels: On the preset's grid.
        volume: The volume that was preprocessed.
        preset: What it was preprocessed with.

    Returns:
        Labels of the volume's shape; what the preset cut off is 0.
    """
    affine = preset.plan(volume).affine(volume.affine, volume.shape, preset.crop_pad)
    step = np.linalg.inv(affine) @ volume.affine  # diagonal: presets do not turn
    result = np.zeros(volume.shape, labels.dtype)
    targets, sources = [], []
    for axis, (length, have) in enumerate(zip(volume.shape, labels.shape, strict=True)):
        nearest = np.floor(step[axis, axis] * np.arange(length) + step[axis, 3] + 0.5).astype(np.int64)
        inside = np.flatnonzero((nearest >= 0) & (nearest < have))
        targets.append(inside)
        sources.append(nearest[inside])
    result[np.ix_(*targets)] = labels[np.ix_(*sources)]
    return result


def weights_digest(model: nn.Module) -> str:
    """Return a SHA-256 of a model's weights, 16 digits of it.

    Args:
        model: Any module.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return f"sha256:{digest.hexdigest()[:16]}"


def volume_name(volume: Volume) -> str:
    """Return a volume's name: that of its file without suffix.

    Args:
        volume: A scan that was read from a file.

    Raises:
        ConfigError: If it was not.
    """
    name = Path(volume.provenance.path).name
    for suffix in _SUFFIXES:
        name = name.removesuffix(suffix)
    if not name:
        msg = "The volume was not read from a file, so it has no name."
        raise ConfigError(msg, "Pass `volume_id`.")
    return name


def _geometry(volume: Volume, provenance: MaskProvenance) -> dict[str, Any]:
    """Return how masks on a volume's grid lie."""
    # a volume without a file is numbered as its array is
    stored = volume.provenance.axcodes if volume.provenance.path else volume.axcodes
    return {"affine": volume.affine, "stored_axcodes": stored, "provenance": provenance}


def _check_shape(shape: tuple[int, ...], volume: Volume, what: str) -> None:
    """Raise unless a mask has the shape of its volume.

    Raises:
        ShapeError: If it has not.
    """
    if shape != volume.shape:
        cause = f"{what} has the shape {shape}, but its volume {volume.shape}."
        raise ShapeError(cause, "Return masks on the volume's own grid, (D, H, W).")
