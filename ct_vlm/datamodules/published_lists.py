"""Lists of abnormalities out of published files, held against the volumes that they are needed for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ct_vlm.datasets.steering import read_steered_json
from ct_vlm.errors import DatasetError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from ct_vlm.datasets.steering import PublishedRow
    from ct_vlm.text.abnormality_lists import Abnormality

    Entries = Sequence[Abnormality]

_NAMED = 100
"""Missing volumes that an error names; where more are missing, it is rather the wrong file."""


def read_lists(files: Sequence[str | Path], fields: Mapping[str, str] | None = None) -> dict[str, Entries]:
    r"""Return the list of each volume out of published files.

    A list is read in full or the file is refused: what a line that cannot be read stood for would be
    missing from the target, and a scan whose lines are all of another form would be taught as normal.

    Args:
        files: E.g. those of training and validation, see :func:`ct_vlm.datasets.steering.read_steered_json`.
        fields: Where their rows hold ``id``, ``prompt`` and ``answer``.

    Raises:
        DatasetError: If a list cannot be read in full, or a volume has two that differ.

    Example:
        >>> import json, pathlib, tempfile
        >>> from ct_vlm.datamodules.published_lists import read_lists
        >>> answer = "Abnormalities:\n(Heart: Cardiomegaly.)\n\nReport:\nCardiomegaly."
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = pathlib.Path(folder, "valid.json")
        ...     turns = [{"value": "<video> Go."}, {"value": answer}]
        ...     _ = file.write_text(json.dumps([{"id": "valid_1_a_1", "conversations": turns}]))
        ...     read_lists([file])
        {'valid_1_a_1': (Abnormality(region='heart', text='Cardiomegaly.'),)}
    """
    found: dict[str, Entries] = {}
    for file in files:
        rows = read_steered_json(file, fields).rows
        _check_readable(file, rows)
        for row in rows:
            # a file of preferences holds a volume once for each worse text
            entries = row.target.abnormalities
            if found.setdefault(row.id, entries) != entries:
                cause = f"`{file}` has another list of {row.id!r} than a row before it, there or in another file."
                raise DatasetError(cause, "Keep one of the two.")
    return found


def check_listed(lists: Mapping[str, Entries], dataset: Any, part: str) -> None:
    """Raise unless every volume of a data set has a list.

    None is left out here: which volumes are trained on, and how many steps an epoch has, is what the
    data module says.

    Args:
        lists: From :func:`read_lists`.
        dataset: With ``samples``, or with ``record`` or ``items`` that tell an item's ``volume_id``; what
            it wraps is asked where it has none of them, and what cannot tell is not checked.
        part: What the data set is called.

    Raises:
        DatasetError: If volumes have none; their names are in the message.

    Example:
        >>> from types import SimpleNamespace
        >>> from ct_vlm.datamodules.published_lists import check_listed
        >>> check_listed({"a": ()}, SimpleNamespace(items=[{"volume_id": "a"}]), "train")
    """
    names = _volume_names(dataset)
    missing = [name for name in names if name not in lists]
    if not missing:
        return
    cause = f"{len(missing)} of {len(names)} volumes of the {part!r} part have no published list: "
    if len(missing) > _NAMED:
        cause += f"{', '.join(missing[:3])} and others; the files name {', '.join(list(lists)[:3])} and others."
        raise DatasetError(cause, "Check that the files are those of this data, or leave `lists` out.")
    cause += f"{', '.join(missing)}."
    raise DatasetError(cause, "Name them in the data module's `exclude`, or give their lists in a further file.")


def _check_readable(file: str | Path, rows: Sequence[PublishedRow]) -> None:
    """Refuse rows of whose lists something is lost."""
    broken = [row for row in rows if row.target.lost]
    if not broken:
        return
    row, lost = broken[0], broken[0].target.lost
    what = f"{lost[0].kind}: {lost[0].text[:80]!r}" if lost[0].text else lost[0].kind
    cause = f"{len(broken)} of {len(rows)} lists of `{file}` cannot be read in full. The first is of {row.id!r}"
    cause += f" ({what}), whose answer starts with {row.answer[:80]!r}."
    cure = "Name the answer's place in `fields`; or mend the rows: a list is lines `(Region: abnormality)` or `(None)`."
    raise DatasetError(cause, cure)


def _volume_names(dataset: Any) -> list[str]:
    """Return the volumes that a data set may give, without reading them."""
    samples = getattr(dataset, "samples", None)
    if samples is not None and all(hasattr(getattr(sample, "name", None), "volume_id") for sample in samples):
        # every reconstruction, whichever of them an epoch draws
        return [sample.name.volume_id for sample in samples]
    if hasattr(dataset, "record"):
        return [str(dataset.record(index)["volume_id"]) for index in range(len(dataset))]
    if hasattr(dataset, "items"):
        return [str(item["volume_id"]) for item in dataset.items]
    return _volume_names(dataset.dataset) if hasattr(dataset, "dataset") else []
