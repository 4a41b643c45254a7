"""Names of the values of a label map."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ct_vlm.errors import DatasetError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def read_label_names(labels: Mapping[str, int | Sequence[int]] | str | Path) -> dict[str, list[int]]:
    """Return name to values from a mapping, or from a JSON file in either direction.

    Args:
        labels: ``{"liver": 5}``, or a file of that or of ``{"5": "liver"}``.

    Raises:
        DatasetError: If it is neither.

    Example:
        >>> from ct_vlm.attributes.label_names import read_label_names
        >>> read_label_names({"liver": 5, "right lung": (1, 2)})
        {'liver': [5], 'right lung': [1, 2]}
    """
    values: Any = labels
    if isinstance(labels, str | Path):
        try:
            values = json.loads(Path(labels).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            cause = f"`{labels}` cannot be read: {error}."
            raise DatasetError(cause, 'Pass a JSON file such as {"liver": 5, "right lung": [1, 2, 3]}.') from error
    result: dict[str, list[int]] = {}
    try:
        for key, value in dict(values).items():
            name, added = (value, [int(key)]) if isinstance(value, str) else (str(key), _numbers(value))
            result.setdefault(name, []).extend(added)
    except (TypeError, ValueError) as error:
        cause = f"These are no names of label values: {error}."
        raise DatasetError(cause, 'Pass e.g. {"liver": 5, "right lung": [1, 2, 3]}.') from error
    return result


def _numbers(value: Any) -> list[int]:
    """Return one or several label values as a list."""
    return [int(value)] if isinstance(value, int | np.integer) else [int(number) for number in value]
