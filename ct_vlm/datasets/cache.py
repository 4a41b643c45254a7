"""Preprocessed volumes on disk, keyed by what made them; a damaged entry is made again."""

from __future__ import annotations

import hashlib
import json
import logging
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ct_vlm.files import atomic_path

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

_LOG = logging.getLogger(__name__)
_FORMAT = 1


def source_identity(path: str | Path) -> list[Any]:
    """Return what tells a file's content from a later one: path, size and time of change.

    Args:
        path: The file.
    """
    file = Path(path).resolve()
    status = file.stat()
    return [str(file), status.st_size, status.st_mtime_ns]


class ArrayCache:
    """A folder of named arrays under content keys.

    Entries are uncompressed ``.npz`` files: written beside and renamed, so no reader meets half of
    one, and checked by their own checksums on reading, so a truncated or altered entry counts as
    absent. A folder that cannot be written is used for reading only, after one warning.

    Args:
        folder: Where entries lie; made when first needed. ``None`` switches the cache off.

    Example:
        >>> import tempfile, numpy as np
        >>> from ct_vlm.datasets.cache import ArrayCache
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     cache = ArrayCache(folder)
        ...     made = cache.get("a", {"source": 1}, lambda: {"x": np.arange(3)})
        ...     again = cache.get("a", {"source": 1}, lambda: {"x": np.zeros(3)})
        >>> again["x"].tolist()
        [0, 1, 2]
    """

    def __init__(self, folder: str | Path | None) -> None:
        self.folder = None if folder is None else Path(folder)
        self._writable = True

    def path(self, name: str, key: Mapping[str, Any]) -> Path | None:
        """Return where an entry lies.

        Args:
            name: Readable start of the file name.
            key: JSON values that everything in the entry depends on.
        """
        if self.folder is None:
            return None
        text = json.dumps({"format": _FORMAT, **key}, sort_keys=True)
        return self.folder / f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:20]}.npz"

    def load(self, path: Path | None) -> dict[str, NDArray[Any]] | None:
        """Return an entry's arrays in fresh memory, or ``None`` if it is absent or damaged."""
        if path is None:
            return None
        try:
            with np.load(path, allow_pickle=False) as entry:
                return {name: entry[name] for name in entry.files}
        except FileNotFoundError:
            return None
        except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
            _LOG.warning("Cache entry `%s` is damaged (%s) and is made again.", path, error)
            return None

    def store(self, path: Path | None, arrays: Mapping[str, NDArray[Any]]) -> bool:
        """Write an entry; return False if there is no cache or it cannot be written."""
        if path is None or not self._writable:
            return False
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_path(path) as temporary:
                np.savez(temporary, **arrays)  # type: ignore[arg-type]  # the stub takes any name for `allow_pickle`
        except OSError as error:
            self._writable = False
            _LOG.warning("Cannot write to the cache `%s` (%s); going on without it.", path.parent, error)
            return False
        return True

    def get(
        self, name: str, key: Mapping[str, Any], make: Callable[[], dict[str, NDArray[Any]]]
    ) -> dict[str, NDArray[Any]]:
        """Return an entry, making and storing it if absent.

        Args:
            name: Readable start of the file name.
            key: JSON values that everything in the entry depends on.
            make: Returns the arrays.
        """
        path = self.path(name, key)
        found = self.load(path)
        if found is None:
            found = make()
            self.store(path, found)
        return found
