"""Writing files so that a reader never meets half of one."""

from __future__ import annotations

import json
import os
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

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


def write_json(target: str | Path, value: Any) -> None:
    """Write JSON, whole or not at all; folders that are missing are made.

    Args:
        target: The file to write.
        value: Numbers, texts, lists and mappings with texts as keys.

    Example:
        >>> import tempfile, pathlib
        >>> from ct_vlm.files import write_json
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_json(pathlib.Path(folder, "scores", "a.json"), {"é": 1})
        ...     print(pathlib.Path(folder, "scores", "a.json").read_text(encoding="utf-8"))
        {
         "é": 1
        }
        <BLANKLINE>
    """
    Path(target).parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(target) as temporary:
        # a name that is no Unicode is escaped, and read back as it was
        text = json.dumps(value, indent=1, ensure_ascii=False)
        temporary.write_text(text + "\n", encoding="utf-8", errors="backslashreplace")
