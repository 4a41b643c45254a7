"""One call of a provider: forward without gradients, or forward and backward between marks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Iterable

    from benchmarks.clocks import Clock
    from benchmarks.registry import Inputs, Op, Provider


class Times(NamedTuple):
    """Milliseconds of the two halves of a training step."""

    forward: float
    backward: float


@dataclass
class Bench:
    """Inputs of one case, and what every provider's backward pass starts from.

    Args:
        inputs: What providers are called with; the leaves among them require gradients.
        leaves: Names of the inputs that are differentiated.
        clock: The device's clock.
    """

    inputs: Inputs
    leaves: tuple[str, ...]
    clock: Clock
    _upstream: dict[tuple[int, ...], Tensor] = field(default_factory=dict)

    @classmethod
    def of(cls, op: Op, inputs: Inputs, clock: Clock) -> Bench:
        """Make the leaves of an op require gradients."""
        for name in op.gradients:
            inputs[name].requires_grad_()
        return cls(inputs, op.gradients, clock)

    def forward(self, provider: Provider) -> tuple[Tensor, ...]:
        """Run a provider as inference does."""
        with torch.no_grad():
            return as_tuple(provider(self.inputs))

    def time_forward(self, provider: Provider) -> float:
        """Return the milliseconds of :meth:`forward`."""
        self.clock.settle()
        start = self.clock.mark()
        result = self.forward(provider)
        end = self.clock.mark()
        del result
        return self.clock.between(start, end)

    def time_full(self, provider: Provider) -> Times:
        """Run a provider forward and backward and return the milliseconds of both; leaves keep gradients."""
        self.forget_gradients()
        self.clock.settle()
        start = self.clock.mark()
        results = as_tuple(provider(self.inputs))
        middle = self.clock.mark()
        differentiable = [result for result in results if result.requires_grad]
        # made in the first call, which is a warm-up
        upstream = [self._gradient_of(result) for result in differentiable]
        resumed = self.clock.mark()
        torch.autograd.backward(differentiable, upstream)
        end = self.clock.mark()
        return Times(self.clock.between(start, middle), self.clock.between(resumed, end))

    def gradients(self) -> dict[str, Tensor]:
        """Return the gradients that the last full call left, by the names of their leaves."""
        found = {name: self.inputs[name].grad for name in self.leaves}
        return {name: gradient for name, gradient in found.items() if gradient is not None}

    def forget_gradients(self) -> None:
        """Let every backward pass make its gradients, and not add to those before."""
        for name in self.leaves:
            self.inputs[name].grad = None

    def _gradient_of(self, result: Tensor) -> Tensor:
        shape = tuple(result.shape)
        if shape not in self._upstream:
            generator = torch.Generator().manual_seed(0)
            self._upstream[shape] = torch.randn(shape, generator=generator, dtype=torch.float64)
        made = self._upstream[shape] = self._upstream[shape].to(result.device, result.dtype)
        return made


def as_tuple(results: Any) -> tuple[Tensor, ...]:
    """Return the tensors that a provider returned."""
    if isinstance(results, Tensor):
        return (results,)
    return tuple(_tensors(results))


def _tensors(results: Iterable[Any]) -> Iterable[Tensor]:
    for result in results:
        if isinstance(result, Tensor):
            yield result
        elif result is not None:
            yield from as_tuple(result)


def why_not(error: Exception) -> str:
    """Put an exception into one line."""
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0] if text else 'no message'}"[:200]
