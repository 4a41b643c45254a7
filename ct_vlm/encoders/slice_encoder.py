"""A 2D vision transformer over every slice of a volume.

Paper: MedRegion-CT, https://arxiv.org/abs/2506.23102 (frozen RAD-DINO a slice).
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Literal, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ct_vlm.encoders.base import Encoder, check_image
from ct_vlm.encoders.input_channels import find_patch_convolution, fold_channels
from ct_vlm.encoders.slice_backbones import SliceBackbone, build_backbone, is_unused
from ct_vlm.errors import CheckpointError, ConfigError, ShapeError
from ct_vlm.features import Features

if TYPE_CHECKING:
    from collections.abc import Sequence


class SliceEncoder(Encoder):
    """Any ViT of transformers or timm over each slice, with hidden states of several blocks.

    The grid of every level keeps all slices: ``(D, h, w)``. Slices go through the transformer a
    few at a time, so memory does not grow with D beyond the features themselves. Position
    embeddings are interpolated to the size of the slices.

    RAD-DINO is a ``Dinov2Model``: pass its folder or hub id. Nothing is normalised unless ``mean``
    and ``std`` say so: they belong to the checkpoint (its ``preprocessor_config.json``) and apply
    to volumes in ``[0, 1]``.

    Args:
        backbone: Folder or hub id of a transformers vision model; ``"timm:NAME"`` for timm's
            pretrained weights (``"timm:local-dir:FOLDER"`` for a folder); a dict with
            ``model_type`` or ``timm`` for random weights; or a ``PreTrainedModel`` (taken over).
        layers: Blocks whose hidden states are returned, counted from 1, ascending (inferred: four
            evenly spaced blocks of a ViT-B; the paper refers to MAIRA-SEG for its choice).
        in_channels: Channels of the volume.
        input_mode: How one channel meets a colour model: ``"fold"`` sums the patch embedding's
            weights over colours (exact, a third of its work), ``"repeat"`` copies the channel.
        mean: Mean of each channel of the model.
        std: Standard deviation of each channel of the model.
        fit: What is done with slices whose sides are no multiples of the patch: ``"resize"`` to the
            next smaller multiple, so that the token grid covers the whole slice as masks pooled to
            that grid do, or ``"crop"`` the far rows and columns, as the models themselves do
            (inferred; 256 pixels and patches of 14 give 18 either way).
        chunk_size: Slices in one pass.
        frozen: No gradients, no dropout, whatever mode the model around it is in.
        gradient_checkpointing: Recompute each chunk in the backward pass: the activations of one
            chunk are held at a time.
        final_norm: Whether the last block's tokens pass the model's final norm.
        store_backbone: Whether configs and checkpoints hold the backbone. False keeps a reference
            and a digest of the weights: a checkpoint is small and needs the same path or id.
        fingerprint: Digest of the referenced weights; recorded, and checked when given.
        dtype: Parameter type such as ``"bfloat16"``; None keeps that of the weights.

    Shape:
        - Input: ``(B, C, D, H, W)``; spacing ``(B, 3)`` in mm; padding mask ``(B, D)``.
        - Output: one level a layer, ``(B, D * h * w, dim)``, all on the grid ``(D, h, w)``.

    Raises:
        ConfigError: If backbone, layers and channels do not fit.
        CheckpointError: If weights cannot be read, or are not those of ``fingerprint``.
        ShapeError: If the volume has another rank, dtype or channel count, or slices below a patch.

    Example:
        >>> import torch
        >>> from ct_vlm.encoders import SliceEncoder
        >>> config = {"model_type": "dinov2", "hidden_size": 8, "num_hidden_layers": 2,
        ...           "num_attention_heads": 2, "patch_size": 7, "image_size": 28}
        >>> features = SliceEncoder(config, layers=(1, 2))(torch.rand(1, 1, 5, 30, 22))
        >>> features.grids, tuple(features.levels[0].shape)
        ([(5, 4, 3), (5, 4, 3)], (1, 60, 8))

    References:
        MedRegion-CT, arXiv 2506.23102: frozen RAD-DINO, 256 x 256 x 32 voxels, min-max normalised.
    """

    mean: Tensor | None
    std: Tensor

    def __init__(
        self,
        backbone: Any,
        layers: Sequence[int] = (3, 6, 9, 12),
        in_channels: int = 1,
        *,
        input_mode: Literal["fold", "repeat"] = "fold",
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        fit: Literal["resize", "crop"] = "resize",
        chunk_size: int = 8,
        frozen: bool = True,
        gradient_checkpointing: bool = False,
        final_norm: bool = True,
        store_backbone: bool = True,
        fingerprint: str | None = None,
        dtype: str | None = None,
    ) -> None:
        super().__init__()
        _check_options(input_mode=input_mode, fit=fit, chunk_size=chunk_size)
        self.backbone = build_backbone(backbone)
        self.layers = _check_layers(layers, self.backbone.depth)
        self.in_channels, self.fit, self.chunk_size = in_channels, fit, chunk_size
        self.gradient_checkpointing, self.final_norm = gradient_checkpointing, final_norm
        self.level_dims = (self.backbone.dim,) * len(self.layers)
        self.frozen, self.store_backbone = frozen, store_backbone
        if not store_backbone:
            self._refer(backbone, fingerprint)
        folded = self._adapt_channels(input_mode, mean, std)
        if store_backbone:
            self._record_backbone(folded)
        if dtype is not None:
            self.backbone.to(getattr(torch, dtype))
        for name, parameter in self.backbone.named_parameters():
            parameter.requires_grad_(not frozen and not is_unused(name))
        self.train(self.training)

    def forward(self, image: Tensor, spacing: Tensor | None = None, padding_mask: Tensor | None = None) -> Features:
        """Encode a volume.

        Args:
            image: Windowed volume.
            spacing: Voxel size; gives the slices' positions in mm from the first.
            padding_mask: True where a slice is padding; it is not encoded, and its tokens are 0.
        """
        return self.encode(image, spacing, padding_mask)[0]

    def encode(
        self, image: Tensor, spacing: Tensor | None = None, padding_mask: Tensor | None = None
    ) -> tuple[Features, list[Tensor]]:
        """Encode a volume; return features, and class (and register) tokens a level, ``(B, D, P, dim)``."""
        patch = self.backbone.patch_size
        check_image(image, self.in_channels, (1, *patch))
        batch, slices = image.shape[0], image.shape[2]
        if padding_mask is not None and tuple(padding_mask.shape) != (batch, slices):
            cause = f"Expected `padding_mask` as {(batch, slices)}, but got {tuple(padding_mask.shape)}."
            raise ShapeError(cause, "Pass one flag a slice, True where it is padding.")
        grid = (slices, image.shape[3] // patch[0], image.shape[4] // patch[1])
        real = None if padding_mask is None else (~padding_mask.bool()).flatten().nonzero().flatten()
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            states = self._all_slices(image.transpose(1, 2).flatten(0, 1), real)
        states = [state.unflatten(0, (batch, slices)) for state in states]
        levels, prefix = [state.flatten(1, 2) for state in states[: len(self.layers)]], states[len(self.layers) :]
        position = None
        if spacing is not None:
            position = torch.arange(slices, device=spacing.device) * spacing[:, :1]
        return Features(levels, [grid] * len(levels), position, padding_mask), prefix

    def train(self, mode: bool = True) -> Self:
        """Set the mode; a frozen backbone stays in eval mode."""
        super().train(mode)
        if getattr(self, "frozen", False):
            self.backbone.eval()
        return self

    def to_config(self) -> dict[str, Any]:
        """Return the config; with a referenced backbone it names the type of the weights."""
        config = super().to_config()
        if not self.store_backbone:
            config["init_args"]["dtype"] = str(next(self.backbone.parameters()).dtype).removeprefix("torch.")
        return config

    def _all_slices(self, slices: Tensor, real: Tensor | None) -> list[Tensor]:
        """Return each level's patch tokens ``(S, N, dim)``, then each level's prefix tokens, chunk by chunk."""
        index = torch.arange(len(slices), device=slices.device) if real is None else real.to(slices.device)
        chunks = []
        for part in index.split(self.chunk_size):
            if self.gradient_checkpointing and torch.is_grad_enabled():
                chunks.append(checkpoint(self._chunk, slices, part, use_reentrant=False))
            else:
                chunks.append(self._chunk(slices, part))
        columns = [list(parts) for parts in zip(*chunks, strict=True)]
        chunks.clear()
        # a level's chunks are let go before the next level is joined
        joined = [torch.cat(columns.pop(0)) for _ in range(len(columns))]
        if real is None:
            return joined
        empty = [state.new_zeros(len(slices), *state.shape[1:]) for state in joined]
        return [zeros.index_copy(0, index, state) for zeros, state in zip(empty, joined, strict=True)]

    def _chunk(self, slices: Tensor, index: Tensor) -> list[Tensor]:
        pixels = self._fit(slices[index])
        if self.repeats > 1:
            pixels = pixels.expand(-1, self.repeats, -1, -1)
        if self.mean is not None:
            pixels = (pixels - self.mean.to(pixels)) / self.std.to(pixels)
        height, width = (n // p for n, p in zip(pixels.shape[2:], self.backbone.patch_size, strict=True))
        states = self.backbone(pixels, self.layers, final_norm=self.final_norm)
        if states[0].shape[1] < height * width:
            cause = f"The backbone gives {states[0].shape[1]} tokens for {height} x {width} patches."
            raise ConfigError(cause, "Use a model that keeps all patches: one without masking or merging of tokens.")
        patches = [state[:, -height * width :] for state in states]
        return patches + [state[:, : -height * width] for state in states]

    def _fit(self, pixels: Tensor) -> Tensor:
        """Bring slices to multiples of the patch."""
        height, width = (n // p * p for n, p in zip(pixels.shape[2:], self.backbone.patch_size, strict=True))
        if (height, width) == tuple(pixels.shape[2:]):
            return pixels
        if self.fit == "crop":
            return pixels[..., :height, :width]
        resized = F.interpolate(pixels.float(), (height, width), mode="bilinear", align_corners=False)
        return resized.to(pixels.dtype)

    def _adapt_channels(self, mode: str, mean: Sequence[float] | None, std: Sequence[float] | None) -> bool:
        """Fold or repeat one channel; return whether mean and std are in the weights now."""
        owner, name, conv = find_patch_convolution(self.backbone.model)
        channels = conv.in_channels
        if self.in_channels not in {1, channels}:
            cause = f"The backbone reads {channels} channels, but `in_channels` is {self.in_channels}."
            raise ConfigError(cause, f"Use 1 or {channels} HU windows.")
        means, stds = _per_channel(mean, 0.0, channels, "mean"), _per_channel(std, 1.0, channels, "std")
        fold = mode == "fold" and self.in_channels != channels
        self.repeats = 1 if fold or self.in_channels == channels else channels
        normalise = not fold and (mean is not None or std is not None)
        for key, values in (("mean", means), ("std", stds)):
            tensor = torch.tensor(values).view(1, -1, 1, 1) if normalise else None
            self.register_buffer(key, tensor, persistent=False)
        if fold:
            setattr(owner, name, fold_channels(conv, means, stds))
            self.backbone.set_channels(1)
        return fold

    def _refer(self, spec: Any, fingerprint: str | None) -> None:
        """Keep the backbone out of checkpoints, under a digest of its weights."""
        if isinstance(spec, dict | nn.Module):
            cause = f"`store_backbone=False` needs a path or id to load from again, but got a {type(spec).__name__}."
            raise ConfigError(cause, "Save the backbone in its library's format and pass the folder.")
        found = _digest(self.backbone)
        if fingerprint not in {None, found}:
            cause = f"The weights of `{spec}` are not those that this model was trained with."
            raise CheckpointError(cause, "Restore the file, or pass `fingerprint=None` to take the new ones.")
        self._init_args.update({"fingerprint": found} if "fingerprint" in self._init_args else {})
        self.register_state_dict_post_hook(_drop_backbone)
        self.register_load_state_dict_pre_hook(_keep_backbone)

    def _record_backbone(self, folded: bool) -> None:
        """Replace path or object in the recorded arguments by the architecture."""
        resolved: dict[str, Any] = {"backbone": self.backbone.config}
        if folded:
            # the weights that are stored hold them
            resolved.update(mean=None, std=None)
        self._init_args.update({name: value for name, value in resolved.items() if name in self._init_args})


def _drop_backbone(module: nn.Module, state: dict[str, Any], prefix: str, metadata: dict[str, Any]) -> None:  # noqa: ARG001 (torch's signature)
    """Take a referenced backbone out of a state dict."""
    for key in [key for key in state if key.startswith(f"{prefix}backbone.")]:
        del state[key]


def _keep_backbone(module: SliceEncoder, state: dict[str, Any], prefix: str, *rest: Any) -> None:  # noqa: ARG001
    """Let a state dict without the backbone leave it as it was loaded."""
    for key, tensor in module.backbone.state_dict().items():
        state.setdefault(f"{prefix}backbone.{key}", tensor)


def _digest(backbone: SliceBackbone) -> str:
    """Return a digest of names and values of all weights."""
    digest = hashlib.sha256()
    for name, tensor in sorted(backbone.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().reshape(-1).contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _check_options(*, input_mode: str, fit: str, chunk_size: int) -> None:
    for name, value, known in (("input_mode", input_mode, ("fold", "repeat")), ("fit", fit, ("resize", "crop"))):
        if value not in known:
            cause = f"Expected `{name}` to be one of {known}, but got {value!r}."
            raise ConfigError(cause, f"Use {known[0]!r}.")
    if chunk_size < 1:
        cause = f"Expected `chunk_size` to be positive, but got {chunk_size}."
        raise ConfigError(cause, "Use 8, or less where memory is short.")


def _check_layers(layers: Sequence[int], depth: int) -> tuple[int, ...]:
    chosen = tuple(layers)
    if not chosen or list(chosen) != sorted(set(chosen)) or chosen[0] < 1 or chosen[-1] > depth:
        cause = f"Expected `layers` ascending within 1 to {depth}, but got {chosen}."
        raise ConfigError(cause, "Count blocks from 1; the last is the backbone's depth.")
    return chosen


def _per_channel(values: Sequence[float] | None, default: float, channels: int, name: str) -> tuple[float, ...]:
    if values is None:
        return (default,) * channels
    if len(values) != channels:
        cause = f"Expected `{name}` with {channels} numbers, but got {tuple(values)}."
        raise ConfigError(cause, "Give one for each channel that the backbone reads.")
    return tuple(float(value) for value in values)
