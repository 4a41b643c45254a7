"""Mean and covariance of rows that come in parts, in float64, and directions of most variance."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.distributed as dist

from ct_vlm.errors import ShapeError

if TYPE_CHECKING:
    from torch import Tensor


class StreamingCovariance:
    """Count, mean and scatter matrix of all rows seen so far.

    Parts are merged by the pairwise formulas of Chan et al., so that the result does not depend on
    how rows are cut into parts beyond the rounding of float64, and a large common mean does no harm.
    The numbers live on the CPU, as accelerators may lack float64.

    Args:
        dim: Width D of a row.
        buffer: Rows that are gathered before they are worked in: a matrix of ``D ** 2`` numbers is updated then.

    Example:
        >>> import torch
        >>> from ct_vlm.modules.streaming_covariance import StreamingCovariance
        >>> rows = torch.randn(100, 3)
        >>> seen = StreamingCovariance(3)
        >>> for part in rows.split(30):
        ...     seen.update(part)
        >>> torch.allclose(seen.covariance(), torch.cov(rows.double().T))
        True

    References:
        Chan, Golub, LeVeque, "Updating formulae and a pairwise algorithm for computing sample
        variances", 1979.
    """

    def __init__(self, dim: int, buffer: int = 1024) -> None:
        self.dim, self.buffer = dim, buffer
        self._count, self._waiting = 0, list[torch.Tensor]()
        self._mean = torch.zeros(dim, dtype=torch.float64)
        self._scatter = torch.zeros(dim, dim, dtype=torch.float64)

    @property
    def count(self) -> int:
        """Rows seen."""
        return self._count + sum(map(len, self._waiting))

    @property
    def mean(self) -> Tensor:
        """Mean of the rows, ``(D,)``, float64."""
        self._work_in()
        return self._mean

    @property
    def scatter(self) -> Tensor:
        """Sum of the outer products of the centred rows, ``(D, D)``, float64."""
        self._work_in()
        return self._scatter

    def update(self, rows: Tensor) -> None:
        """Take rows in.

        Args:
            rows: Any floating-point type, any device.

        Shape:
            - rows: ``(M, D)``.

        Raises:
            ShapeError: If the width is another one, or a value is not finite.
        """
        if rows.ndim != 2 or rows.shape[1] != self.dim:
            cause = f"Expected rows of width {self.dim} as (M, {self.dim}), but got {tuple(rows.shape)}."
            raise ShapeError(cause, "Flatten all but the last axis.")
        part = rows.detach().to("cpu", torch.float64)
        if not bool(part.isfinite().all()):
            cause = "A row holds a value that is not finite; one such row would spoil the whole fit."
            raise ShapeError(cause, "Look for empty texts (a mean over nothing) and for overflow of half precision.")
        # a copy: the caller may use its tensor again before the rows are worked in
        self._waiting.append(part.clone() if part.data_ptr() == rows.data_ptr() else part)
        if sum(map(len, self._waiting)) >= self.buffer:
            self._work_in()

    def merge(self, other: StreamingCovariance) -> None:
        """Take in what another process or shard has seen.

        Args:
            other: Of the same width; it is not changed.

        Raises:
            ShapeError: If the widths differ.
        """
        if other.dim != self.dim:
            cause = f"Expected statistics of width {self.dim}, but got {other.dim}."
            raise ShapeError(cause, "Merge statistics of the same embeddings.")
        self._work_in()
        if other.count:
            self._add(other.count, other.mean)
            self._scatter += other.scatter

    def all_reduce(self) -> None:
        """Merge the statistics of all processes of a distributed run; each then holds those of all rows."""
        if not (dist.is_available() and dist.is_initialized()):
            return
        device = torch.device("cuda") if dist.get_backend() == "nccl" else torch.device("cpu")
        count = torch.tensor([self.count], dtype=torch.float64, device=device)
        dist.all_reduce(count)
        total = int(count.item())
        if total == 0:
            return
        mean = (self.mean * (self.count / total)).to(device)
        dist.all_reduce(mean)
        gap = self.mean - mean.cpu()
        scatter = (self.scatter + self.count * torch.outer(gap, gap)).to(device)
        dist.all_reduce(scatter)
        self._count, self._mean, self._scatter = total, mean.cpu(), scatter.cpu()

    def covariance(self) -> Tensor:
        """Return the unbiased covariance ``(D, D)``, float64.

        Raises:
            ShapeError: If fewer than two rows were seen.
        """
        if self.count < 2:
            cause = f"A covariance needs at least 2 rows, but {self.count} were seen."
            raise ShapeError(cause, "Call `update` with embeddings first.")
        return self.scatter / (self.count - 1)

    def directions(self, count: int) -> tuple[Tensor, Tensor]:
        """Return the directions of most variance and the variance along each, float64.

        They are the right singular vectors of the centred rows. Signs are fixed: the entry of largest
        magnitude is positive.

        Args:
            count: How many.

        Shape:
            - Output: ``(count, D)`` and ``(count,)``, largest variance first.

        Raises:
            ShapeError: If the rows do not span so many directions.
        """
        if not 1 <= count <= min(self.dim, self.count - 1):
            cause = f"{self.count} rows of width {self.dim} have no {count} principal directions."
            raise ShapeError(cause, f"Use more rows (at least {count + 1}), or ask for fewer directions.")
        values, vectors = torch.linalg.eigh(self.covariance())
        chosen = vectors.flip(1)[:, :count].T
        largest = chosen.gather(1, chosen.abs().argmax(1, keepdim=True))
        return chosen * largest.sign(), values.flip(0)[:count].clamp(min=0.0)

    def _work_in(self) -> None:
        """Work the gathered rows in."""
        rows = [part for part in self._waiting if len(part)]
        self._waiting.clear()
        if rows:
            part = torch.cat(rows)
            mean = part.mean(0)
            centred = part - mean
            self._add(len(part), mean)
            self._scatter.addmm_(centred.T, centred)

    def _add(self, count: int, mean: Tensor) -> None:
        """Take a part's count and mean in, and what their distance from the mean so far adds to the scatter."""
        total = self._count + count
        gap = mean - self._mean
        self._scatter.addr_(gap, gap, alpha=self._count * count / total)
        self._mean = self._mean + gap * (count / total)
        self._count = total


def covariance_of(rows: Tensor, part: int = 4096) -> StreamingCovariance:
    """Return the statistics of a matrix that is at hand as a whole.

    Args:
        rows: Floating-point rows ``(M, D)``.
        part: Rows that are held in float64 at a time.

    Example:
        >>> import torch
        >>> from ct_vlm.modules.streaming_covariance import covariance_of
        >>> covariance_of(torch.eye(4)).mean.tolist()
        [0.25, 0.25, 0.25, 0.25]
    """
    if rows.ndim != 2:
        cause = f"Expected rows as (M, D), but got {tuple(rows.shape)}."
        raise ShapeError(cause, "Flatten all but the last axis.")
    found = StreamingCovariance(rows.shape[1])
    for piece in rows.split(part):
        found.update(piece)
    return found
