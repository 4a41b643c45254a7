"""The warm bridge: a run starts from the language side that an earlier, converged run has learned.

Paper: Ker-VLJEPA-3B, https://arxiv.org/abs/2603.23308 (section on the warm bridge).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from ct_vlm.errors import CheckpointError, ConfigError
from ct_vlm.modules import GatedCrossAttention

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from torch import Tensor, nn

BRIDGE_GROUPS = {
    "projectors": r"(^|\.)cross_attention\.projectors\.",
    "adapters": r"(^|\.)cross_attention\.adapters\.",
    "lora": r"\.lora_(A|B|embedding_A|embedding_B|magnitude_vector)\.",
}
"""Name of each group that crosses to a pattern of its state-dict keys."""


@dataclass
class BridgeReport:
    """Every tensor that a bridge moved.

    Args:
        moved: Group to key to shape.
        kept: Number of tensors of the target that stayed as they were.
    """

    moved: dict[str, dict[str, tuple[int, ...]]]
    kept: int

    @property
    def num_tensors(self) -> int:
        """Number of tensors moved."""
        return sum(map(len, self.moved.values()))

    @property
    def num_parameters(self) -> int:
        """Number of values moved."""
        return sum(torch.Size(shape).numel() for group in self.moved.values() for shape in group.values())

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        moved = {name: {key: list(shape) for key, shape in group.items()} for name, group in self.moved.items()}
        return {"moved": moved, "kept": self.kept}

    def __str__(self) -> str:
        """Return one line: how much of each group moved."""
        parts = ", ".join(f"{name} {len(group)}" for name, group in self.moved.items())
        return f"moved {self.num_tensors} tensors ({self.num_parameters:,} values): {parts}; kept {self.kept}"

    def table(self) -> str:
        """Return one line a tensor."""
        return "\n".join(
            f"{name:<12} {key}  {'x'.join(map(str, shape)) or 'scalar'}"
            for name, group in self.moved.items()
            for key, shape in group.items()
        )


@torch.no_grad()
def warm_bridge(source: nn.Module, target: nn.Module, groups: Mapping[str, str] | None = None) -> BridgeReport:
    """Overwrite memory projectors, cross-attention adapters and LoRA by those of a converged run.

    Everything else of the target stays: in the paper the visual side, which comes from a later phase 2
    than the one that the converged run started from. Both sides must hold the same tensors in every
    group, and do the same with them: equal tensors make another function under another scaling of LoRA
    or another number of heads. If anything differs, or a group is empty, nothing moves.

    Args:
        source: Model (or task) of the converged run.
        target: Model to change in place.
        groups: Name to pattern of state-dict keys; :data:`BRIDGE_GROUPS` unless given.

    Returns:
        Every tensor that moved.

    Raises:
        CheckpointError: If keys, shapes, the scaling of LoRA or numbers of heads differ.
        ConfigError: If a group matches nothing, or a pattern is malformed.

    Example:
        >>> import torch
        >>> from ct_vlm.models import warm_bridge
        >>> converged, cold = torch.nn.Linear(2, 3), torch.nn.Linear(2, 3)
        >>> print(warm_bridge(converged, cold, {"weights": r"^weight$"}).table())
        weights      weight  3x2

    References:
        Ker-VLJEPA-3B, arXiv 2603.23308: 3 projectors, 3 adapters of 7 tensors, 392 LoRA tensors.
    """
    have, want = source.state_dict(), target.state_dict()
    chosen: dict[str, list[str]] = {}
    for name, pattern in (BRIDGE_GROUPS if groups is None else groups).items():
        chosen[name] = _same_keys(name, _matching(pattern, have), _matching(pattern, want))
    shapes = [
        f"{key} {tuple(have[key].shape)} -> {tuple(want[key].shape)}"
        for keys in chosen.values()
        for key in keys
        if have[key].shape != want[key].shape
    ]
    if shapes:
        cause = f"{len(shapes)} tensors differ in shape, and none was moved: {', '.join(shapes[:5])}."
        raise CheckpointError(cause, "Bridge between runs with the same ranks, layers and widths.")
    _check_settings(source, target, [key for keys in chosen.values() for key in keys])
    for keys in chosen.values():
        for key in keys:
            want[key].copy_(have[key])
    moved = {name: {key: tuple(want[key].shape) for key in keys} for name, keys in chosen.items()}
    return BridgeReport(moved, len(want) - sum(map(len, moved.values())))


def _matching(pattern: str, tensors: Mapping[str, Tensor]) -> list[str]:
    try:
        return [key for key in tensors if re.search(pattern, key)]
    except re.error as error:
        cause = f"`{pattern}` is no regular expression: {error}."
        raise ConfigError(cause, "Escape special characters.") from error


def _same_keys(name: str, have: list[str], want: list[str]) -> list[str]:
    """Return the keys of a group, or raise if the two sides differ."""
    if not have and not want:
        cause = f"Neither model holds a tensor of {name!r}."
        raise ConfigError(cause, "Name only groups that the models have, in `groups`.")
    if set(have) != set(want):
        missing, unexpected = sorted(set(want) - set(have)), sorted(set(have) - set(want))
        cause = f"The models differ in {name!r}: missing {missing[:5]}, unexpected {unexpected[:5]}."
        raise CheckpointError(cause, "Bridge between runs of the same architecture.")
    return want


def _check_settings(source: nn.Module, target: nn.Module, keys: Iterable[str]) -> None:
    """Raise if modules would make something else of the same tensors."""
    moved = {name for key in keys for name in _above(key)}
    have, want = _settings(source, moved), _settings(target, moved)
    differing = [
        f"{name} {have.get(name, 'unknown')} -> {want.get(name, 'unknown')}"
        for name in sorted({*have, *want})
        if have.get(name) != want.get(name)
    ]
    if differing:
        cause = f"{len(differing)} settings differ, and nothing was moved: {', '.join(differing[:5])}."
        cure = (
            "Bridge between runs with the same `r`, `lora_alpha` and `use_rslora` of LoRA and `num_heads` of adapters."
        )
        raise CheckpointError(cause, cure)


def _above(key: str) -> Iterator[str]:
    """Yield the names of all modules that hold a tensor, directly or not."""
    parts = key.split(".")
    return (".".join(parts[:end]) for end in range(1, len(parts)))


def _settings(model: nn.Module, names: set[str]) -> dict[str, float]:
    """Return what decides, beside its tensors, what each of the named modules computes."""
    found: dict[str, float] = {}
    for name, module in model.named_modules():
        if name not in names:
            continue
        # peft keeps one scaling for each of a layer's adapters: alpha / r, or alpha / sqrt(r)
        if hasattr(module, "lora_A") and isinstance(scaling := getattr(module, "scaling", None), dict):
            found |= {f"{name}: scaling of LoRA {adapter!r}": float(value) for adapter, value in scaling.items()}
        if isinstance(module, GatedCrossAttention):
            found[f"{name}: num_heads"] = module.num_heads
    return found
