"""Writing files so that a reader never meets half of one."""

from __future__ import annotations

import os
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def atomic_path(target: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside ``target`` that replaces it when the block succeeds.

    A process killed inside the block leaves the old file as it was; an exception removes the
    temporary file.

    Args:
        target: The file to write.

    Yields:
        The path to write to; it keeps the suffixes of ``target``.

    Example:
        >>> import tempfile, pathlib
        >>> from ct_vlm.files import atomic_path
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = pathlib.Path(folder, "a.json")
        ...     with atomic_path(file) as temporary:
        ...         _ = temporary.write_text("{}")
        ...     file.read_text()
        '{}'
    """
    path = Path(target)
    handle, name = tempfile.mkstemp(prefix=".tmp-", suffix="".join(path.suffixes[-2:]), dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
