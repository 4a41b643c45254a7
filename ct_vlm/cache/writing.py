"""Writing an entry: in one pass, to the disk, then under its name."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from ct_vlm.cache.codecs import check_codec, encode, plain
from ct_vlm.cache.layout import HEAD, ArrayRecord, Index, pack_trailer, padding
from ct_vlm.files import atomic_path

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray


def write_entry(
    path: str | Path,
    arrays: Mapping[str, NDArray[Any]],
    *,
    codec: str = "zstd",
    key: Mapping[str, Any] | None = None,
    meta: Mapping[str, Any] | None = None,
) -> None:
    """Write an entry; a reader meets the old file or the whole new one, after a power cut too.

    Args:
        path: The entry's file; its folder exists.
        arrays: Name to array.
        codec: ``zstd``, ``lz4`` or ``uncompressed``.
        key: JSON values it was made from.
        meta: Further JSON values.

    Raises:
        ConfigError: If an array's type or the codec cannot be used.
        OSError: If it cannot be written.

    Example:
        >>> import tempfile, pathlib, numpy as np
        >>> from ct_vlm.cache.writing import write_entry
        >>> from ct_vlm.cache import read_entry
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = pathlib.Path(folder, "a.ctcache")
        ...     write_entry(file, {"x": np.arange(4)}, key={"source": 1})
        ...     with read_entry(file) as entry:
        ...         entry.key, entry["x"][1:3].tolist()
        ({'source': 1}, [1, 2])
    """
    check_codec(codec)
    index = Index(codec, None if key is None else json.loads(json.dumps(key)), dict(meta or {}))
    ready = {name: plain(np.asarray(array)) for name, array in arrays.items()}
    with atomic_path(path) as temporary, temporary.open("wb") as file, held(file):
        _write(file, ready, index)
        file.flush()
        os.fsync(file.fileno())
    _sync_folder(Path(path).parent)


@contextlib.contextmanager
def held(file: IO[bytes]) -> Iterator[None]:
    """Lock a file as one that a living process writes; whoever cleans up asks for the same lock."""
    try:
        import fcntl
    except ImportError:  # no such locks on this system; age alone protects the file
        yield
        return
    with contextlib.suppress(OSError):  # some network file systems have no locks
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    yield


def _write(file: IO[bytes], arrays: Mapping[str, NDArray[Any]], index: Index) -> None:
    """Write all of an entry."""
    file.write(HEAD)
    file.flush()  # what a killed writer leaves can be told from a user's file
    position = len(HEAD)
    tables = [index.pieces]
    for name, array in arrays.items():
        content, pieces, layout = encode(array, index.codec)
        gap = padding(position)
        file.write(bytes(gap))
        position += gap
        first = sum(map(len, tables))
        record = ArrayRecord(name, array.dtype.str, array.shape, layout, position, len(content), first, len(pieces))
        index.arrays.append(record)
        tables.append(pieces + np.array([position, 0, 0], dtype=np.uint64))
        file.write(content)
        position += len(content)
    index.pieces = np.concatenate(tables)
    packed = index.pack()
    file.write(packed)
    file.write(pack_trailer(packed, position))


def _sync_folder(folder: Path) -> None:
    """Bring the new name to the disk where the system can."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
