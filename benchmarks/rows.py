"""Rows of measurements, and the CSV file that keeps them."""

from __future__ import annotations

import csv
import dataclasses
import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ct_vlm.errors import DatasetError
from ct_vlm.files import atomic_path

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


@dataclass(frozen=True)
class Row:
    """One provider in one mode; ``None`` is what was not or could not be measured.

    Args:
        date: UTC, of the start of the run.
        revision: Commit of the code, with ``-dirty`` if it was changed since.
        device: ``cpu`` or ``cuda``.
        processor: Its name.
        torch: Version.
        triton: Version, or empty.
        threads: Threads of the process.
        load: Mean number of running processes when the case began.
        clock: What was counted.
        tests: ``passed`` or ``skipped``: whether the op's tests ran before.
        op: Name of the op.
        case: Name of the size.
        dtype: Type of the inputs.
        provider: What ran.
        mode: ``forward`` (no gradients), ``backward`` or ``full`` (forward with gradients, and backward).
        repeats: Number of calls that were timed.
        median_ms: Median time.
        fastest_ms: Shortest time.
        slowest_ms: Longest time.
        ratio: Median of the op's baseline over this median.
        extra_mib: Memory needed beside the inputs.
        difference: Largest absolute difference to float64, of results or of gradients.
        reference_max: Largest absolute value of the reference.
        floor_ms: Least time of the least work at the ceilings.
        floor_share: The floor over the median.
        gflops: Ceiling of matrix products.
        gbs: Ceiling of reading memory.
        reason: Why there is no time.
    """

    date: str
    revision: str
    device: str
    processor: str
    torch: str
    triton: str
    threads: int
    load: float
    clock: str
    tests: str
    op: str
    case: str
    dtype: str
    provider: str
    mode: str
    repeats: int = 0
    median_ms: float | None = None
    fastest_ms: float | None = None
    slowest_ms: float | None = None
    ratio: float | None = None
    extra_mib: float | None = None
    difference: float | None = None
    reference_max: float | None = None
    floor_ms: float | None = None
    floor_share: float | None = None
    gflops: float | None = None
    gbs: float | None = None
    reason: str = ""


FIELDS = tuple(field.name for field in dataclasses.fields(Row))
_TEXT = {field.name for field in dataclasses.fields(Row) if field.type == "str"}
_WHOLE = {field.name for field in dataclasses.fields(Row) if field.type == "int"}


def read_rows(file: str | Path) -> list[Row]:
    """Read a CSV file of rows.

    Raises:
        DatasetError: If its columns are others.
    """
    with Path(file).open(encoding="utf-8", newline="") as opened:
        reader = csv.DictReader(opened)
        if tuple(reader.fieldnames or ()) != FIELDS:
            cause = f"{file} has other columns than measurements have."
            raise DatasetError(cause, "Name another file; this one is left as it is.")
        return [_parse(line) for line in reader]


def append_rows(file: str | Path, rows: Sequence[Row]) -> None:
    """Add rows to a CSV file, which may be new; those that are in it stay.

    Raises:
        DatasetError: If its columns are others.
    """
    path = Path(file)
    kept = read_rows(path) if path.exists() else []
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        temporary.write_text(_format([*kept, *rows]), encoding="utf-8", newline="")


def latest(rows: Iterable[Row]) -> list[Row]:
    """Keep of every device, op, case and data type the rows of its last run, in the order of the file."""
    rows = list(rows)
    last: dict[tuple[str, ...], str] = {}
    for row in rows:
        last[_place(row)] = max(row.date, last.get(_place(row), ""))
    return [row for row in rows if row.date == last[_place(row)]]


def _place(row: Row) -> tuple[str, ...]:
    return (row.device, row.op, row.case, row.dtype)


def _format(rows: Iterable[Row]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(FIELDS)
    writer.writerows([_cell(getattr(row, name)) for name in FIELDS] for row in rows)
    return text.getvalue()


def _cell(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.5g}" if isinstance(value, float) else str(value)


def _parse(line: dict[str, str]) -> Row:
    values: dict[str, str | int | float | None] = {}
    for name, text in line.items():
        if name in _TEXT:
            values[name] = text
        elif name in _WHOLE:
            values[name] = int(text)
        else:
            values[name] = float(text) if text else None
    return Row(**values)  # type: ignore[arg-type]
