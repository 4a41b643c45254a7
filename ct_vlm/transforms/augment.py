"""Augmentation that never contradicts the report: small, on image and masks alike, no silent flip."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np

from ct_vlm.errors import ConfigError
from ct_vlm.text.laterality import swap_laterality
from ct_vlm.transforms.configured import Configured

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

# parts that only one lung has: the mirrored finding has no name
_ONE_SIDED = re.compile(r"lingul|middle lobe|\bRML\b|\bLUL\b|\bLLL\b|\bRUL\b|\bRLL\b", re.IGNORECASE)


class FlipSafeAugmentation(Configured):
    """Intensity and small affine changes by MONAI, and an optional text-aware left-right flip.

    Image, segmentation and region masks always move together. D (head to foot) and H (front to back) are never
    flipped, because no report stays true of such a volume. The left-right flip is off by default:
    it also mirrors heart and liver. Where it is on, it swaps *left* and *right* in the report and
    the ids of lateralised structures, and leaves samples alone whose report names a part that only
    one lung has (lingula, middle lobe).

    Args:
        probability: Chance of each intensity change and of the affine change.
        noise_hu: Largest deviation of added Gaussian noise, in HU.
        shift_hu: Largest brightness change, in HU.
        contrast: Largest relative change of contrast around 0 HU.
        gamma: Range of the exponent applied to the volume's own HU range.
        rotate_degrees: Largest rotation about each axis.
        scale: Largest relative change of size.
        translate: Largest shift as a share of each axis.
        flip_probability: Chance of a left-right flip.
        lateral_pairs: Segmentation ids that a flip exchanges, e.g. ``((10, 13), (11, 14))``.
        pad_hu: HU of voxels that move in from outside.
        lateral_regions: Indices of region masks that a flip exchanges, e.g. ``((0, 1),)``.

    **Shape:**
        - image: ``(1, D, H, W)`` HU.
        - segmentation: ``(D, H, W)``.
        - region_masks: ``(R, D, H, W)``.

    Raises:
        ConfigError: If a probability or a range is out of bounds.

    Example:
        >>> import torch
        >>> from ct_vlm.transforms import FlipSafeAugmentation
        >>> flip = FlipSafeAugmentation(probability=0.0, flip_probability=1.0)
        >>> item = {"image": torch.arange(4, dtype=torch.int16).view(1, 1, 1, 4), "report": "Left effusion."}
        >>> result = flip(item, seed=0)
        >>> result["image"].flatten().tolist(), result["report"]
        ([3, 2, 1, 0], 'Right effusion.')

    References:
        Defaults are our own (inferred). Differs from the U-VLM code, which mirrors D and H under
        an unchanged report and moves the image without its mask.
    """

    def __init__(
        self,
        probability: float = 0.3,
        noise_hu: float = 20.0,
        shift_hu: float = 20.0,
        contrast: float = 0.1,
        gamma: tuple[float, float] = (0.9, 1.1),
        rotate_degrees: float = 5.0,
        scale: float = 0.05,
        translate: float = 0.03,
        flip_probability: float = 0.0,
        lateral_pairs: Sequence[Sequence[int]] = (),
        pad_hu: int = -1024,
        lateral_regions: Sequence[Sequence[int]] = (),
    ) -> None:
        if not (0 <= probability <= 1 and 0 <= flip_probability <= 1):
            cause = f"Expected probabilities in [0, 1], but got {probability} and {flip_probability}."
            raise ConfigError(cause, "Pass e.g. 0.3.")
        if rotate_degrees > 15 or scale > 0.25 or translate > 0.25 or not 0 < gamma[0] <= gamma[1]:
            cause = f"Expected small changes, but got {rotate_degrees=}, {scale=}, {translate=}, {gamma=}."
            raise ConfigError(cause, "Stay within 15 degrees, 25 % of size and shift, and a positive gamma range.")
        self.config = {
            "probability": probability,
            "noise_hu": noise_hu,
            "shift_hu": shift_hu,
            "contrast": contrast,
            "gamma": list(gamma),
            "rotate_degrees": rotate_degrees,
            "scale": scale,
            "translate": translate,
            "flip_probability": flip_probability,
            "lateral_pairs": [list(pair) for pair in lateral_pairs],
            "pad_hu": pad_hu,
            "lateral_regions": [list(pair) for pair in lateral_regions],
        }
        self.flip_probability = flip_probability
        self.lateral_pairs = [(int(first), int(second)) for first, second in lateral_pairs]
        self.lateral_regions = [(int(first), int(second)) for first, second in lateral_regions]

    def __call__(self, item: Mapping[str, Any], seed: int) -> dict[str, Any]:
        """Return a changed copy of an item; the same seed gives the same change.

        Args:
            item: Holds ``image`` and, optionally, ``segmentation``, ``region_masks``,
                ``region_present``, ``region_mask_found``, ``region_text_present``, ``report`` and
                ``region_reports``.
            seed: Decides every random choice.
        """
        result = dict(item)
        generator = np.random.default_rng(seed)
        if self.config["probability"] > 0:
            self._monai(result, int(generator.integers(2**31)))
        if generator.random() < self.flip_probability and not _ONE_SIDED.search(str(item.get("report") or "")):
            self._flip(result)
        return result

    def _monai(self, item: dict[str, Any], seed: int) -> None:
        """Apply intensity and affine changes in place."""
        from monai.utils.type_conversion import convert_to_tensor

        original = item["image"]
        work: dict[str, Any] = {"image": original.float()}
        if "segmentation" in item:
            work["segmentation"] = item["segmentation"][None].float()
        if "region_masks" in item:
            work["region_masks"] = item["region_masks"].float()
        work = self._intensity().set_random_state(seed=seed)(work)
        work["image"] = work["image"] - self.config["pad_hu"]  # zeros moved in from outside become `pad_hu`
        work = self._affine(list(work), original.shape[1:]).set_random_state(seed=seed)(work)
        work = {key: convert_to_tensor(value, track_meta=False) for key, value in work.items()}
        image = work["image"] + self.config["pad_hu"]
        item["image"] = image.round().clamp(-32768, 32767).to(original.dtype)
        if "segmentation" in item:
            item["segmentation"] = work["segmentation"][0].round().to(item["segmentation"].dtype)
        if "region_masks" in item:
            item["region_masks"] = work["region_masks"].round().to(item["region_masks"].dtype)

    def _intensity(self) -> Any:
        """Return the MONAI transform of HU values."""
        from monai.transforms.compose import Compose
        from monai.transforms.intensity import dictionary as intensity

        c = self.config
        chance = c["probability"]
        return Compose(
            [
                intensity.RandScaleIntensityd("image", factors=c["contrast"], prob=chance),
                intensity.RandShiftIntensityd("image", offsets=c["shift_hu"], prob=chance),
                intensity.RandAdjustContrastd("image", gamma=tuple(c["gamma"]), prob=chance),
                intensity.RandGaussianNoised("image", std=c["noise_hu"], prob=chance),
            ]
        )

    def _affine(self, keys: list[str], size: Sequence[int]) -> Any:
        """Return the MONAI transform of the grid, one for image and masks."""
        from monai.transforms.spatial.dictionary import RandAffined

        c = self.config
        return RandAffined(
            keys,
            prob=c["probability"],
            rotate_range=(float(np.radians(c["rotate_degrees"])),) * 3,
            scale_range=(c["scale"],) * 3,
            translate_range=[c["translate"] * n for n in size],
            mode=["bilinear" if key == "image" else "nearest" for key in keys],
            padding_mode="zeros",
        )

    def _flip(self, item: dict[str, Any]) -> None:
        """Mirror left and right in voxels, mask ids, regions and text, in place."""
        item["image"] = item["image"].flip(-1)
        if "segmentation" in item:
            labels = item["segmentation"].flip(-1)
            swapped = labels.clone()
            for first, second in self.lateral_pairs:
                swapped[labels == first] = second
                swapped[labels == second] = first
            item["segmentation"] = swapped
        if "region_masks" in item:
            item["region_masks"] = self._swap_regions(item["region_masks"].flip(-1))
        for key in ("region_present", "region_mask_found", "region_text_present"):
            if key in item:
                item[key] = self._swap_regions(item[key])
        if isinstance(item.get("report"), str):
            item["report"] = swap_laterality(item["report"])
        if isinstance(item.get("region_reports"), dict):
            item["region_reports"] = {
                swap_laterality(name): swap_laterality(text) for name, text in item["region_reports"].items()
            }

    def _swap_regions(self, values: Tensor) -> Tensor:
        """Exchange the entries of left and right regions along the first axis."""
        order = list(range(len(values)))
        for first, second in self.lateral_regions:
            order[first], order[second] = order[second], order[first]
        return values[order]
