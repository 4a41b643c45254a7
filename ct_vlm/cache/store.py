"""A folder of entries under content keys; a damaged entry is made again."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ct_vlm.cache.codecs import check_codec
from ct_vlm.cache.entry import CacheEntry, read_entry
from ct_vlm.cache.errors import DamagedEntryError
from ct_vlm.cache.identity import key_digest
from ct_vlm.cache.layout import FORMAT
from ct_vlm.cache.writing import write_entry

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

_LOG = logging.getLogger(__name__)
_DAY = 86_400
T = TypeVar("T")

SUFFIX = ".ctcache"
"""Ending of an entry's file name."""


class ArrayCache:
    """A folder of named arrays under content keys.

    Each entry is one file with a checksum for every part: reading a slice or a patch reads and
    checks little more than that. Entries are written beside and renamed, so any number of
    processes may fill one folder, and no reader meets half of one. What is cut off or altered
    counts as absent and is made again. A folder that cannot be written is used for reading only,
    after one warning.

    Entries are found by their keys alone: changing ``codec`` keeps those that are there.

    Args:
        folder: Where entries lie; made when first needed. ``None`` switches the cache off.
        codec: How new entries are written, all without loss: ``zstd`` (smallest), ``lz4``
            (larger, faster to read) or ``uncompressed`` (mapped into memory; fastest for patches).

    Raises:
        ConfigError: If the codec is unknown.

    Example:
        >>> import tempfile, numpy as np
        >>> from ct_vlm.cache import ArrayCache
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     cache = ArrayCache(folder)
        ...     made = cache.get("a", {"source": 1}, lambda: {"x": np.arange(3)})
        ...     again = cache.get("a", {"source": 1}, lambda: {"x": np.zeros(3)})
        ...     with cache.open(cache.path("a", {"source": 1})) as entry:
        ...         part = entry["x"][1:]
        >>> again["x"].tolist(), part.tolist()
        ([0, 1, 2], [1, 2])
    """

    def __init__(self, folder: str | Path | None, codec: str = "zstd") -> None:
        check_codec(codec)
        self.folder = None if folder is None else Path(folder)
        self.codec = codec
        self._writable = True
        self._warned_of_reading = False

    def path(self, name: str, key: Mapping[str, Any]) -> Path | None:
        """Return where an entry lies.

        Args:
            name: Readable start of the file name.
            key: JSON values that everything in the entry depends on.
        """
        return None if self.folder is None else self.folder / f"{name}-{key_digest(key, FORMAT)}{SUFFIX}"

    def open(self, path: Path | None) -> CacheEntry | None:
        """Open an entry for reading parts of it; ``None`` if it is absent or its index is damaged.

        Args:
            path: From :meth:`path`.
        """
        if path is None:
            return None
        try:
            _note_use(path)
            entry = read_entry(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except DamagedEntryError as error:
            self._warn_of_damage(error)
            return None
        except OSError as error:
            if not self._warned_of_reading:
                _LOG.warning("Cannot read the cache entry `%s` (%s); going on without such entries.", path, error)
            self._warned_of_reading = True
            return None
        if entry.key is not None and not path.stem.endswith(key_digest(entry.key, FORMAT)):
            entry.close()
            self._warn_of_damage(DamagedEntryError(path, "it is another entry under this one's name"))
            return None
        return entry

    def contains(self, path: Path | None) -> bool:
        """Tell whether an entry is there, complete, and under the right name.

        Its arrays are not read: damage inside them is found when they are (and by
        ``ct-vlm cache verify``).

        Args:
            path: From :meth:`path`.
        """
        entry = self.open(path)
        if entry is None:
            return False
        entry.close()
        return True

    def load(self, path: Path | None) -> dict[str, NDArray[Any]] | None:
        """Return an entry's arrays in fresh memory, or ``None`` if it is absent or damaged."""
        return self.try_read(path, CacheEntry.read)

    def store(
        self,
        path: Path | None,
        arrays: Mapping[str, NDArray[Any]],
        *,
        key: Mapping[str, Any] | None = None,
        meta: Mapping[str, Any] | None = None,
    ) -> bool:
        """Write an entry; return False if there is no cache or it cannot be written.

        Args:
            path: From :meth:`path`.
            arrays: Name to array.
            key: The key that made the path, kept in the entry.
            meta: Further JSON values.
        """
        if path is None or not self._writable:
            return False
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_entry(path, arrays, codec=self.codec, key=key, meta=meta)
        except OSError as error:
            self._writable = False
            _LOG.warning("Cannot write to the cache `%s` (%s); going on without it.", path.parent, error)
            return False
        return True

    def try_writing_again(self) -> None:
        """Forget that an entry could not be written: there may be room or permission by now."""
        self._writable = True

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
            self.store(path, found, key=key)
        return found

    def read(
        self,
        name: str,
        key: Mapping[str, Any],
        make: Callable[[], dict[str, NDArray[Any]]],
        reader: Callable[[Mapping[str, Any]], T],
    ) -> T:
        """Return what a function takes from an entry, making and storing it if absent.

        Args:
            name: Readable start of the file name.
            key: JSON values that everything in the entry depends on.
            make: Returns the arrays.
            reader: Gets the entry (or the arrays just made) and takes parts by plain indexing:
                ``arrays["image"][10:20, :, 5]``, ``arrays["image"].shape``. It is called again
                if the entry turns out damaged.

        Example:
            >>> import numpy as np
            >>> from ct_vlm.cache import ArrayCache
            >>> ArrayCache(None).read("a", {}, lambda: {"x": np.arange(9)}, lambda arrays: arrays["x"][4:6].sum())
            np.int64(9)
        """
        path = self.path(name, key)
        found = self.try_read(path, lambda entry: (reader(entry),))
        if found is not None:
            return found[0]
        arrays = make()
        self.store(path, arrays, key=key)
        return reader(arrays)

    def try_read(self, path: Path | None, reader: Callable[[CacheEntry], T]) -> T | None:
        """Return what a function takes from an entry, ``None`` if it is absent or damaged.

        Args:
            path: From :meth:`path`.
            reader: Gets the open entry.
        """
        entry = self.open(path)
        if entry is None:
            return None
        with entry:
            try:
                return reader(entry)
            except DamagedEntryError as error:
                self._warn_of_damage(error)
            except OSError as error:  # the disk fails
                self._warn_of_damage(DamagedEntryError(path, str(error)))
        return None

    def _warn_of_damage(self, error: DamagedEntryError) -> None:
        _LOG.warning("%s It is made again.", error.cause)


def _note_use(path: Path) -> None:
    """Keep the day of the last use as the file's time of change, which reading alone does not set."""
    if abs(time.time() - path.stat().st_mtime) > _DAY:
        with contextlib.suppress(OSError):
            os.utime(path)
