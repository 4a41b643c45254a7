"""Disjoint parts of a data set for the tasks of a job array."""

from __future__ import annotations

import heapq
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from ct_vlm.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ct_vlm.datasets.sample import Sample

_SLURM = "SLURM_ARRAY_TASK_"


@dataclass(frozen=True)
class Shard:
    """One of several parts of equal work, counted from 1.

    Args:
        number: Which part, 1 to ``count``.
        count: How many parts.

    Raises:
        ConfigError: If the number lies outside.

    Example:
        >>> from ct_vlm.datasets.preprocessing import Shard
        >>> Shard.parse("2/8")
        Shard(number=2, count=8)
        >>> Shard.parse("auto", {"SLURM_ARRAY_TASK_ID": "0", "SLURM_ARRAY_TASK_COUNT": "4"})
        Shard(number=1, count=4)
    """

    number: int = 1
    count: int = 1

    def __post_init__(self) -> None:
        """Check the number."""
        if not 1 <= self.number <= self.count:
            cause = f"There is no shard {self.number} of {self.count}."
            raise ConfigError(cause, "Shards count from 1: `1/8` to `8/8`.")

    @classmethod
    def parse(cls, text: str, environment: Mapping[str, str] | None = None) -> Self:
        """Read ``i/n`` (from 1), or ``auto`` for the task of a SLURM array, whatever number that starts at.

        Args:
            text: What the user wrote.
            environment: Variables to read; by default those of the process.

        Raises:
            ConfigError: If it is neither, or ``auto`` outside of an array.
        """
        if text == "auto":
            return cls._of_array(os.environ if environment is None else environment)
        match = re.fullmatch(r"(\d+)/(\d+)", text)
        if match is None:
            cause = f"Expected a shard as `i/n` or `auto`, but got {text!r}."
            raise ConfigError(cause, "Shards count from 1: `1/8` to `8/8`.")
        return cls(int(match[1]), int(match[2]))

    @classmethod
    def _of_array(cls, environment: Mapping[str, str]) -> Self:
        """Take the shard from the variables of an array task."""
        task, count = (environment.get(_SLURM + name, "") for name in ("ID", "COUNT"))
        first, last, step = (environment.get(_SLURM + name, "") for name in ("MIN", "MAX", "STEP"))
        if not (task.isdecimal() and count.isdecimal()):
            cause = f"`{_SLURM}ID` and `{_SLURM}COUNT` are not set, so the shard is unknown."
            raise ConfigError(cause, "Start the command as a task of a job array, or pass `i/n`.")
        begin, stride = int(first or 0), int(step or 1)
        regular = not last.isdecimal() or begin + (int(count) - 1) * stride == int(last)
        if not regular or (int(task) - begin) % stride:
            cause = f"The array's task numbers are no regular sequence (task {task}, {count} tasks, {first} to {last})."
            raise ConfigError(cause, "Pass `i/n` yourself; resubmitted tasks keep the shard they had.")
        return cls((int(task) - begin) // stride + 1, int(count))

    def of(self, samples: Sequence[Sample]) -> list[Sample]:
        """Return this part of the samples, in their order.

        The parts are disjoint, complete, and of about equal size in bytes. They are the same in every process that
        sees the same files, so the tree must not change between the first and the last task of an array.

        Args:
            samples: All of them.
        """
        if self.count == 1:
            return list(samples)
        sizes = [_size(sample) for sample in samples]
        largest_first = sorted(range(len(samples)), key=lambda i: (-sizes[i], samples[i].name.volume_id))
        loads = [(0, 0, part) for part in range(self.count)]  # bytes, volumes, part
        mine = []
        for position in largest_first:
            volume_bytes, volumes, part = loads[0]
            heapq.heapreplace(loads, (volume_bytes + sizes[position], volumes + 1, part))
            if part == self.number - 1:
                mine.append(position)
        return [samples[position] for position in sorted(mine)]

    def __str__(self) -> str:
        """Return ``i/n``."""
        return f"{self.number}/{self.count}"


def _size(sample: Sample) -> int:
    """Return the size of a sample's file, 0 if it is gone."""
    try:
        return sample.path.stat().st_size
    except OSError:
        return 0
