"""Where the visual tokens and the padding of a batch stand."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import torch

from ct_vlm.errors import ShapeError

if TYPE_CHECKING:
    from torch import Tensor


class Run(NamedTuple):
    """Samples whose tokens stand alike.

    Args:
        samples: Their indices in the batch.
        skip: Positions of padding on the left.
        start: Position of the first visual token, counted behind that padding.
    """

    samples: tuple[int, ...]
    skip: int
    start: int


class PrefixLayout:
    """Places of N visual tokens a sample in sequences of S positions; make one a forward pass, not a layer.

    Nothing is read from the device before a backend needs it, and what is read is kept.

    Args:
        starts: Position of the first visual token of every sample.
        length: N, the number of visual tokens.
        total: S, the number of positions.
        attention_mask: True (or 1) at real tokens; None means no padding.

    Shape:
        - starts: ``(B,)``; attention_mask: ``(B, S)``.

    Raises:
        ShapeError: If shapes do not fit together.

    Example:
        >>> import torch
        >>> from ct_vlm.ops.prefix_attention import PrefixLayout
        >>> PrefixLayout(torch.tensor([1]), 2, 4).visible()[0, 0].int()
        tensor([[1, 0, 0, 0],
                [1, 1, 1, 0],
                [1, 1, 1, 0],
                [1, 1, 1, 1]], dtype=torch.int32)
    """

    def __init__(self, starts: Tensor, length: int, total: int, attention_mask: Tensor | None = None) -> None:
        if starts.ndim != 1 or starts.is_floating_point() or not 0 <= length <= total:
            cause = (
                f"Expected one start a sample and 0 to {total} visual tokens, but got {tuple(starts.shape)}, {length}."
            )
            raise ShapeError(cause, "Pass integers (B,), and count visual and text tokens in `total`.")
        if attention_mask is not None and attention_mask.shape != (len(starts), total):
            cause = f"Expected `attention_mask` {(len(starts), total)}, but got {tuple(attention_mask.shape)}."
            raise ShapeError(cause, "It covers visual and text positions.")
        self.starts = starts
        self.length = length
        self.total = total
        self.valid = None if attention_mask is None else attention_mask.bool()
        self._visible: dict[int, Tensor] = {}
        self._causal: dict[tuple[int, int], Tensor] = {}

    def visible(self, rows: int | None = None) -> Tensor:
        """Return which key (column) the last ``rows`` positions see: the dense mask, for those who need one.

        Padding is seen by nobody else; it sees itself, because a row without any key has no softmax.

        Args:
            rows: Number of rows; None means all.

        Shape:
            - Output: ``(B, 1, rows, S)``, bool.
        """
        rows = self.total if rows is None else rows
        if rows not in self._visible:
            place = torch.arange(self.total, device=self.starts.device)
            row = place[self.total - rows :, None]
            starts = self.starts[:, None]
            visual = (place >= starts) & (place < starts + self.length)
            seen = (place <= row) | (visual[:, self.total - rows :, None] & visual[:, None])
            if self.valid is not None:
                seen = seen & self.valid[:, None] | (place == row)
            self._visible[rows] = seen[:, None]
        return self._visible[rows]

    def causal(self, rows: int, keys: int) -> Tensor:
        """Return what the last ``rows`` of ``keys`` positions see if none of them is visual; ``(rows, keys)``, bool."""
        if (rows, keys) not in self._causal:
            ones = torch.ones(rows, keys, dtype=torch.bool, device=self.starts.device)
            self._causal[rows, keys] = ones.tril(keys - rows)
        return self._causal[rows, keys]

    @cached_property
    def runs(self) -> tuple[Run, ...] | None:
        """Samples by their layout, or None if padding stands in between tokens; it waits for the device.

        Padding on the right needs no care: only padding looks at it.
        """
        starts = self.starts.tolist()
        if any(start < 0 or start + self.length > self.total for start in starts):
            cause = f"{self.length} visual tokens from {starts} on do not fit into {self.total} positions."
            raise ShapeError(cause, "Count the visual tokens in `total`.")
        skips = [0] * len(starts) if self.valid is None else self._padding(self.valid)
        groups: dict[tuple[int, int], list[int]] = {}
        for sample, (skip, start) in enumerate(zip(skips, starts, strict=True)):
            if skip < 0 or start < skip:
                return None
            groups.setdefault((skip, start - skip), []).append(sample)
        return tuple(Run(tuple(samples), *places) for places, samples in groups.items())

    def _padding(self, valid: Tensor) -> list[int]:
        """Return the positions of padding on the left of every sample, -1 where it stands in between tokens."""
        first = valid.int().argmax(1)
        last = self.total - valid.flip(1).int().argmax(1)
        whole = (valid.sum(1) == last - first) & (last >= self.starts + self.length)
        return torch.where(whole, first, -1).tolist()
