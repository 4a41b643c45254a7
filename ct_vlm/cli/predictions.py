"""Keep what `ct-vlm predict` wrote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ct_vlm.cli.output import complain, say
from ct_vlm.files import atomic_path

if TYPE_CHECKING:
    from collections.abc import Iterator


def save_predictions(predictions: Any, folder: str | Path, rank: int = 0, world_size: int = 1) -> Path | None:
    """Write predicted records as JSON lines, one file a process.

    Args:
        predictions: What the trainer collected: nested lists of records.
        folder: Where to write.
        rank: Number of this process.
        world_size: Number of processes.

    Returns:
        The file, or None if the model predicts something that is no record.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = save_predictions([[{"id": "a"}], [{"id": "b"}]], folder)
        ...     file.read_text().splitlines()
        2 records in ...predictions.jsonl
        ['{"id": "a"}', '{"id": "b"}']
    """
    records = list(_flatten(predictions))
    if not records or not all(isinstance(record, dict) for record in records):
        complain("The model returned no records, so nothing was written; use a prediction writer callback.")
        return None
    file = Path(folder) / ("predictions.jsonl" if world_size == 1 else f"predictions-{rank}.jsonl")
    file.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(file) as temporary, temporary.open("w", encoding="utf-8") as stream:
        stream.writelines(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    say(f"{len(records)} records in {file}")
    return file


def _flatten(value: Any) -> Iterator[Any]:
    """Yield the leaves of nested lists."""
    if isinstance(value, list | tuple):
        for item in value:
            yield from _flatten(item)
    elif value is not None:
        yield value
