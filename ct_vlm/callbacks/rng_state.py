"""Random-number state in checkpoints, so that a resumed run draws what an unbroken one would."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from lightning import Callback

if TYPE_CHECKING:
    from lightning import LightningModule, Trainer


class RNGState(Callback):
    """Save and restore the generators of torch, NumPy and Python with every checkpoint.

    The state is plain tensors, numbers and strings, so checkpoints stay readable with
    ``weights_only=True``. Each process of a distributed run saves rank 0's state; ranks that draw
    random numbers of their own should seed them by rank and step.

    Example:
        >>> from ct_vlm.callbacks import RNGState
        >>> sorted(RNGState().state_dict())
        ['cuda', 'numpy', 'python', 'torch']
    """

    def __init__(self) -> None:
        self._pending: dict[str, Any] | None = None

    def state_dict(self) -> dict[str, Any]:
        """Return the state of every generator."""
        version, internal, gauss = random.getstate()
        name, keys, position, has_gauss, cached = np.random.get_state()  # noqa: NPY002 (the global generator)
        return {
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
            "numpy": [name, torch.from_numpy(np.asarray(keys, np.int64)), int(position), int(has_gauss), float(cached)],
            "python": [version, list(internal), gauss],
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep a state until the first batch."""
        self._pending = state_dict

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Restore the state before the first batch, when all set-up has drawn its numbers."""
        state, self._pending = self._pending, None
        if state is None:
            return
        torch.set_rng_state(state["torch"].cpu())
        if state["cuda"] and len(state["cuda"]) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all([s.cpu() for s in state["cuda"]])
        name, keys, position, has_gauss, cached = state["numpy"]
        np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, cached))  # noqa: NPY002
        version, internal, gauss = state["python"]
        random.setstate((version, tuple(internal), gauss))
