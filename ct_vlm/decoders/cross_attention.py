"""Reading a visual memory after decoder layers that know nothing of it, at every decode step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from ct_vlm.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ct_vlm.features import VisualContext

MEMORY_KEYWORDS = ("memory_states", "memory_lengths", "memory_adapters")
"""Keyword arguments that travel from the language model's forward to its layers, in every step."""


class CrossAttention(Protocol):
    """What :class:`ct_vlm.decoders.CausalLMDecoder` asks of its ``cross_attention``.

    :class:`ct_vlm.modules.CrossAttentionAdapters` is one; another component may take its place.

    Attributes:
        embed_dim: Width E of the hidden states.
        memory_dim: Width C of the memory.
        layers: Decoder layers whose output reads the memory.
    """

    embed_dim: int
    memory_dim: int
    layers: tuple[int, ...]

    def remember(self, memory: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Prepare the memory ``(B, M, C)`` for all steps: two tensors whose first axis is the batch."""

    def __call__(self, hidden: Tensor, layer: int, states: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return a layer's output ``(B, T, E)`` with what it read added."""


class MemoryReading:
    """Forward pre-hook and forward hook of one decoder layer.

    The pre-hook takes the memory's keywords out of the layer's arguments, the hook lets the layer's
    output read. What the first hands to the second lives as long as the layer's call; copies and
    pickles leave it out.

    Args:
        layer: Index of the layer.
    """

    def __init__(self, layer: int) -> None:
        self.layer = layer
        self.reached = False
        self._call: tuple[Any, ...] | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Leave the tensors of a call out of copies."""
        return {"layer": self.layer, "reached": self.reached, "_call": None}

    def register(self, layer: nn.Module) -> None:
        """Put both hooks on a layer."""
        layer.register_forward_pre_hook(self.take, with_kwargs=True)
        layer.register_forward_hook(self.read)

    def take(self, _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Return the layer's arguments without the memory's."""
        self._call = None
        if "memory_states" not in kwargs:
            return None
        self.reached = True
        call = tuple(kwargs[name] for name in MEMORY_KEYWORDS)
        self._call = call if self.layer in call[-1].layers else None
        return args, {name: value for name, value in kwargs.items() if name not in MEMORY_KEYWORDS}

    def read(self, _module: nn.Module, _args: tuple[Any, ...], output: Any) -> Any:
        """Return the layer's output with what its hidden states read added."""
        if self._call is None:
            return None
        (states, lengths, adapters), self._call = self._call, None
        if isinstance(output, tuple):
            return (adapters(output[0], self.layer, states, lengths), *output[1:])
        return adapters(output, self.layer, states, lengths)


def check_adapters(adapters: Any, embed_dim: int, num_layers: int) -> Any:
    """Check that adapters fit a language model, and return them.

    Args:
        adapters: A :class:`CrossAttention`, or None.
        embed_dim: Width of the language model.
        num_layers: Number of its layers.

    Raises:
        ConfigError: If it is no cross-attention, the width differs or a layer does not exist.
    """
    if adapters is None:
        return None
    absent = [name for name in ("embed_dim", "memory_dim", "layers", "remember") if not hasattr(adapters, name)]
    if absent:
        cause = f"`cross_attention` is a {type(adapters).__name__} without {', '.join(absent)}."
        raise ConfigError(cause, "Use `ct_vlm.modules.CrossAttentionAdapters`, or a component with its attributes.")
    if adapters.embed_dim != embed_dim:
        cause = f"`cross_attention` is {adapters.embed_dim} wide, but the language model is {embed_dim}."
        raise ConfigError(cause, f"Build it with embed_dim={embed_dim}.")
    unknown = [layer for layer in adapters.layers if layer >= num_layers]
    if unknown:
        cause = f"`cross_attention` names layers {unknown}, but the language model has {num_layers}."
        raise ConfigError(cause, "Count layers from 0.")
    return adapters


def memory_inputs(adapters: CrossAttention | None, visual: VisualContext) -> dict[str, Any]:
    """Return the memory's keyword arguments of a language model prepared by ``make_visual``.

    Without a memory of its own, the context's tokens are the memory.

    Args:
        adapters: The adapters, or None.
        visual: A checked context.
    """
    memory = visual.tokens if visual.memory is None else visual.memory
    if adapters is None or memory is None:
        return {}
    states, lengths = adapters.remember(memory, visual.memory_mask)
    return {"memory_states": states, "memory_lengths": lengths, "memory_adapters": adapters}
