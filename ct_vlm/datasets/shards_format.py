"""One item of a shard as bytes: JSON, and the image compressed without loss. Nothing in it is ever executed.

::

    head      16 bytes   magic, number of the format, length of the JSON
    JSON                 the record (ids, report, labels, further columns), spacing, shape and layout of the image
    image                a blosc2 frame, or the values as they are if there are few
    trailer   4 bytes    CRC-32 of all that precedes
"""

from __future__ import annotations

import json
import math
import struct
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ct_vlm.cache.codecs import checksum, encode, plain
from ct_vlm.errors import DatasetError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

FORMAT = 1
"""Number of the format; shards of another one are refused."""
_HEAD = struct.Struct("<8sII")
_TRAILER = struct.Struct("<I")
_MAGIC = b"ctvlm\xffSH"


def pack_item(record: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]], codec: str = "zstd") -> bytes:
    """Return an item as bytes.

    Args:
        record: What the data set knows of the volume without opening it; ``labels`` is a tensor.
        arrays: ``image`` (int16 HU) and ``spacing`` in mm.
        codec: As in :class:`ct_vlm.cache.ArrayCache`.

    Shape:
        - image: ``(D, H, W)``.
        - spacing: ``(3,)``.

    Example:
        >>> import numpy as np
        >>> from ct_vlm.datasets.shards_format import pack_item, unpack_item
        >>> arrays = {"image": np.arange(8, dtype=np.int16).reshape(2, 2, 2), "spacing": np.ones(3)}
        >>> item = unpack_item(pack_item({"volume_id": "train_1_a_1"}, arrays))
        >>> item["image"].shape, item["volume_id"]
        (torch.Size([1, 2, 2, 2]), 'train_1_a_1')
    """
    image = plain(np.asarray(arrays["image"]))
    content, _, layout = encode(image, codec)
    header = {
        "record": {name: _to_json(value) for name, value in record.items()},
        "spacing": np.asarray(arrays["spacing"], dtype=np.float64).tolist(),
        "image": {"shape": image.shape, "dtype": image.dtype.str, "layout": layout},
    }
    text = json.dumps(header).encode()
    body = b"".join([_HEAD.pack(_MAGIC, FORMAT, len(text)), text, content])
    return body + _TRAILER.pack(checksum(body))


def unpack_item(content: bytes | memoryview, source: str = "the item") -> dict[str, Any]:
    """Return the item that :func:`pack_item` made, as the data set gives it.

    Args:
        content: The bytes.
        source: Where they come from, for messages.

    **Shape:**
        - image: ``(1, D, H, W)``.
        - spacing: ``(3,)``.
        - labels: ``(K,)``.

    Raises:
        DatasetError: If they are no whole item, or of another format.
    """
    header, image = _checked(content, source)
    values = header["record"]
    if values.get("labels") is not None:
        values["labels"] = torch.tensor([float("nan") if value is None else value for value in values["labels"]])
    return {
        "image": torch.from_numpy(_decode(image, header["image"], source))[None],
        "spacing": torch.tensor(header["spacing"], dtype=torch.float32),
        **values,
    }


def unpack_record(content: bytes | memoryview, source: str = "the item") -> dict[str, Any]:
    """Return an item without ``image`` and ``spacing``; nothing is decompressed.

    Args:
        content: The bytes.
        source: Where they come from, for messages.

    Raises:
        DatasetError: If they are no whole item, or of another format.
    """
    record: dict[str, Any] = _checked(content, source)[0]["record"]
    if record.get("labels") is not None:
        record["labels"] = torch.tensor([float("nan") if value is None else value for value in record["labels"]])
    return record


def _checked(content: bytes | memoryview, source: str) -> tuple[dict[str, Any], memoryview]:
    """Return the JSON and the image's bytes, after the checksum was compared."""
    view = memoryview(content)
    if len(view) < _HEAD.size + _TRAILER.size:
        raise _damaged(source, "it is cut off")
    (expected,) = _TRAILER.unpack_from(view, len(view) - _TRAILER.size)
    body = view[: -_TRAILER.size]
    magic, number, length = _HEAD.unpack_from(body)
    if magic != _MAGIC:
        raise _damaged(source, "it does not start as one")
    if number != FORMAT:
        cause = f"{source} has format {number}, and this version reads format {FORMAT}."
        raise DatasetError(cause, "Write the shards again, or use the version that wrote them.")
    if checksum(body) != expected:
        raise _damaged(source, "its bytes are altered")
    return json.loads(bytes(body[_HEAD.size : _HEAD.size + length])), body[_HEAD.size + length :]


def _decode(content: memoryview, described: dict[str, Any], source: str) -> NDArray[Any]:
    """Return the image in fresh memory."""
    shape, dtype = tuple(described["shape"]), np.dtype(described["dtype"])
    values = np.frombuffer(content, dtype=np.uint8)
    if described["layout"] == "raw":
        if len(values) != math.prod(shape) * dtype.itemsize:
            raise _damaged(source, "its image is not as long as it says")
        return values.view(dtype).reshape(shape).copy()
    import blosc2

    frame = blosc2.ndarray_from_cframe(values, copy=False)
    if (tuple(frame.shape), frame.dtype) != (shape, dtype):
        raise _damaged(source, "its image is not what it says")
    # threads of a forked loader process would hang; volumes are what runs in parallel
    frame.schunk.dparams = blosc2.DParams(nthreads=1)
    out = np.empty(shape, dtype)
    frame.get_slice_numpy(out, ((0,) * len(shape), shape))
    return out


def _damaged(source: str, reason: str) -> DatasetError:
    cause = f"{source} is not a whole item of a shard: {reason}."
    return DatasetError(cause, "Fetch its file again, or write the shards again.")


def _to_json(value: Any) -> Any:
    """Return a value that JSON knows; unknown labels become null."""
    if isinstance(value, torch.Tensor):
        return [None if math.isnan(number) else number for number in value.tolist()]
    return value.item() if isinstance(value, np.generic) else value
