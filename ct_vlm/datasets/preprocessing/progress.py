"""How far a run is: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from collections import deque
from datetime import timedelta
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from ct_vlm.datasets.preprocessing.outcome import Outcome

_WINDOW_SECONDS = 60.0
_FEWEST = 16
LOG_SECONDS = 30.0


class Meter:
    """Counts outcomes; rates are those of the last minute, or of the last 16 volumes if that is longer.

    Volumes that were present already do not count towards rates, else the time left would be far
    too short after a resume.

    Args:
        total: Volumes in all.
        clock: Seconds.

    Example:
        >>> from ct_vlm.datasets.preprocessing import Outcome
        >>> from ct_vlm.datasets.preprocessing.progress import Meter
        >>> seconds = iter([0.0, 2.0, 4.0])
        >>> meter = Meter(10, clock=lambda: next(seconds))
        >>> for name in "ab":
        ...     meter.add(Outcome(name, "made", source_bytes=30_000_000))
        >>> meter.line()
        '2/10 volumes, 0.5/s, 15.0 MB/s, 0:00:16 left'
    """

    def __init__(self, total: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.total = total
        self.done = 0
        self.failed = 0
        self._clock = clock
        self._now = clock()
        self._before = self._now  # time just before the oldest event in the window
        self._events: deque[tuple[float, int]] = deque()

    def add(self, outcome: Outcome) -> None:
        """Count an outcome.

        Args:
            outcome: Of one volume.
        """
        self.done += 1
        self.failed += outcome.state == "failed"
        self._now = self._clock()
        if outcome.state == "present":
            return
        self._events.append((self._now, outcome.source_bytes))
        while len(self._events) > _FEWEST and self._events[0][0] < self._now - _WINDOW_SECONDS:
            self._before = self._events.popleft()[0]

    def skip(self, count: int) -> None:
        """Count volumes that take no time.

        Args:
            count: How many.
        """
        self.done += count

    @property
    def seconds(self) -> float:
        """Length of the window."""
        return max(self._now - self._before, 1e-9)

    @property
    def volumes_per_second(self) -> float:
        """Rate of volumes that took work."""
        return len(self._events) / self.seconds

    @property
    def megabytes_per_second(self) -> float:
        """Rate at which their files were read."""
        return sum(size for _, size in self._events) / self.seconds / 1e6

    @property
    def seconds_left(self) -> float | None:
        """Time to the end at this rate; ``None`` while there is no rate."""
        return (self.total - self.done) / self.volumes_per_second if self._events else None

    def rates(self) -> str:
        """Return rates, failures and the time left."""
        parts = []
        if self._events:
            left = timedelta(seconds=round(self.seconds_left or 0.0))
            parts = [f"{self.volumes_per_second:.3g}/s", f"{self.megabytes_per_second:.1f} MB/s", f"{left} left"]
        if self.failed:
            parts.append(f"{self.failed} failed")
        return ", ".join(parts)

    def line(self) -> str:
        """Return everything in one line."""
        return ", ".join(part for part in (f"{self.done}/{self.total} volumes", self.rates()) if part)


class Display:
    """Shows a meter on stderr: a bar on a terminal, else a line every 30 seconds.

    Args:
        total: Volumes in all.
        label: What is going on.
        enabled: Show anything at all.
        console: Where; stderr by default.
        clock: Seconds.
    """

    def __init__(
        self,
        total: int,
        label: str,
        *,
        enabled: bool = True,
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.meter = Meter(total, clock)
        self._console = console or Console(stderr=True)
        self._enabled = enabled
        self._label = label
        self._clock = clock
        self._spoken = clock()
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rates]}"),
        )
        self._bar = Progress(*columns, console=self._console, disable=not (enabled and self._console.is_terminal))
        self._task = self._bar.add_task(label, total=total, rates="")

    def __enter__(self) -> Self:
        """Start drawing."""
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the last state on the screen."""
        self._bar.stop()

    def skip(self, count: int) -> None:
        """Count volumes that take no time.

        Args:
            count: How many.
        """
        self.meter.skip(count)
        self._bar.update(self._task, advance=count)

    def add(self, outcome: Outcome) -> None:
        """Count an outcome and show it.

        Args:
            outcome: Of one volume.
        """
        self.meter.add(outcome)
        self._bar.update(self._task, advance=1, rates=self.meter.rates())
        if not self._enabled or self._console.is_terminal:
            return
        now = self._clock()
        if now - self._spoken >= LOG_SECONDS:
            self._spoken = now
            self._console.print(f"{self._label}: {self.meter.line()}", highlight=False, soft_wrap=True, markup=False)
