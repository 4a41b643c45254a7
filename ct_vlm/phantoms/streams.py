"""Keyed random streams: one per purpose, so that changing one thing changes nothing else."""

from __future__ import annotations

import zlib

import numpy as np


def stream(seed: int, *key: str | int) -> np.random.Generator:
    """Return the generator that belongs to a seed and a key.

    Two keys give independent streams, the same key the same stream in every process: drawing more
    from one (say, for a nodule) never shifts another (say, the anatomy).

    Args:
        seed: Non-negative seed of the patient.
        key: Purpose of the stream, e.g. ``("finding", "Lung nodule", 0)``.

    Returns:
        A generator at the start of its stream.

    Example:
        >>> from ct_vlm.phantoms.streams import stream
        >>> bool(stream(1, "anatomy").random() == stream(1, "anatomy").random())
        True
        >>> bool(stream(1, "anatomy").random() == stream(1, "labels").random())
        False
    """
    words = tuple(part if isinstance(part, int) else zlib.crc32(part.encode()) for part in key)
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=words)))
