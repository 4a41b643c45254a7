"""Tables keyed by volume name: reports, labels, metadata and whatever a user adds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from ct_vlm.errors import ConfigError, DatasetError
from ct_vlm.text.labels import CT_RATE_LABELS
from ct_vlm.transforms.metadata import VOLUME_COLUMNS, volume_id

if TYPE_CHECKING:
    from collections.abc import Mapping

TEXTS = ("findings", "impressions", "both")
_MISSING_TEXT = {"", "nan", "not given", "not given."}


def read_table(path: str | Path) -> pd.DataFrame:
    """Read a CSV as text, indexed by the volume name as it is written (without suffix).

    Blank cells are NaN. Rows without a name are dropped; duplicates are kept.

    Args:
        path: The table.

    Raises:
        DatasetError: If it cannot be read or names no volumes.
    """
    try:
        table = pd.read_csv(path, dtype=str, encoding="utf-8-sig", keep_default_na=False, na_values=["", "NaN", "nan"])
    except (OSError, ValueError) as error:
        cause = f"Cannot read the table `{path}`: {error}."
        raise DatasetError(cause, "Check the path; the file should be a CSV in UTF-8.") from error
    column = next((name for name in VOLUME_COLUMNS if name in table.columns), None)
    if column is None:
        cause = f"`{path}` has no volume column; its columns are {list(table.columns)[:8]}."
        raise DatasetError(cause, f"Name one of them {' or '.join(VOLUME_COLUMNS)}.")
    table = table[table[column].notna()]
    names = table[column].str.strip().str.removesuffix(".gz").str.removesuffix(".nii")
    return table.drop(columns=column).set_index(pd.Index(names, name="volume_id"))


def is_missing(text: object) -> bool:
    """Tell whether a report section is blank, NaN or says that it was not given."""
    return text is None or str(text).strip().lower() in _MISSING_TEXT


def compose_report(findings: object, impressions: object, text: str = "both") -> str | None:
    """Return the wanted part of a report, or ``None`` if all of it is missing.

    Args:
        findings: Findings section.
        impressions: Impressions section.
        text: ``findings``, ``impressions`` or ``both`` (each under its heading).

    Raises:
        ConfigError: If ``text`` is unknown.

    Example:
        >>> from ct_vlm.datasets.tables import compose_report
        >>> compose_report("Heart size is normal.", "Not given.")
        'Findings: Heart size is normal.'
    """
    if text not in TEXTS:
        cause = f"Expected `text` to be one of {', '.join(TEXTS)} or None, but got {text!r}."
        raise ConfigError(cause, "Use 'findings' for the usual target.")
    sections = {"findings": findings, "impressions": impressions}
    present = {name: str(value).strip() for name, value in sections.items() if not is_missing(value)}
    if text != "both":
        return present.get(text)
    return " ".join(f"{name.capitalize()}: {value}" for name, value in present.items()) or None


def parse_labels(table: pd.DataFrame, path: str | Path) -> dict[str, tuple[float, ...]]:
    """Return the 18 labels of each volume; the first row wins where a volume is listed twice.

    Args:
        table: From :func:`read_table`.
        path: Named in errors.

    Raises:
        DatasetError: If a column is absent or a cell is neither 0 nor 1.
    """
    absent = [label for label in CT_RATE_LABELS if label not in table.columns]
    if absent:
        cause = f"`{path}` lacks the label columns {absent}."
        raise DatasetError(cause, "Use CT-RATE's `*_predicted_labels.csv`.")
    labels = table[list(CT_RATE_LABELS)]
    values = labels.apply(pd.to_numeric, errors="coerce")
    wrong = ~values.isin([0, 1])
    if wrong.to_numpy().any():
        row, column = next(zip(*wrong.to_numpy().nonzero(), strict=True))
        cause = f"`{path}` holds {labels.iloc[row, column]!r} for {labels.columns[column]!r} of {labels.index[row]!r}."
        raise DatasetError(cause, "Labels are 0 or 1; correct the table or delete the row.")
    unique = values[~values.index.duplicated()]
    return {str(name): tuple(map(float, row)) for name, row in zip(unique.index, unique.to_numpy(), strict=True)}


def join_extra_tables(tables: Mapping[str, str | Path | pd.DataFrame], reserved: set[str]) -> pd.DataFrame:
    """Join user tables on the volume name into one table.

    Columns whose cells are all numbers become float (NaN where blank), the others stay text
    (empty where blank).

    Args:
        tables: Name of each table to its CSV or DataFrame (with a volume column).
        reserved: Keys that a batch uses already.

    Raises:
        DatasetError: If a table lists a volume twice, or two tables share a column.
    """
    joined = pd.DataFrame()
    for name, source in tables.items():
        table = read_table(source) if isinstance(source, str | Path) else _from_frame(source, name)
        table.index = table.index.map(volume_id)
        if table.index.duplicated().any():
            cause = f"The extra table {name!r} lists {table.index[table.index.duplicated()][0]!r} more than once."
            raise DatasetError(cause, "Keep one row a volume.")
        clash = sorted((set(table.columns) & reserved) | (set(table.columns) & set(joined.columns)))
        if clash:
            cause = f"The columns {clash} of the extra table {name!r} are in use already."
            raise DatasetError(cause, "Rename them.")
        joined = table if joined.empty else joined.join(table, how="outer")
    return joined.apply(_typed)


def _from_frame(table: pd.DataFrame, name: str) -> pd.DataFrame:
    """Index a user's DataFrame by its volume column."""
    column = next((candidate for candidate in VOLUME_COLUMNS if candidate in table.columns), None)
    if column is None:
        cause = f"The extra table {name!r} has no volume column; its columns are {list(table.columns)[:8]}."
        raise DatasetError(cause, f"Name one of them {' or '.join(VOLUME_COLUMNS)}.")
    return table.astype({column: str}).set_index(column)


def _typed(column: pd.Series[Any]) -> pd.Series[Any]:
    """Return a column as float if every cell is a number, else as text."""
    numbers = pd.to_numeric(column, errors="coerce")
    if numbers.notna().any() and not (numbers.isna() & column.notna()).any():
        return numbers.astype(float)
    return column.astype(object).where(column.notna(), "").astype(str)
