"""Items of shards by number, from a folder or an object store, with as many local copies as are allowed."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from bisect import bisect_right
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ct_vlm.datasets.shards_library import INDEX, SAMPLES, litdata, read_index
from ct_vlm.errors import ConfigError, DatasetError

if TYPE_CHECKING:
    from collections.abc import Mapping

GB = 10**9


class ShardStore:
    """Reads items of one folder of shards.

    Of a store, whole files are copied to ``cache_dir`` while they fit into ``max_cache_gb``; items of the others are
    read as ranges of bytes, in every epoch anew. Copies are never thrown out: under shuffling, keeping any share of
    the files saves that share of the transfers, while throwing out the least recently used saves less and makes
    processes wait for each other.

    Args:
        location: Folder, or an address that litdata knows (``s3://``, ``gs://``, ``r2://``, ``local:``).
        cache_dir: Where files of a store are copied to; ``~/.cache/ct_vlm/shards`` by default.
        max_cache_gb: How much is copied at most; processes may each exceed it by the one file that they just copy.
        storage_options: Passed to litdata: endpoint, region and the like. Credentials are best left to the
            store's own environment variables or files.

    Attributes:
        meta: What :func:`ct_vlm.datasets.write_shards` says of the whole.

    Raises:
        DatasetError: If there are no such shards.
        ConfigError: If the store cannot be read in parts and the cache is too small for all of it.
    """

    def __init__(
        self,
        location: str | Path,
        *,
        cache_dir: str | Path | None = None,
        max_cache_gb: float = 100.0,
        storage_options: Mapping[str, Any] | None = None,
    ) -> None:
        self.location = str(location)
        self.remote = "://" in self.location or self.location.startswith("local:")
        self.limit = int(max_cache_gb * GB)
        self._options = dict(storage_options or {})
        self.folder = self._fetched(_cache_root(cache_dir)) if self.remote else Path(location)
        self.files = read_index(self.folder / INDEX, self.location)
        self._ends = list(accumulate(file["chunk_size"] for file in self.files))
        self.meta = self._read_meta()
        self._full = False
        self._process = 0
        self._dataset: Any = None
        self._downloader: Any = None
        self._check_ranges()

    def __len__(self) -> int:
        """Return the number of items."""
        return self._ends[-1]

    def read(self, number: int) -> bytes | memoryview:
        """Return an item's bytes.

        Args:
            number: Position in the order of writing.

        Raises:
            DatasetError: If they cannot be read.
        """
        chunk = bisect_right(self._ends, number)
        self._connect()
        try:
            self._provide(chunk)
            content: bytes | memoryview = self._dataset[number]
        except DatasetError:
            raise
        except Exception as error:  # each store has errors of its own
            cause = f"{self.name(number)} cannot be read: {type(error).__name__}: {error}."
            raise DatasetError(cause, "Check the file, the address and the rights to read it.") from error
        return content

    def name(self, number: int) -> str:
        """Return where an item lies, for messages."""
        chunk = min(bisect_right(self._ends, number), len(self.files) - 1)
        return f"Item {number} in `{self.location}/{self.files[chunk]['filename']}`"

    def __getstate__(self) -> dict[str, Any]:
        """Return what another process needs: no open file, no connection."""
        return {**self.__dict__, "_process": 0, "_dataset": None, "_downloader": None}

    def _connect(self) -> None:
        """Open what this process reads with; a forked process must not share file positions with its parent."""
        if self._process == os.getpid():
            return
        library = litdata()
        place = library.place(path=str(self.folder), url=self.location if self.remote else None)
        self._dataset = library.dataset(place, batch_decode=0, storage_options=self._options)
        self._downloader = self._new_downloader(self.folder) if self.remote else None
        self._process = os.getpid()

    def _new_downloader(self, folder: Path) -> Any:
        return litdata().get_downloader(self.location, str(folder), [], storage_options=self._options)

    def _provide(self, chunk: int) -> None:
        """Copy a file of the store if there is room; check the size of one that is here."""
        file = self.files[chunk]
        path = self.folder / file["filename"]
        try:
            size = path.stat().st_size
        except FileNotFoundError:
            size = None
        if size is not None and size != file["chunk_bytes"]:
            cause = f"`{path}` has {size} bytes, but the index says {file['chunk_bytes']}."
            raise DatasetError(cause, "Delete it, and fetch or write it again.")
        if size is None and not self.remote:
            raise FileNotFoundError(path)
        if size is None and not self._full:
            if self._used() + file["chunk_bytes"] > self.limit:
                self._full = True
            else:
                self._downloader.download_file(f"{self.location}/{file['filename']}", str(path))

    def _used(self) -> int:
        """Return the bytes of all copies, half ones of other processes too."""
        total = 0
        with os.scandir(self.folder) as entries:
            for entry in entries:
                if entry.name.startswith("chunk-"):
                    with contextlib.suppress(FileNotFoundError):  # renamed by now
                        total += entry.stat().st_size
        return total

    def _fetched(self, root: Path) -> Path:
        """Fetch index and list of samples; return a folder of their own for every state of the store."""
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=root, prefix=".tmp-") as temporary:
            downloader = self._new_downloader(Path(temporary))
            digest = hashlib.sha256()
            for name in (INDEX, SAMPLES):
                path = Path(temporary, name)
                try:
                    downloader.download_file(f"{self.location}/{name}", str(path))
                    digest.update(path.read_bytes())
                except Exception as error:  # each store has errors of its own
                    cause = f"`{self.location}/{name}` cannot be read: {type(error).__name__}: {error}."
                    raise DatasetError(cause, "Check the address and the rights to read it.") from error
            folder = root / digest.hexdigest()[:16]
            folder.mkdir(exist_ok=True)
            for name in (SAMPLES, INDEX):
                Path(temporary, name).replace(folder / name)
        return folder

    def _read_meta(self) -> dict[str, Any]:
        """Return the list of samples after comparing it with the index."""
        from ct_vlm.datasets.shards_format import FORMAT

        try:
            meta: dict[str, Any] = json.loads((self.folder / SAMPLES).read_text(encoding="utf-8"))
            counts = (meta["format"], len(meta["samples"]))
        except (ValueError, KeyError, TypeError, OSError) as error:
            cause = f"`{self.location}/{SAMPLES}` is not a list of samples ({error})."
            raise DatasetError(cause, "Write the shards again with `ct-vlm shards`.") from error
        if counts != (FORMAT, len(self)):
            cause = f"`{self.location}` has format and samples {counts}, but its index says {(FORMAT, len(self))}."
            raise DatasetError(cause, "Its files are of different runs; copy or write all of them again.")
        return meta

    def _check_ranges(self) -> None:
        """Raise if items must be read in parts and cannot be."""
        total = sum(file["chunk_bytes"] for file in self.files)
        if not self.remote or total <= self.limit:
            return
        base = litdata().downloader
        if type(self._new_downloader(self.folder)).download_bytes is base.download_bytes:
            cause = f"`{self.location}` can only be read as whole files, and {total / GB:.3g} GB are above the limit."
            raise ConfigError(cause, f"Set `max_cache_gb` to at least {total / GB:.3g}, or read the folder directly.")


def _cache_root(folder: str | Path | None) -> Path:
    """Return where copies go."""
    if folder is not None:
        return Path(folder)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ct_vlm" / "shards"
