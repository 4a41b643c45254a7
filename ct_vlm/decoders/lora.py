"""LoRA settings of published systems, by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ct_vlm.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

LLAMA_LINEARS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
"""All linear layers of a Llama-type decoder layer."""

LORA_PRESETS: dict[str, dict[str, Any]] = {
    # r is the paper's; alpha and dropout are inferred, the targets follow from its 392 tensors
    "ker_vljepa": {"r": 16, "lora_alpha": 32, "target_modules": list(LLAMA_LINEARS)},
    # the model card of the released weights
    "ker_vljepa_released": {"r": 64, "lora_alpha": 128, "target_modules": list(LLAMA_LINEARS)},
}
"""Arguments of ``peft.LoraConfig`` under the name of a system."""


def lora_settings(lora: Mapping[str, Any] | str) -> dict[str, Any]:
    """Return the arguments of ``peft.LoraConfig`` that a preset's name stands for.

    Args:
        lora: A name of ``LORA_PRESETS``, or the arguments themselves.

    Raises:
        ConfigError: If the name is unknown.

    Example:
        >>> from ct_vlm.decoders.lora import lora_settings
        >>> lora_settings("ker_vljepa_released")["lora_alpha"]
        128

    References:
        Ker-VLJEPA-3B, https://arxiv.org/abs/2603.23308. Its text says "all attention layers"; 392 LoRA
        tensors in 28 layers are two for each of all seven linear layers.
    """
    if not isinstance(lora, str):
        return dict(lora)
    if lora not in LORA_PRESETS:
        cause = f"Unknown LoRA preset `{lora}`."
        raise ConfigError(cause, f"Use one of {sorted(LORA_PRESETS)}, or the arguments of `peft.LoraConfig`.")
    return dict(LORA_PRESETS[lora])
