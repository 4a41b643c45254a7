"""The preprocessing of published systems, as data; what no source states is marked inferred."""

from __future__ import annotations

from typing import Any

_CT_CLIP_GRID: dict[str, Any] = {
    "spacing": (1.5, 0.75, 0.75),
    "size": (240, 480, 480),
    "pad_hu": -1000,
}

PRESET_SETTINGS: tuple[dict[str, Any], ...] = (
    {
        "name": "ct_clip",
        "axcodes": ("S", "L", "P"),
        **_CT_CLIP_GRID,
        "windows": ((-1000, 1000),),
        "norm": "symmetric",
        "notes": (
            "CT-CLIP and CT-CHAT code: their tensor is (z, x, y) of the stored array, so the axes are S, L, P. "
            "HU are clipped after resampling, as in their training; their inference clips before."
        ),
    },
    {
        "name": "ct2rep",
        "axcodes": ("S", "L", "P"),
        **_CT_CLIP_GRID,
        "windows": ((-1000, 200),),
        "norm": "affine",
        "offset": 400,
        "scale": 600,
        "notes": (
            "CT2Rep code: (x + 400) / 600 of HU clipped to [-1000, 200]. Padding of -1000 HU gives the published "
            "value -1. Axes as in CT-CLIP's files (inferred)."
        ),
    },
    {
        "name": "reg2rg",
        "size": (64, 256, 256),
        "foreground_hu": -1000,
        "windows": ((-1000, 200),),
        "norm": "affine",
        "offset": 400,
        "scale": 600,
        "repeat": 3,
        "notes": (
            "Reg2RG code. Differs: its tensor is (x, y, z) = (256, 256, 64); axes are canonical here, and masks "
            "are resized by nearest voxel, not linearly."
        ),
    },
    {
        "name": "radgenome",
        "size": (64, 256, 256),
        "interpolation": "area",
        "windows": ((-1000, 200),),
        "norm": "zscore",
        "notes": (
            "RadGenome-ChestCT baseline code. Differs: axes are canonical here, and masks are resized by nearest "
            "voxel, not by area."
        ),
    },
    {
        "name": "uvlm",
        "size": (192, 256, 256),
        "windows": ((-1024, 3071),),
        "norm": "zscore",
        "notes": (
            "U-VLM code: fixed size whatever the spacing, z-score of each volume. Differs: axes are canonical "
            "here (its D runs from foot to head), and values sit at voxel centres (its zoom aligns corners). "
            "The window is the CT scale (inferred: its code does not clip)."
        ),
    },
    {
        "name": "absteering",
        **_CT_CLIP_GRID,
        "windows": ((-1000, 200),),
        "norm": "unit",
        "repeat": 3,
        "notes": "AbSteering: 240 frames of 480 x 480, HU [-1000, 200]. The spacing is CT-CLIP's (inferred).",
    },
    {
        "name": "medregion",
        "size": (32, 256, 256),
        "windows": ((-1000, 1000),),
        "norm": "minmax",
        "repeat": 3,
        "notes": "MedRegion-CT: min-max normalisation, 256 x 256 x 32, slices for RAD-DINO. The window is inferred.",
    },
    {
        "name": "ker_vljepa",
        "size": (None, 504, 504),
        "windows": ((-997, 888),),
        "norm": "affine",
        "offset": 142.39,
        "scale": 360.97,
        "notes": (
            "Public code of the slice encoder: every slice, 504 x 504, z-score with the mean -142.39 HU and "
            "deviation 360.97 HU of CT-RATE's foreground. Differs: linear, not nearest, in-plane. "
            "Full slices are inferred."
        ),
    },
    {
        "name": "phantom",
        "size": (64, 64, 64),
        "windows": ((-1000, -200), (-160, 240), (200, 1400)),
        "norm": "unit",
        "notes": "Small grid for phantoms and quick starts: lung, soft-tissue and bone windows (our own).",
    },
)
"""Arguments of :class:`ct_vlm.transforms.CTPreset` for each named preset."""
