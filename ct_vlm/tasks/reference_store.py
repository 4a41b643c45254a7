"""Log-probabilities of the reference on disk, computed once for every pair."""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ct_vlm.errors import DatasetError
from ct_vlm.files import write_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_FLUSH = 256
"""Pairs a file: what an interrupted run loses at most."""


class ReferenceStore:
    """Log-probabilities of pairs under one reference, in a folder of small JSON files.

    Every file is written whole or not at all, and none is ever changed, so that several processes may
    fill one store, and a run that was stopped goes on where it was.

    Args:
        folder: Where stores of all references lie.
        reference: Digest of everything that decides what the reference says of a pair.

    Raises:
        DatasetError: If a file of the store cannot be read.

    Example:
        >>> import tempfile
        >>> from ct_vlm.tasks.reference_store import ReferenceStore
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     store = ReferenceStore(folder, "digest of the model")
        ...     store.add({"a pair": (-12.5, -14.25)})
        ...     store.flush()
        ...     ReferenceStore(folder, "digest of the model").get(["a pair"])
        [(-12.5, -14.25)]
    """

    def __init__(self, folder: str | Path, reference: str) -> None:
        self.folder = Path(folder) / reference[:32]
        self._found: dict[str, tuple[float, float]] = {}
        self._new: dict[str, tuple[float, float]] = {}
        self._files: set[Path] = set()
        self.read()

    def __contains__(self, pair: object) -> bool:
        """Tell whether a pair is known."""
        return pair in self._found

    def __len__(self) -> int:
        """Return how many pairs are known."""
        return len(self._found)

    def read(self) -> None:
        """Read what other processes have written since."""
        for file in sorted(set(self.folder.glob("[!.]*.json")) - self._files):
            try:
                rows = json.loads(file.read_text(encoding="utf-8"))
                found = {str(key): (float(better), float(worse)) for key, (better, worse) in rows.items()}
            except (OSError, ValueError, AttributeError, TypeError) as error:
                cause = f"Cannot read the reference's log-probabilities in `{file}`: {error}."
                raise DatasetError(cause, "Delete that file: what it held is computed again.") from error
            self._found.update(found)
            self._files.add(file)

    def add(self, log_probs: Mapping[str, tuple[float, float]]) -> None:
        """Take log-probabilities of pairs, and write them from time to time.

        Args:
            log_probs: Key of a pair to the log-probabilities of its better and its worse text.
        """
        self._found.update(log_probs)
        self._new.update(log_probs)
        if len(self._new) >= _FLUSH:
            self.flush()

    def flush(self) -> None:
        """Write what was taken since the last time."""
        if not self._new:
            return
        file = self.folder / f"{os.getpid()}-{uuid.uuid4().hex}.json"
        write_json(file, self._new)
        self._files.add(file)
        self._new = {}

    def get(self, pairs: Sequence[str]) -> list[tuple[float, float]]:
        """Return the log-probabilities of pairs.

        Args:
            pairs: Keys.

        Raises:
            DatasetError: If one is not known.
        """
        missing = [pair for pair in pairs if pair not in self._found]
        if missing:
            cause = f"The reference's log-probabilities of {len(missing)} pairs are not in `{self.folder}`."
            cure = "Volumes must not change from epoch to epoch (recon_policy='random'); or use reference='weights'."
            raise DatasetError(cause, cure)
        return [self._found[pair] for pair in pairs]


def digest(*parts: Any) -> str:
    """Return a digest of JSON values.

    Args:
        parts: What decides the result.

    Example:
        >>> from ct_vlm.tasks.reference_store import digest
        >>> digest("a", "bc") == digest("ab", "c")
        False
    """
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
