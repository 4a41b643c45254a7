"""Labels from a table or from a function of one's own, where a labeler is expected."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ct_vlm.errors import DatasetError, ShapeError
from ct_vlm.metrics.functional.inputs import as_label_matrix, check_unique
from ct_vlm.text.labels import CT_RATE_LABELS

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

    from numpy.typing import NDArray

ID_COLUMNS = ("VolumeName", "AccessionNo", "volume_id", "study_id", "id")
"""Columns that may name the volume, in the order in which they are looked for."""

_SUFFIXES = (".nii.gz", ".nii", ".npz", ".b2nd")


class CallableLabeler:
    """A function as a labeler, checked and named.

    Args:
        function: Reports to 0/1 labels, ``(B, K)``.
        name: Put beside every score.
        label_names: Name of each label.

    Example:
        >>> from ct_vlm.metrics import CallableLabeler
        >>> labeler = CallableLabeler(lambda texts: [["effusion" in t] for t in texts], "keyword", ["Effusion"])
        >>> labeler(["Pleural effusion.", None]).tolist()
        [[1], [0]]
    """

    def __init__(
        self, function: Callable[[list[str]], Any], name: str, label_names: Sequence[str] = CT_RATE_LABELS
    ) -> None:
        self.function, self.name, self.label_names = function, name, tuple(label_names)

    def __call__(self, texts: Sequence[str | None]) -> NDArray[np.int64]:
        """Label reports.

        Args:
            texts: Reports; missing ones are passed on as "".

        Shape:
            - Output: ``(B, K)``.

        Raises:
            ShapeError: If the function does not return one row a report and one column a label.
            DatasetError: If a value is neither 0 nor 1.
        """
        reports = [text if isinstance(text, str) else "" for text in texts]
        labels = as_label_matrix(self.function(reports), self.name, len(self.label_names)).numpy()
        if len(labels) != len(reports) or np.isnan(labels).any():
            cause = f"Labeler {self.name!r} gave {labels.shape} labels (or NaN) for {len(reports)} reports."
            raise ShapeError(cause, "Return 0 or 1 for each report and label.")
        return labels.astype(np.int64)


@dataclass(frozen=True)
class LabelTable:
    """Labels by id, e.g. the label CSV of a data set or of another classifier.

    Args:
        ids: Volume (or scan) of each row, without suffix.
        labels: 0/1 labels, NaN where unknown.
        label_names: Name of each column.
        name: Put beside every score.

    Shape:
        - labels: ``(N, K)``.

    Raises:
        DatasetError: If an id occurs twice or a label is neither 0, 1 nor NaN.

    Example:
        >>> import numpy as np
        >>> from ct_vlm.metrics import LabelTable
        >>> table = LabelTable(("a", "b"), np.array([[1.0], [0.0]]), ("Effusion",), "mine")
        >>> table.rows(["b.nii.gz", "a"]).tolist()
        [[0.0], [1.0]]
    """

    ids: tuple[str, ...]
    labels: NDArray[np.float64]
    label_names: tuple[str, ...] = CT_RATE_LABELS
    name: str = "table"

    def __post_init__(self) -> None:
        """Check ids and values."""
        check_unique(self.ids, self.name)
        as_label_matrix(self.labels, self.name, len(self.label_names))
        if len(self.ids) != len(self.labels):
            cause = f"{self.name!r} has {len(self.ids)} ids and {len(self.labels)} rows of labels."
            raise ShapeError(cause, "Pass one id a row.")

    def rows(self, ids: Sequence[Hashable], *, allow_missing: bool = False) -> NDArray[np.float64]:
        """Return labels in the order of ids.

        Args:
            ids: Volumes or scans; a file suffix does not matter.
            allow_missing: Return NaN for ids that the table lacks.

        Shape:
            - Output: ``(B, K)``.

        Raises:
            DatasetError: If an id is missing and that is not allowed.
        """
        position = {name: row for row, name in enumerate(self.ids)}
        found = [position.get(_stem(str(name))) for name in ids]
        missing = [name for name, row in zip(ids, found, strict=True) if row is None]
        if missing and not allow_missing:
            cause = f"{self.name!r} has no labels of {len(missing)} of {len(found)} ids: {missing[:5]}."
            raise DatasetError(cause, "Check that both name volumes in the same way.")
        blank = np.full(len(self.label_names), np.nan)
        matrix = [blank if row is None else self.labels[row] for row in found]
        return np.stack(matrix) if matrix else np.empty((0, len(self.label_names)))


def read_labels_csv(
    path: str | Path, label_names: Sequence[str] = CT_RATE_LABELS, id_column: str | None = None, name: str | None = None
) -> LabelTable:
    r"""Read a CSV with one row a volume and one column a label.

    Args:
        path: The file, e.g. CT-RATE's ``valid_predicted_labels.csv``.
        label_names: Columns to read, by name; their order in the file does not matter.
        id_column: Column of ids; found by itself unless given.
        name: Put beside every score; the file's name unless given.

    Raises:
        DatasetError: If the file is empty, a column is missing, an id occurs twice or is blank, or a
            value is neither 0, 1 nor blank; the message names rows.

    Example:
        >>> import pathlib, tempfile
        >>> from ct_vlm.metrics import read_labels_csv
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = pathlib.Path(folder, "labels.csv")
        ...     _ = file.write_text("VolumeName,Effusion\nvalid_1_a_1.nii.gz,1\n")
        ...     read_labels_csv(file, ["Effusion"]).ids
        ('valid_1_a_1',)
    """
    import pandas as pd

    file = Path(path)
    try:
        table = pd.read_csv(file)
    except (OSError, ValueError) as error:  # pandas: an empty file and a parser's error are ValueErrors
        cause = f"Cannot read {file}: {error}."
        raise DatasetError(cause, "Pass a CSV file with a header.") from error
    ids = id_column or next((column for column in ID_COLUMNS if column in table.columns), None)
    missing = [column for column in (ids or ID_COLUMNS[0], *label_names) if column not in table.columns]
    if missing or ids is None or table.empty:
        cause = f"{file.name} has no rows." if not missing else f"{file.name} lacks the columns {missing}."
        raise DatasetError(cause, f"Needed are the labels and one of {ID_COLUMNS}; it has {list(table.columns)[:20]}.")
    blank = table.index[table[ids].isna()].tolist()
    if blank:
        cause = f"{file.name} has no {ids} in row(s) {blank[:5]} (the first after the header is 0)."
        raise DatasetError(cause, "Complete the file.")
    values = table[list(label_names)]
    numbers = values.apply(pd.to_numeric, errors="coerce")
    text = (numbers.isna() & values.notna()).any(axis=1)
    if text.any():
        cause = f"{file.name} holds labels that are no numbers in row(s) {table.index[text].tolist()[:5]}."
        raise DatasetError(cause, "Labels are 0, 1 or blank (unknown).")
    names = tuple(_stem(str(value)) for value in table[ids])
    return LabelTable(names, numbers.to_numpy(dtype=np.float64), tuple(label_names), name or file.name)


def _stem(name: str) -> str:
    """Return a volume's name without folder and suffix."""
    stem = name.replace("\\", "/").rpartition("/")[2]
    return next((stem.removesuffix(suffix) for suffix in _SUFFIXES if stem.endswith(suffix)), stem)
