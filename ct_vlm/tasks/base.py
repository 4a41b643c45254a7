"""What the training tasks share: optimizer, freezing and self-describing checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch

import ct_vlm
from ct_vlm.component import Component, match_dtypes
from ct_vlm.errors import CheckpointError, ConfigError
from ct_vlm.modules.unread import leave_unread, unread_names, wake_unread
from ct_vlm.tasks.handover import hand_over
from ct_vlm.tasks.optimizer import OptimizerConfig

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

CHECKPOINT_KEY = "ct_vlm"


class TrainingTask(Component):
    """Mixin that trains a model component.

    Derive from it first and from the model second. A checkpoint of the trainer holds the composed
    config, so :meth:`load_from_checkpoint` rebuilds the whole task from the file alone.

    Attributes:
        optimizer: Optimizer and schedule.
        frozen: Names of the parts that do not train.
    """

    optimizer: OptimizerConfig
    frozen: tuple[str, ...]

    def set_training(
        self,
        optimizer: OptimizerConfig | None,
        frozen: Sequence[str] = (),
        init_from: Mapping[str, str] | None = None,
    ) -> None:
        """Store optimizer settings, fill parts from earlier stages and freeze the named parts.

        Args:
            optimizer: Optimizer and schedule; the defaults if None.
            frozen: Module names, e.g. ``("encoder", "connectors.1.head")``.
            init_from: Part to checkpoint of an earlier stage, see
                :func:`ct_vlm.tasks.handover.hand_over`. It is no part of the saved config: a
                checkpoint holds the weights themselves.

        Raises:
            ConfigError: If a name is no part of the model.
        """
        self.optimizer = optimizer or OptimizerConfig()
        # a subclass may have a constructor of its own, which takes neither
        resolved = {"optimizer": self.optimizer, "init_from": None}
        self._init_args.update({name: value for name, value in resolved.items() if name in self._init_args})
        if init_from:
            hand_over(self, init_from)
        # parts may come from a task with other losses
        wake_unread(self)
        self.frozen = tuple(frozen)
        for name in self.frozen:
            try:
                self.get_submodule(name).requires_grad_(False).eval()
            except AttributeError as error:
                parts = sorted(n for n, _ in self.named_children())
                msg = f"`frozen` names no part: {name!r}."
                raise ConfigError(msg, f"Parts are: {parts}.") from error

    def set_readers(
        self,
        losses: Collection[str],
        readers: Mapping[str, Sequence[str]],
        read: Callable[[str], bool] | None = None,
    ) -> None:
        """Let parts that no loss reads take no gradient, see :func:`ct_vlm.modules.unread.leave_unread`.

        Call it after :meth:`set_training`. On one process it changes nothing: such parameters have no
        gradient, and stay in the optimizer, so that checkpoints of any process count are alike.

        Args:
            losses: Losses of the task.
            readers: Part to the losses that read it.
            read: Tells of a parameter's name whether something else reads it; nothing does unless given.
        """
        leave_unread(self, [part for part, names in readers.items() if not set(names) & set(losses)], read)

    def train(self, mode: bool = True) -> Self:
        """Switch mode; frozen parts stay in eval mode."""
        super().train(mode)
        self._freeze_modes()
        return self

    def on_fit_start(self) -> None:
        """Compose the config once, so that arguments no checkpoint can hold stop the run here."""
        if self.trainer.checkpoint_callbacks:
            self.to_config()

    def on_train_start(self) -> None:
        """Keep frozen parts in eval mode: a trainer does not call :meth:`train` before it fits."""
        self._freeze_modes()
        # a trainer that is limited by epochs makes its loader when `configure_optimizers` asks for the number of
        # steps, before a checkpoint is read, and would begin the interrupted epoch anew
        self.trainer.fit_loop._load_combined_loader_states()

    def on_train_epoch_start(self) -> None:
        """Keep frozen parts in eval mode, whatever callbacks did to the modes in between."""
        self._freeze_modes()

    def _freeze_modes(self) -> None:
        for name in getattr(self, "frozen", ()):
            self.get_submodule(name).eval()

    def configure_optimizers(self) -> Any:
        """Return optimizer and per-step schedule over the trainer's steps."""
        steps = self.trainer.estimated_stepping_batches
        return self.optimizer.build(self.named_parameters(), steps, unread=unread_names(self))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store the composed config in the checkpoint."""
        checkpoint[CHECKPOINT_KEY] = {"version": ct_vlm.__version__, "config": self.to_config()}

    @classmethod
    def load_from_checkpoint(  # type: ignore[override]
        cls, checkpoint_path: str | Path, map_location: Any = "cpu", *, strict: bool | None = None, **unknown: Any
    ) -> Self:
        """Rebuild a task from a trainer's checkpoint, with no other argument.

        Args:
            checkpoint_path: ``.ckpt`` file written by a trainer.
            map_location: Where tensors go.
            strict: Keys are always matched strictly; False is refused.
            unknown: Of Lightning's further arguments, ``weights_only`` (files are always read so)
                and ``hparams_file=None`` are accepted; all others are refused.

        Raises:
            CheckpointError: If the file is unreadable, not ours, or does not fit its config.
            ConfigError: If another argument is given.
        """
        unknown.pop("weights_only", None)
        if unknown.get("hparams_file", "absent") is None:
            unknown.pop("hparams_file")
        refused = sorted(unknown) + ([] if strict in (None, True) else ["strict=False"])
        if refused:
            cause = f"`load_from_checkpoint` takes no {', '.join(refused)}: the checkpoint holds the task's arguments."
            raise ConfigError(cause, "Load the task as it is, and change its attributes or parts afterwards.")
        return load_task(checkpoint_path, cls, map_location)


def load_task(path: str | Path, expected: type[Any] = Component, map_location: Any = "cpu") -> Any:
    """Rebuild whichever task a trainer's checkpoint holds.

    Args:
        path: ``.ckpt`` file.
        expected: Class the result must be an instance of.
        map_location: Where tensors go.

    Raises:
        CheckpointError: If the file is unreadable, not ours, or does not fit its config.
    """
    checkpoint = read_checkpoint(path, map_location)
    task = expected.from_config(checkpoint[CHECKPOINT_KEY]["config"])
    match_dtypes(task, {key: value.dtype for key, value in checkpoint["state_dict"].items()})
    try:
        task.load_state_dict(checkpoint["state_dict"], strict=True)
    except RuntimeError as error:
        msg = f"`{path}` does not fit the model that its config describes: {error}"
        raise CheckpointError(msg) from error
    return task


def read_checkpoint(path: str | Path, map_location: Any = "cpu") -> Mapping[str, Any]:
    """Read a trainer's checkpoint without unpickling code (``weights_only=True``).

    Args:
        path: ``.ckpt`` file.
        map_location: Where tensors go.

    Raises:
        CheckpointError: If the file is absent, unreadable or holds no config of ours.
    """
    file = Path(path)
    if not file.is_file():
        msg = f"No checkpoint file `{file}`."
        raise CheckpointError(msg, "Pass a `.ckpt` file written by a trainer.")
    try:
        checkpoint = torch.load(file, map_location=map_location, weights_only=True)
    except Exception as error:
        cause = f"`{file}` is not a checkpoint that can be read safely: {error}"
        raise CheckpointError(cause, "Pass a `.ckpt` file written by a trainer of this library.") from error
    if not isinstance(checkpoint, dict) or CHECKPOINT_KEY not in checkpoint or "state_dict" not in checkpoint:
        cause = f"`{file}` holds no ct_vlm config."
        raise CheckpointError(cause, "It was written by another program; build the model and load its `state_dict`.")
    return checkpoint
