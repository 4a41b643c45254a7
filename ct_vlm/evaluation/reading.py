"""Files of reports to rows: CSV, JSON, JSON lines and the VLM3D challenge's format."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ct_vlm.errors import DatasetError

if TYPE_CHECKING:
    from collections.abc import Sequence

FORMATS = (".csv", ".tsv", ".json", ".jsonl")
_CHALLENGE_KEY = "generated_reports"


class Rows(NamedTuple):
    """What a file holds.

    Args:
        columns: Names that occur, in order of appearance.
        records: One dict a row; what a row lacks is absent or ``None``.
        lines: Where each row stands in the file, as an editor or the format counts.
        unit: What ``lines`` counts: ``line`` or ``entry``.
    """

    columns: list[str]
    records: list[dict[str, Any]]
    lines: list[int]
    unit: str

    def find(self, names: Sequence[str]) -> str | None:
        """Return the first column of some names that the file has, or None.

        Names as they are go first, then those that differ in case or in blanks around them.

        Args:
            names: Names to look for, best first.

        Example:
            >>> from ct_vlm.evaluation.reading import Rows
            >>> Rows(["VOLUMENAME ", "text"], [], [], "line").find(["id", "VolumeName"])
            'VOLUMENAME '
        """
        exact = next((name for name in names if name in self.columns), None)
        if exact is not None:
            return exact
        plain = {column.strip().casefold(): column for column in reversed(self.columns)}
        return next((plain[key] for name in names if (key := name.casefold()) in plain), None)


def read_rows(path: str | Path) -> Rows:
    """Read the rows of a CSV, TSV, JSON or JSON-lines file.

    A JSON file is a list of objects, an object from id to report, an object with such a list under
    any single key, or the VLM3D challenge's ``{"generated_reports": [...]}``.

    Args:
        path: The file; its suffix tells the format.

    Raises:
        DatasetError: If it cannot be read, is of another format or holds no rows.

    Example:
        >>> import tempfile, pathlib
        >>> from ct_vlm.evaluation.reading import read_rows
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = pathlib.Path(folder, "reports.json")
        ...     _ = file.write_text('{"valid_1_a_1": "Heart size is normal."}')
        ...     read_rows(file).records
        [{'id': 'valid_1_a_1', 'report': 'Heart size is normal.'}]
    """
    file = Path(path)
    suffix = file.suffix.lower()
    if suffix not in FORMATS:
        cause = f"`{file}` is of no known format."
        raise DatasetError(cause, f"Pass a file ending in {', '.join(FORMATS)}.")
    try:
        rows = _read_table(file, "\t" if suffix == ".tsv" else ",") if suffix in {".csv", ".tsv"} else _read_json(file)
    except FileNotFoundError as error:
        cause = f"There is no file `{file}`."
        raise DatasetError(cause, "Check the path.") from error
    except (OSError, UnicodeDecodeError) as error:
        cause = f"`{file}` cannot be read: {error}."
        raise DatasetError(cause, "Save it as UTF-8 and check that it may be read.") from error
    if not rows.records:
        cause = f"`{file}` holds no rows."
        raise DatasetError(cause, "Pass a file with one row (or entry) a report.")
    return rows


def _read_table(file: Path, separator: str) -> Rows:
    """Read a table as text; blank cells become ``None``."""
    import csv
    import sys

    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    records, lines = [], []
    with file.open(encoding="utf-8-sig", newline="") as stream:
        reader = csv.DictReader(stream, delimiter=separator, strict=True)
        try:
            _check_separator(list(reader.fieldnames or ()), separator, file)
            for row in reader:
                if None in row or any(value is None for value in row.values()):
                    cause = f"Line {reader.line_num} of `{file}` has not as many cells as the header."
                    raise DatasetError(cause, "Put text that holds the separator or a line break in double quotes.")
                records.append({name: value if value.strip() else None for name, value in row.items()})
                lines.append(reader.line_num)
        except csv.Error as error:
            cause = f"Line {reader.line_num} of `{file}` is no valid CSV: {error}."
            raise DatasetError(cause, "Write the file with a CSV library, so that quotes are closed.") from error
        columns = list(reader.fieldnames or ())
    return Rows(columns, records, lines, "line")


def _check_separator(columns: list[str], separator: str, file: Path) -> None:
    """Raise if the header looks as if cells were separated by something else."""
    others = {";": "semicolons", "\t": "tabs", ",": "commas", "|": "bars"}
    found = [name for sign, name in others.items() if sign != separator and len(columns) == 1 and sign in columns[0]]
    if found:
        cause = f"The cells of `{file}` are separated by {found[0]}, not by {others[separator]}."
        raise DatasetError(cause, "Save it with commas, or with tabs as .tsv (spreadsheets ask when exporting).")


def _read_json(file: Path) -> Rows:
    """Read JSON or JSON lines."""
    text = file.read_text(encoding="utf-8-sig")
    if file.suffix.lower() == ".jsonl":
        numbered = [(number, line) for number, line in enumerate(text.splitlines(), start=1) if line.strip()]
        found = [_parse(line, f"Line {number} of `{file}`") for number, line in numbered]
        return _rows(found, [number for number, _ in numbered], "line", file)
    content = _parse(text, f"`{file}`") if text.strip() else []
    if isinstance(content, dict):
        content = _unpack(content)
    if not isinstance(content, list):
        cause = f"`{file}` holds neither a list of reports nor an object from id to report."
        raise DatasetError(cause, 'Write e.g. [{"id": ..., "report": ...}] or {"<id>": "<report>"}.')
    return _rows(content, list(range(1, len(content) + 1)), "entry", file)


def _unpack(content: dict[str, Any]) -> Any:
    """Return the list of entries that an object holds."""
    if _CHALLENGE_KEY in content:
        return content[_CHALLENGE_KEY]
    if all(value is None or isinstance(value, str) for value in content.values()):
        return [{"id": key, "report": value} for key, value in content.items()]
    lists = [value for value in content.values() if isinstance(value, list)]
    if len(lists) == 1:
        return lists[0]
    if all(isinstance(value, dict) for value in content.values()):
        return [{"id": key, **value} for key, value in content.items()]
    return None


def _rows(entries: list[Any], lines: list[int], unit: str, file: Path) -> Rows:
    """Check that all entries are objects."""
    for line, entry in zip(lines, entries, strict=True):
        if not isinstance(entry, dict):
            cause = f"{unit.capitalize()} {line} of `{file}` is no object: {str(entry)[:60]!r}."
            raise DatasetError(cause, 'Write one object a report, e.g. {"id": ..., "report": ...}.')
    columns = list(dict.fromkeys(name for entry in entries for name in entry))
    return Rows(columns, entries, lines, unit)


def _parse(text: str, where: str) -> Any:
    """Parse JSON, or say where it is broken."""
    try:
        return json.loads(text, object_pairs_hook=_without_duplicates)
    except (ValueError, RecursionError) as error:
        cause = f"{where} is no valid JSON: {error}."
        raise DatasetError(cause, "Write the file with a JSON library.") from error


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Build an object, refusing a key that occurs twice: json would keep the last report in silence."""
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = sorted({name for name in names if names.count(name) > 1})
        msg = f"the key(s) {', '.join(map(repr, twice[:5]))} occur more than once in one object"
        raise ValueError(msg)
    return found
