"""What a folder of cached features was made with, in a JSON file beside them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ct_vlm.cache.features import FeatureCache
from ct_vlm.errors import CheckpointError
from ct_vlm.files import write_json

MANIFEST_NAME = "features.json"
_KEYS = {"model", "preset", "dtype", "levels"}


def write_manifest(cache: FeatureCache, folder: str | Path, **notes: Any) -> Path:
    """Write down which model and preprocessing a folder of features is for.

    Args:
        cache: Over that folder.
        folder: Made if absent.
        **notes: Further JSON values for readers, e.g. the path of the encoder.

    Returns:
        The file.

    Raises:
        CheckpointError: If the folder is another model's, preset's or type's already.

    Example:
        >>> import tempfile
        >>> from ct_vlm.cache import FeatureCache, open_features, write_manifest
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = write_manifest(FeatureCache(folder, "digest", {}, dtype="bfloat16"), folder)
        ...     open_features(folder).spec["dtype"]
        'bfloat16'
    """
    path = Path(folder) / MANIFEST_NAME
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        have = _read(path)
        differing = sorted(key for key in _KEYS if have.get(key) != cache.spec[key])
        if differing:
            cause = f"`{path.parent}` holds features made with another {', '.join(differing)}."
            raise CheckpointError(cause, "Write to another folder.")
    write_json(path, {**cache.spec, "notes": notes})
    return path


def open_features(folder: str | Path) -> FeatureCache:
    """Open a folder of features by what its manifest says; neither encoder nor preset is needed.

    Args:
        folder: With a manifest (:func:`write_manifest`).

    Raises:
        CheckpointError: If there is no manifest, or it cannot be read.
    """
    spec = _read(Path(folder) / MANIFEST_NAME)
    return FeatureCache(folder, spec["model"], spec["preset"], dtype=spec["dtype"], levels=spec["levels"])


def _read(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        missing = _KEYS - set(values)
    except (OSError, ValueError, TypeError) as error:
        cause = f"Cannot read `{path}`: {error}."
        raise CheckpointError(cause, "Name a folder that `ct-vlm embed` or `write_manifest` wrote.") from error
    if missing or not isinstance(values, dict):
        cause = f"`{path}` is no manifest of features: it lacks {', '.join(sorted(missing))}."
        raise CheckpointError(cause, "Name a folder that `ct-vlm embed` or `write_manifest` wrote.")
    return values
