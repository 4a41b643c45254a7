"""Resize label maps by majority: the label that fills most of a target voxel wins."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from scipy.sparse import csr_array


def resample_majority(labels: NDArray[Any], size: Sequence[int]) -> NDArray[Any]:
    """Resize a label map by the exact volume that each label fills of a target voxel.

    Volumes are whole numbers, counted in parts of a voxel that divide source and target alike, so
    nothing is rounded. Where several labels fill the same volume the lowest one wins, so a tie with
    the background is background. Any number of labels may meet in a voxel. Structures thinner than
    half a target voxel vanish, where the nearest voxel would keep some of their parts by chance.

    Args:
        labels: Whole numbers.
        size: Target ``(D, H, W)``.

    **Shape:**
        - labels: ``(D, H, W)``.

    Example:
        >>> import numpy as np
        >>> from ct_vlm.transforms.label_vote import resample_majority
        >>> resample_majority(np.array([[[1, 1, 2, 0, 0, 3]]]), (1, 1, 2)).tolist()
        [[[1, 0]]]
    """
    wanted = tuple(int(n) for n in size)
    if labels.shape == wanted:
        return labels
    depth, height, width = (_overlap(have, want) for have, want in zip(labels.shape, wanted, strict=True))
    result = np.empty(wanted, dtype=labels.dtype)
    for index in range(wanted[0]):
        part = slice(depth.indptr[index], depth.indptr[index + 1])
        slices, weights = depth.indices[part], depth.data[part]
        result[index] = _vote(labels[slices[0] : slices[-1] + 1], weights, height, width)
    return result


def _overlap(source: int, target: int) -> csr_array:
    """Return the length that each target voxel shares with each source voxel, targets by sources.

    A source voxel is ``target`` units long and a target voxel ``source`` units.
    """
    from scipy import sparse

    first = np.arange(target) * source // target
    last = (np.arange(1, target + 1) * source - 1) // target
    counts = last - first + 1
    pointers = np.concatenate([[0], np.cumsum(counts)])
    rows = np.repeat(np.arange(target), counts)
    columns = np.arange(pointers[-1]) - pointers[rows] + first[rows]
    stop = np.minimum((rows + 1) * source, (columns + 1) * target)
    start = np.maximum(rows * source, columns * target)
    return sparse.csr_array((stop - start, columns, pointers), shape=(target, source))


def _vote(block: NDArray[Any], weights: NDArray[np.int64], rows: csr_array, columns: csr_array) -> NDArray[Any]:
    """Return the winning label of each voxel of one target slice."""
    values, counts = _present(block)
    shape = (rows.shape[0], columns.shape[0])
    rest = int(counts.argmax())  # what the others leave belongs to the commonest label, which is not counted
    best = np.full(shape, int(weights.sum()) * rows.shape[1] * columns.shape[1], dtype=np.int64)
    volumes = {}
    for index in range(len(values)):
        if index != rest:
            volumes[index] = _volume(block == values[index], weights, rows, columns)
            volume, box = volumes[index]
            best[box] -= volume
    winner = np.full(shape, values[rest], dtype=block.dtype)
    for index, (volume, box) in volumes.items():
        wins = (volume > best[box]) | ((volume == best[box]) & (values[index] < winner[box]))
        best[box][wins] = volume[wins]
        winner[box][wins] = values[index]
    return winner


def _present(block: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Return the labels of a block in rising order, and how often each occurs."""
    lowest, highest = int(block.min()), int(block.max())
    if highest - lowest > 2**16:
        return np.unique(block, return_counts=True)
    counts = np.bincount(block.reshape(-1).astype(np.int64) - lowest)  # without sorting
    found = np.flatnonzero(counts)
    return (found + lowest).astype(block.dtype), counts[found]


def _volume(
    mask: NDArray[np.bool_], weights: NDArray[np.int64], rows: csr_array, columns: csr_array
) -> tuple[NDArray[np.int64], tuple[slice, slice]]:
    """Return the volume of a label in the target voxels around it, and where these lie."""
    y, x = (np.flatnonzero(mask.any(axis=others)) for others in ((0, 2), (0, 1)))
    part = (slice(int(y[0]), int(y[-1]) + 1), slice(int(x[0]), int(x[-1]) + 1))
    box = tuple(
        slice(first.start * m.shape[0] // m.shape[1], (first.stop * m.shape[0] - 1) // m.shape[1] + 1)
        for first, m in zip(part, (rows, columns), strict=True)
    )
    thick = np.tensordot(weights, mask[(slice(None), *part)].astype(np.int64), axes=1)
    volume = columns[box[1], part[1]] @ (rows[box[0], part[0]] @ thick).T
    return np.ascontiguousarray(volume.T), (box[0], box[1])
