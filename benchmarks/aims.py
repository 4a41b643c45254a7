"""The ratios that this library set out to reach on a CPU, and what a run reached."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.rows import Row

OURS = "ct_vlm"


class Aim(NamedTuple):
    """What another provider needs over what ``ct_vlm`` needs, in one case."""

    op: str
    case: str
    against: str
    mode: Literal["forward", "full"]
    quantity: Literal["time", "memory"]
    at_least: float
    ours: str = OURS


AIMS = (
    Aim("zone_attention", "b2_240_600_z8", "nn.MultiheadAttention + mask", "forward", "time", 6.5),
    Aim("zone_attention", "b2_240_600_z8", "nn.MultiheadAttention + mask", "full", "time", 5),
    Aim("mask_pool", "r197_32x64x64_c256", "naive", "forward", "time", 50),
    Aim("mask_pool", "r197_32x64x64_c256", "naive", "forward", "memory", 100),
    Aim("mask_pool", "r197_32x64x64_c256", "one_hot_matmul", "full", "time", 10),
    Aim("region_counts", "r6_240x480x480", "naive", "forward", "time", 40),
    Aim("prefix_attention", "b4_v384_t300", "eager + dense mask", "forward", "time", 5),
    Aim("prefix_attention", "b1_v3072_t300", "eager + dense mask", "forward", "time", 5),
    Aim("lm_loss", "v151669_384_300", "logits of all rows", "full", "time", 2.2),
    Aim("lm_loss", "v151669_384_300", "logits of all rows", "full", "memory", 2),
    Aim("generation", "v8192_n256", "full recomputation", "forward", "time", 20),
    Aim("load_volume", "512x512x300_to_240x480x480", "MONAI dictionary pipeline", "forward", "time", 24),
    Aim("load_volume", "512x512x300_to_240x480x480", "MONAI dictionary pipeline", "forward", "memory", 30),
    Aim("load_volume", "512x512x300_to_240x480x480", "CT-CLIP script", "forward", "time", 7),
    Aim("resample_volume", "300x512x512_to_240x480x480", "F.interpolate", "forward", "time", 10),
    Aim("resample_volume", "300x512x512_to_240x480x480", "scipy zoom", "forward", "time", 40),
    Aim("resample_volume", "300x512x512_to_240x480x480", "F.interpolate", "forward", "time", 10, "ct_vlm into"),
    Aim("resample_volume", "300x512x512_to_240x480x480", "scipy zoom", "forward", "time", 40, "ct_vlm into"),
    Aim("cached_volume", "int16_240x480x480", "MONAI PersistentDataset", "forward", "time", 12),
    Aim("cached_volume", "float32_240x480x480", "MONAI PersistentDataset", "forward", "time", 4),
    Aim("cached_volume", "float32_96x128x128", "MONAI PersistentDataset", "forward", "time", 70),
    Aim("cached_volume", "float32_96x128x128", "MONAI PersistentDataset", "forward", "time", 20, "ct_vlm zstd"),
    Aim("cached_volume", "float32_96x128x128", "MONAI PersistentDataset", "forward", "time", 20, "ct_vlm lz4"),
    Aim("video_cubes", "cubes_240x476x476", "mp4", "forward", "time", 15),
)


def reached(aim: Aim, rows: Sequence[Row]) -> float | None:
    """Return the ratio that rows of one device show, or None if they do not hold both providers.

    Args:
        aim: What to look up.
        rows: The latest rows of a device.
    """
    found = {
        row.provider: row.median_ms if aim.quantity == "time" else row.extra_mib
        for row in rows
        if (row.op, row.case, row.mode) == (aim.op, aim.case, aim.mode)
    }
    theirs, ours = found.get(aim.against), found.get(aim.ours)
    return theirs / ours if theirs is not None and ours else None
