"""The library that cuts, names, indexes and fetches shards: litdata, an optional package."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ct_vlm.errors import DatasetError, MissingDependencyError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

INDEX, SAMPLES = "index.json", "samples.json"
_FILE = re.compile(r"chunk-\d+-\d+\.bin")
_LEAF: dict[str, Any] = {"type": None, "context": None, "children_spec": []}


@dataclass(frozen=True)
class LitData:
    """What is used of the package.

    Args:
        dataset: Its data set over a folder or an object store.
        writer: What writes a file of several items.
        place: A folder together with the address that it is a copy of.
        downloader: Base class of what fetches files.
        get_downloader: Returns the one for an address.
    """

    dataset: Any
    writer: Any
    place: Any
    downloader: Any
    get_downloader: Any


def litdata() -> LitData:
    """Import litdata.

    Raises:
        MissingDependencyError: If it is not installed.
    """
    # older releases ask a package index for news whenever a data set is opened
    os.environ.setdefault("LITDATA_DISABLE_VERSION_CHECK", "1")
    try:
        from litdata import StreamingDataset
        from litdata.streaming.downloader import Downloader, get_downloader
        from litdata.streaming.resolver import Dir
        from litdata.streaming.writer import BinaryWriter
    except ImportError as error:
        cause = f"Shards need the package litdata: {error}."
        raise MissingDependencyError(cause, 'Install it with `pip install "ct_vlm[stream]"`.') from error
    return LitData(StreamingDataset, BinaryWriter, Dir, Downloader, get_downloader)


def read_index(path: Path, source: str) -> list[dict[str, Any]]:
    """Return the files that an index lists, if it lists nothing but items of bytes.

    The package's index may ask for items to be unpickled, which executes what they hold; such an index is refused.

    Args:
        path: The index.
        source: Where it comes from, for messages.

    Raises:
        DatasetError: If it is no index of shards written by :func:`ct_vlm.datasets.write_shards`.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        files, config = values["chunks"], values["config"]
        good = _holds_bytes(config) and all(
            _FILE.fullmatch(file["filename"]) and file["chunk_size"] > 0 and file["chunk_bytes"] > 0 for file in files
        )
    except (ValueError, LookupError, TypeError, AttributeError, OSError) as error:
        cause = f"`{source}/{INDEX}` is not an index of shards ({error})."
        raise DatasetError(cause, "Write the shards again with `ct-vlm shards`.") from error
    if not (good and files):
        cause = f"`{source}/{INDEX}` lists other things than the volumes of `ct-vlm shards`."
        raise DatasetError(cause, "Shards of other tools are not read, as reading them may run code that they hold.")
    return list(files)


def _holds_bytes(config: Mapping[str, Any]) -> bool:
    """Tell whether items are plain bytes, one after the other."""
    return (
        config.get("data_format") == ["bytes"]
        and json.loads(config.get("data_spec") or "[0, 0]")[1] == _LEAF
        and config.get("item_loader") == "PyTreeLoader"
        and not config.get("encryption")
        and not config.get("compression")
        and "format" not in config
    )
