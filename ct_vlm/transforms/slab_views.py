"""Views of a slab of slices for self-supervised training: large crops of its middle, small ones of any slice.

Code of the encoder behind Ker-VLJEPA-3B (DALE-CT, arXiv 2606.07775).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import cv2
import numpy as np
import torch
import torch.nn.functional as F

from ct_vlm.errors import ConfigError, ShapeError
from ct_vlm.transforms.configured import Configured

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray
    from torch import Tensor


class Box(NamedTuple):
    """A crop of a slice: which slice, first row and column, and size."""

    slice: int
    top: int
    left: int
    height: int
    width: int

    def cut(self, slab: NDArray[Any]) -> NDArray[Any]:
        """Return the crop of a slab ``(S, H, W)``."""
        return slab[self.slice, self.top : self.top + self.height, self.left : self.left + self.width]


class SlabViews(Configured):
    """Cut "semi-3D" views out of a few neighbouring slices.

    Global views are crops of the slab's middle slice, local ones of slices drawn anew for each: what
    neighbouring slices share has to be read from a small part of one. Views are int16 HU and are
    windowed on the device like volumes. The same seed gives the same views.

    With a label map, a share of the local crops (``guidance_probability``) is centred on a labelled
    pixel: of a finding where the slice shows one, else of any label. The labels of each crop are
    returned for an auxiliary loss.

    Args:
        global_size: Side of global views in pixels.
        local_size: Side of local views in pixels.
        num_global: Global views.
        num_local: Local views.
        global_scale: Range of a global crop's share of the slice's area.
        local_scale: The same of local crops.
        ratio: Range of a crop's width over its height (inferred: torchvision's default).
        slab_mm: Thickness of a slab.
        gamma: Range of the exponent applied to HU within the window.
        gamma_probability: Chance of it, for each view.
        window: HU between which the exponent works; HU outside stay as they are.
        blur_probabilities: Chance of a 3 x 3 Gaussian blur for the first, second, ... global view; further
            ones have the last one's. Local views are not blurred.
        blur_sigma: Range of its deviation in pixels (inferred: torchvision's default).
        flip_probability: Chance of a left-right flip of each view. 0 keeps the sides apart, which a report
            names; the published code takes 0.5.
        guidance_probability: See above.
        finding_labels: Label ids that crops are centred on first.

    **Shape:**
        - global_views: ``(1, V, h, w)`` int16; local_views likewise: views lie where a volume has its slices.
        - global_labels, local_labels: ``(V, K)`` float 0/1.

    Raises:
        ConfigError: If a setting is out of range.

    Example:
        >>> import numpy as np
        >>> from ct_vlm.transforms import SlabViews
        >>> views = SlabViews(32, 16, num_local=4)(np.zeros((3, 64, 64), np.int16), seed=0)
        >>> {name: tuple(view.shape) for name, view in views.items()}
        {'global_views': (1, 2, 32, 32), 'local_views': (1, 4, 16, 16)}

    References:
        Defaults are those of the configuration published for the encoder (224 and 140 pixels, 2 + 8 views,
        areas .6-1 and .3-.6, 12 mm, gamma .9-1.1 at .8, blur .5 and .1, guidance .8), but for the flip.
        Differs: crops are resized with anti-aliasing, and a crop that does not fit is clipped, not drawn again.
    """

    def __init__(
        self,
        global_size: int = 224,
        local_size: int = 140,
        *,
        num_global: int = 2,
        num_local: int = 8,
        global_scale: tuple[float, float] = (0.6, 1.0),
        local_scale: tuple[float, float] = (0.3, 0.6),
        ratio: tuple[float, float] = (3 / 4, 4 / 3),
        slab_mm: float = 12.0,
        gamma: tuple[float, float] = (0.9, 1.1),
        gamma_probability: float = 0.8,
        window: tuple[float, float] = (-997.0, 888.0),
        blur_probabilities: Sequence[float] = (0.5, 0.1),
        blur_sigma: tuple[float, float] = (0.1, 2.0),
        flip_probability: float = 0.0,
        guidance_probability: float = 0.8,
        finding_labels: Sequence[int] = (),
    ) -> None:
        self.config = {
            "global_size": global_size,
            "local_size": local_size,
            "num_global": num_global,
            "num_local": num_local,
            "global_scale": list(global_scale),
            "local_scale": list(local_scale),
            "ratio": list(ratio),
            "slab_mm": slab_mm,
            "gamma": list(gamma),
            "gamma_probability": gamma_probability,
            "window": list(window),
            "blur_probabilities": list(blur_probabilities),
            "blur_sigma": list(blur_sigma),
            "flip_probability": flip_probability,
            "guidance_probability": guidance_probability,
            "finding_labels": list(finding_labels),
        }
        _check(self.config)
        self.num_global, self.num_local = num_global, num_local
        self.slab_mm = slab_mm

    def span(self, depth: int, spacing_mm: float, seed: int) -> slice:
        """Draw which slices of a volume make a slab; every position is equally likely.

        Args:
            depth: Slices of the volume.
            spacing_mm: Distance of slices.
            seed: Decides the draw.

        Example:
            >>> from ct_vlm.transforms import SlabViews
            >>> span = SlabViews().span(100, 1.5, seed=0)
            >>> span.stop - span.start
            8
        """
        count = min(depth, max(1, round(self.slab_mm / spacing_mm)))
        start = int(np.random.default_rng(seed).integers(depth - count + 1))
        return slice(start, start + count)

    def __call__(
        self, slab: NDArray[np.int16], seed: int, labels: NDArray[Any] | None = None, num_labels: int = 0
    ) -> dict[str, Tensor]:
        """Return the views of a slab.

        Args:
            slab: HU ``(S, H, W)``.
            seed: Decides every random choice.
            labels: Label map of the slab.
            num_labels: Largest label id K; above 0 the labels of each view are returned.

        Raises:
            ShapeError: If the slab is not ``(S, H, W)``, or the labels have another shape.
        """
        if slab.ndim != 3 or 0 in slab.shape or (labels is not None and labels.shape != slab.shape):
            other = None if labels is None else labels.shape
            cause = f"Expected a slab (S, H, W) and labels like it, but got {slab.shape} and {other}."
            raise ShapeError(cause, "Pass slices in HU, and the label map of the same slices.")
        generator = np.random.default_rng(seed)
        result: dict[str, Tensor] = {}
        for kind in ("global", "local"):
            boxes = [self._box(kind, slab.shape, labels, generator) for _ in range(self.config[f"num_{kind}"])]
            views = [self._view(kind, place, box.cut(slab), generator) for place, box in enumerate(boxes)]
            size = self.config[f"{kind}_size"]
            result[f"{kind}_views"] = torch.stack(views)[None] if views else torch.zeros(1, 0, size, size).short()
            if labels is not None and num_labels > 0:
                result[f"{kind}_labels"] = _present([box.cut(labels) for box in boxes], num_labels)
        return result

    def _box(
        self, kind: str, shape: tuple[int, ...], labels: NDArray[Any] | None, generator: np.random.Generator
    ) -> Box:
        """Draw a crop."""
        slices, rows, columns = shape
        number = slices // 2 if kind == "global" else int(generator.integers(slices))
        area = generator.uniform(*self.config[f"{kind}_scale"]) * rows * columns
        ratio = np.exp(generator.uniform(*np.log(self.config["ratio"])))
        height = int(np.clip(round(np.sqrt(area / ratio)), 1, rows))
        width = int(np.clip(round(np.sqrt(area * ratio)), 1, columns))
        top, left = int(generator.integers(rows - height + 1)), int(generator.integers(columns - width + 1))
        if kind == "local" and labels is not None and generator.random() < self.config["guidance_probability"]:
            centre = _draw_pixel(labels[number], self.config["finding_labels"], generator)
            if centre is not None:
                top = int(np.clip(centre[0] - height // 2, 0, rows - height))
                left = int(np.clip(centre[1] - width // 2, 0, columns - width))
        return Box(number, top, left, height, width)

    def _view(self, kind: str, place: int, crop: NDArray[np.int16], generator: np.random.Generator) -> Tensor:
        """Turn a crop into a view."""
        size = self.config[f"{kind}_size"]
        pixels = torch.from_numpy(np.ascontiguousarray(crop, dtype=np.float32))[None, None]
        image = F.interpolate(pixels, (size, size), mode="bilinear", antialias=True)[0, 0].numpy()
        chances = self.config["blur_probabilities"]
        if kind == "global" and chances and generator.random() < chances[min(place, len(chances) - 1)]:
            image = cv2.GaussianBlur(image, (3, 3), generator.uniform(*self.config["blur_sigma"]))
        if generator.random() < self.config["gamma_probability"]:
            image = _gamma(image, self.config["window"], generator.uniform(*self.config["gamma"]))
        if generator.random() < self.config["flip_probability"]:
            image = image[:, ::-1]
        return torch.from_numpy(np.rint(image).clip(-32768, 32767).astype(np.int16))


def _gamma(image: NDArray[Any], window: Sequence[float], exponent: float) -> NDArray[Any]:
    """Bend HU within a window; its ends and what lies outside stay."""
    low, high = window
    share = ((image - low) / (high - low)).clip(0, 1)
    return image + (high - low) * (share**exponent - share)


def _draw_pixel(labels: NDArray[Any], first: Sequence[int], generator: np.random.Generator) -> tuple[int, int] | None:
    """Draw a pixel of a finding, else of any label; None where there is none."""
    found = np.flatnonzero(np.isin(labels, first)) if len(first) else np.empty(0, np.int64)
    if not found.size:
        found = np.flatnonzero(labels)
    if not found.size:
        return None
    row, column = divmod(int(found[generator.integers(found.size)]), labels.shape[1])
    return row, column


def _present(crops: Sequence[NDArray[Any]], num_labels: int) -> Tensor:
    """Tell which labels each crop holds, ``(V, K)``."""
    present = torch.zeros(len(crops), num_labels)
    for row, crop in zip(present, crops, strict=True):
        ids = np.unique(crop)
        row[torch.from_numpy(ids[(ids > 0) & (ids <= num_labels)].astype(np.int64) - 1)] = 1.0
    return present


def _check(config: Mapping[str, Any]) -> None:
    """Raise if a setting is out of range."""
    chances = [value for name, value in config.items() if name.endswith("_probability")]
    if not all(0 <= chance <= 1 for chance in [*chances, *config["blur_probabilities"]]):
        cause = f"Expected probabilities in [0, 1], but got {config}."
        raise ConfigError(cause, "Pass e.g. 0.5.")
    sizes = ("global_size", "local_size", "num_global")
    if min(config[name] for name in sizes) < 1 or config["num_local"] < 0 or not config["slab_mm"] > 0:
        cause = f"Expected positive sizes, a global view and a positive `slab_mm`, but got {config}."
        raise ConfigError(cause, "The defaults are 224, 140, 2 + 8 views and 12 mm.")
    ranges = {name: config[name] for name in ("global_scale", "local_scale", "ratio", "gamma", "blur_sigma")}
    if any(len(pair) != 2 or not 0 < pair[0] <= pair[1] for pair in ranges.values()):
        cause = f"Expected ranges (low, high) of positive numbers, but got {ranges}."
        raise ConfigError(cause, "Pass e.g. global_scale=(0.6, 1.0).")
    if max(config["global_scale"][1], config["local_scale"][1]) > 1 or config["window"][0] >= config["window"][1]:
        cause = f"Expected shares up to 1 and a window (low, high), but got {config}."
        raise ConfigError(cause, "Pass e.g. local_scale=(0.3, 0.6), window=(-997, 888).")
