"""`ct-vlm fit | validate | test | predict`: LightningCLI, where YAML files name classes briefly.

Every class of the library can be named without its module, and a mistyped key or class is
answered with the nearest one and exit code 2.
"""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING, Any

from ct_vlm.cli.friendly import explain
from ct_vlm.cli.predictions import save_predictions
from ct_vlm.errors import CTVLMError

if TYPE_CHECKING:
    from collections.abc import Sequence

SUBCOMMANDS = ("fit", "validate", "test", "predict")


def run(argv: Sequence[str]) -> int:
    """Parse the configuration, build model, data and trainer, and run the subcommand.

    Args:
        argv: The subcommand and its options.

    Returns:
        0; every failure is an exception.

    Raises:
        UsageError: If the configuration names an unknown key or class, or lacks one.
    """
    from lightning import LightningDataModule, LightningModule
    from lightning.pytorch.callbacks import BasePredictionWriter
    from lightning.pytorch.cli import LightningCLI

    from ct_vlm.callbacks import RNGState
    from ct_vlm.cli.parts import import_parts

    class _CLI(LightningCLI):
        """LightningCLI that takes its arguments from us and raises on wrong ones."""

        def parse_arguments(self, parser: Any, args: Any) -> None:
            """Parse without exiting and without a look at ``sys.argv``."""
            try:
                self.config = parser.parse_args(args)
            except argparse.ArgumentError as error:
                options = self._subcommand_parsers[argv[0]]._option_string_actions
                raise explain(str(error), _class_names(), [name.lstrip("-") for name in options]) from error

        def instantiate_trainer(self, **kwargs: Any) -> Any:
            """Keep random-number state in checkpoints, unless a callback of the configuration does."""
            named = self._get(self.config_init, "trainer", default={}).get("callbacks") or []
            if not any(isinstance(callback, RNGState) for callback in (named if isinstance(named, list) else [named])):
                self.trainer_defaults["callbacks"] = RNGState()
            return super().instantiate_trainer(**kwargs)

        def after_predict(self) -> None:
            """Keep the predicted records, unless a callback does."""
            trainer: Any = self.trainer  # its callbacks are set where type checkers do not look
            if any(isinstance(callback, BasePredictionWriter) for callback in trainer.callbacks):
                return
            folder = trainer.log_dir or trainer.default_root_dir
            save_predictions(trainer.predict_loop.predictions, folder, trainer.global_rank, trainer.world_size)

    # Lightning calls what newer parsers deprecate; that is between the two of them
    os.environ.setdefault("JSONARGPARSE_DEPRECATION_WARNINGS", "off")
    import_parts()
    quiet = {"exit_on_error": False}
    try:
        _CLI(
            LightningModule,
            LightningDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            # the tasks own their optimizers; Lightning's extra options would only override them in silence
            auto_configure_optimizers=False,
            parser_kwargs={**quiet, **{name: dict(quiet) for name in SUBCOMMANDS}},
            args=list(argv),
        )
    except ValueError as error:
        if (own := _own_cause(error)) is None:
            raise
        raise own from error
    return 0


def _own_cause(error: BaseException | None) -> CTVLMError | None:
    """Return our error among the causes of one that the parser wrapped around it."""
    while error is not None and not isinstance(error, CTVLMError):
        error = error.__cause__
    return error


def _class_names() -> list[str]:
    """Return the short names of every class that a configuration may use."""
    from lightning import Callback, LightningDataModule
    from torch import nn

    from ct_vlm.cli.parts import subclasses

    return [cls.__name__ for base in (nn.Module, LightningDataModule, Callback) for cls in subclasses(base)]
