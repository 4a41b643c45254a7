"""The loss of a language model's head, whose logits are never held all at once.

:func:`lm_loss` takes hidden states and the head's weight in place of logits.
"""

from __future__ import annotations

from ct_vlm.ops.lm_loss.op import BACKENDS, example_inputs, lm_loss

__all__ = ["BACKENDS", "example_inputs", "lm_loss"]
