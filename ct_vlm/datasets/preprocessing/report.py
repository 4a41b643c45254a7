"""The list of bad files: a journal that survives any end of the run, and tables made from it."""

from __future__ import annotations

import contextlib
import csv
import json
import logging
import os
import socket
import time
import uuid
from dataclasses import asdict, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from filelock import FileLock, Timeout

from ct_vlm import __version__
from ct_vlm.datasets.preprocessing.outcome import Failure
from ct_vlm.files import atomic_path

if TYPE_CHECKING:
    from collections.abc import Iterator

_LOG = logging.getLogger(__name__)
_FORMAT = 1
_EVERY_SECONDS = 10.0
_LOCK_SECONDS = 30.0
_COLUMNS = ("preset", *(field.name for field in fields(Failure)), "version", "host", "time")


class FailureReport:
    """``preprocess_report.json`` and ``.csv`` in a folder, for any number of runs at once.

    Every failure is a line in a journal of this run (``preprocess_report.d/*.jsonl``), on disk before the next file;
    the tables are made from all journals, every few seconds and at the end, and replaced as a whole. A volume that
    is preprocessed later leaves the tables. Files of the data set are never touched.

    Args:
        folder: Where the report lies; made when first needed.
        preset: Identifies the preprocessing; failures of others stay in the tables as they are.

    Example:
        >>> import tempfile
        >>> from ct_vlm.datasets.preprocessing import Failure, FailureReport
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with FailureReport(folder, "uvlm") as report:
        ...         report.failed(Failure("train_1_a_1", "a.nii.gz", "HUError", "It holds NaN.", quarantined=True))
        ...     list(FailureReport(folder, "uvlm").known())
        ['train_1_a_1']
    """

    def __init__(self, folder: str | Path, preset: str) -> None:
        self.folder = Path(folder)
        self.preset = preset
        self._journal: TextIO | None = None
        self._blocked = False
        self._written = time.monotonic()
        self._times: dict[str, float] = {}  # of the last known record of a volume

    @property
    def table(self) -> Path:
        """The JSON table."""
        return self.folder / "preprocess_report.json"

    @property
    def journals(self) -> Path:
        """The folder of journals."""
        return self.folder / "preprocess_report.d"

    def __enter__(self) -> FailureReport:
        """Return the report; files are made when there is something to say."""
        return self

    def __exit__(self, *error: object) -> None:
        """Write the tables and close the journal, however the run ended."""
        if self._journal is not None:
            self._write_tables()
            with contextlib.suppress(OSError):  # what a full disk did not take is written again here
                self._journal.close()
            self._journal = None

    def known(self) -> dict[str, Failure]:
        """Return this preset's volumes that failed and would fail again with this version of the library."""
        return {
            record["volume"]: _failure(record)
            for record in self._records()
            if record["preset"] == self.preset and record["quarantined"] and record["version"] == __version__
        }

    def listed(self) -> set[str]:
        """Return this preset's volumes that failed and were not preprocessed since."""
        mine = [record for record in self._records() if record["preset"] == self.preset]
        self._times = {record["volume"]: record["time"] for record in mine}
        return set(self._times)

    def failed(self, failure: Failure) -> None:
        """Note a failure.

        Args:
            failure: What is wrong with which volume.
        """
        self._append({**asdict(failure), "state": "failed"})

    def resolved(self, volume: str) -> None:
        """Note that a volume which failed before is preprocessed now.

        Args:
            volume: Its name.
        """
        self._append({**asdict(Failure(volume, "", "", "")), "state": "resolved"})

    def _append(self, record: dict[str, Any]) -> None:
        """Put a line on disk; a folder that cannot be written gives one warning."""
        if self._blocked:
            return
        # another machine's clock may be ahead; what is said later must still count as later
        now = max(time.time(), self._times.get(record["volume"], 0.0) + 1e-3)
        stamp = {"preset": self.preset, "version": __version__, "host": socket.gethostname(), "time": now}
        try:
            if self._journal is None:
                self.journals.mkdir(parents=True, exist_ok=True)
                name = f"{time.time_ns()}-{os.getpid()}-{uuid.uuid4().hex[:8]}.jsonl"
                self._journal = (self.journals / name).open("x", encoding="utf-8")
            self._journal.write(json.dumps({**record, **stamp}) + "\n")
            self._journal.flush()
            os.fsync(self._journal.fileno())
        except OSError as error:
            self._blocked = True
            _LOG.warning("Cannot write the report `%s` (%s); going on without it.", self.folder, error)
            return
        if time.monotonic() - self._written > _EVERY_SECONDS:
            self._write_tables()

    def _write_tables(self) -> None:
        """Make the tables from all journals."""
        self._written = time.monotonic()
        try:
            with _locked(self.journals / "lock"):
                records = sorted(self._records(), key=lambda record: (record["preset"], record["volume"]))
                rows = [{name: _shown(name, record[name]) for name in _COLUMNS} for record in records]
                with atomic_path(self.table) as temporary:
                    text = json.dumps({"format": _FORMAT, "failures": rows}, indent=2, ensure_ascii=False)
                    temporary.write_text(text + "\n", encoding="utf-8")
                with (
                    atomic_path(self.table.with_suffix(".csv")) as temporary,
                    temporary.open("w", newline="", encoding="utf-8") as stream,
                ):
                    writer = csv.DictWriter(stream, _COLUMNS)
                    writer.writeheader()
                    writer.writerows(rows)
        except OSError as error:
            _LOG.warning("Cannot write the report `%s` (%s).", self.table, error)

    def _records(self) -> list[dict[str, Any]]:
        """Return the failures that stand: the last word on each volume, if it is a failure."""
        last: dict[tuple[str, str], dict[str, Any]] = {}
        for record in sorted(_lines(self.journals), key=lambda record: record["time"]):
            last[record["preset"], record["volume"]] = record
        return [record for record in last.values() if record["state"] == "failed"]


def _lines(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield the whole lines of all journals; a run that was killed may have left half of one."""
    for path in sorted(folder.glob("*.jsonl")):
        try:
            text = path.read_text(encoding="utf-8", errors="replace")
        except OSError as error:
            _LOG.warning("Cannot read `%s` (%s).", path, error)
            continue
        for line in text.splitlines():
            with contextlib.suppress(ValueError):
                record = json.loads(line)
                if isinstance(record, dict) and {*_COLUMNS, "state"} <= set(record):
                    yield record


def _failure(record: dict[str, Any]) -> Failure:
    """Return the failure of a journal's line."""
    return Failure(**{field.name: record[field.name] for field in fields(Failure)})


def _shown(name: str, value: Any) -> Any:
    """Return a value as the tables show it."""
    return datetime.fromtimestamp(value, UTC).isoformat(timespec="seconds") if name == "time" else value


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Let one process at a time make the tables, so that an older state never replaces a newer one."""
    lock = FileLock(path)
    try:
        lock.acquire(timeout=_LOCK_SECONDS)
    except (Timeout, NotImplementedError) as error:  # some network file systems have no locks
        _LOG.warning("Cannot lock `%s` (%s); the report may lag behind its journals.", path, error)
    try:
        yield
    finally:
        lock.release()
