"""Contrast of images with texts over all processes, in which equal texts are no negatives."""

from __future__ import annotations

import hashlib
import math
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from ct_vlm.errors import ConfigError, ShapeError

if TYPE_CHECKING:
    from collections.abc import Sequence

_COLDEST, _HOTTEST = 0.01, 1.0


def text_keys(texts: Sequence[str]) -> Tensor:
    """Return one number a text, equal for equal texts (case and white space aside) on every process.

    Args:
        texts: Texts.

    Shape:
        - Output: ``(B,)``, int64.

    Example:
        >>> from ct_vlm.losses import text_keys
        >>> keys = text_keys(["Effusion.", "effusion. ", "Nodule."])
        >>> (keys[0] == keys[1]).item(), (keys[0] == keys[2]).item()
        (True, False)
    """
    digests = [hashlib.blake2b(" ".join(text.lower().split()).encode(), digest_size=8).digest() for text in texts]
    return torch.tensor([int.from_bytes(digest, "big", signed=True) for digest in digests], dtype=torch.int64)


class InfoNCELoss(nn.Module):
    """Tell each image's own text from the texts of all other images of all processes.

    Averaged over processes, as data parallelism does, the gradients are those of one process with
    the whole batch; every process must have equally many samples, unless ``gather`` is off.

    Args:
        temperature: Where the learned temperature starts; it stays within 0.01 and 1 (inferred).
        learned: Whether the temperature is trained.
        symmetric: Whether texts also look for their images; the paper's loss does not.

    Shape:
        - image, text: ``(B, C)``.
        - keys: ``(B,)``, int64.
        - Output: scalar.

    Raises:
        ConfigError: If the temperature is out of range.
        ShapeError: If images and texts differ in shape, or processes in their number of samples.

    Example:
        >>> import torch
        >>> from ct_vlm.losses import InfoNCELoss, text_keys
        >>> contrast = InfoNCELoss()
        >>> same = torch.eye(4)[:2]
        >>> round(contrast(same, same).item(), 6)
        4.5e-05
        >>> contrast(same, same, text_keys(["Normal.", "normal."])).item()
        0.0

    References:
        Ker-VLJEPA-3B, arXiv 2603.23308, equation 11: image to text, all-gathered, learned
        temperature from 0.10. Cosine similarity and the masking of equal texts, which would be
        false negatives, are inferred.
    """

    def __init__(self, temperature: float = 0.1, *, learned: bool = True, symmetric: bool = False) -> None:
        super().__init__()
        if not _COLDEST <= temperature <= _HOTTEST:
            cause = f"Expected a temperature from {_COLDEST} to {_HOTTEST}, but got {temperature}."
            raise ConfigError(cause, "Use 0.1.")
        self.log_temperature = nn.Parameter(torch.tensor(math.log(temperature)), requires_grad=learned)
        self.symmetric = symmetric

    @property
    def temperature(self) -> Tensor:
        """The temperature, a scalar within its limits."""
        return self.log_temperature.clamp(math.log(_COLDEST), math.log(_HOTTEST)).exp()

    def forward(self, image: Tensor, text: Tensor, keys: Tensor | None = None, *, gather: bool = True) -> Tensor:
        """Return the loss; texts with equal keys are no negatives of each other.

        Args:
            image: Embeddings of the images.
            text: Embeddings of their texts, in the same order.
            keys: From :func:`text_keys`.
            gather: Whether the texts of all processes are candidates. In evaluation, where processes have
                batches of different size and number, they are not.
        """
        if image.ndim != 2 or image.shape != text.shape:
            cause = f"Expected images and texts (B, C), but got {tuple(image.shape)} and {tuple(text.shape)}."
            raise ShapeError(cause, "Pool tokens first, and bring both to one width.")
        image, text = F.normalize(_at_least_float(image), dim=-1), F.normalize(_at_least_float(text), dim=-1)
        gather = gather and _distributed()
        if gather:
            _check_even(image)
        first = dist.get_rank() * len(image) if gather else 0
        target = torch.arange(first, first + len(image), device=image.device)
        false_negatives = _equal_texts(keys, target, gather=gather)
        with torch.autocast(image.device.type, enabled=False):
            loss = self._one_way(image, _gather(text) if gather else text, false_negatives, target)
            if self.symmetric:
                images = _gather(image) if gather else image
                loss = 0.5 * (loss + self._one_way(text, images, false_negatives, target))
        return loss

    def _one_way(self, anchors: Tensor, candidates: Tensor, masked: Tensor | None, target: Tensor) -> Tensor:
        logits = anchors @ candidates.to(anchors.dtype).T / self.temperature.to(anchors.dtype)
        if masked is not None:
            logits = logits.masked_fill(masked, -torch.inf)
        return F.cross_entropy(logits, target)


def _check_even(image: Tensor) -> None:
    """Raise on every process if they have different numbers of samples, where gathering would break or hang."""
    counts = [torch.empty(1, dtype=torch.int64, device=image.device) for _ in range(dist.get_world_size())]
    dist.all_gather(counts, torch.tensor([len(image)], device=image.device))
    sizes = [int(count) for count in counts]
    if len(set(sizes)) > 1:
        cause = f"InfoNCE needs equally many samples on every process, but they have {sizes}."
        raise ShapeError(cause, "Use a sampler that pads, or drop the last batch; pass `gather=False` to evaluate.")


def _equal_texts(keys: Tensor | None, target: Tensor, *, gather: bool) -> Tensor | None:
    """Return where a candidate has the anchor's text but is not its own, ``(B, candidates)``."""
    if keys is None:
        return None
    keys = keys.to(target.device)
    everyone = _gather(keys) if gather else keys
    own = torch.zeros(len(keys), len(everyone), dtype=torch.bool, device=keys.device)
    own[torch.arange(len(keys)), target] = True
    return (keys[:, None] == everyone[None, :]) & ~own


def _gather(tensor: Tensor) -> Tensor:
    """Return the rows of all processes, with gradients for each process's own."""
    if not tensor.is_floating_point():
        parts = [torch.empty_like(tensor) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, tensor.contiguous())
        return torch.cat(parts)
    from torch.distributed.nn.functional import all_gather

    return torch.cat(all_gather(tensor.contiguous()))


def _distributed() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def _at_least_float(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.dtype.itemsize < 4 else tensor
