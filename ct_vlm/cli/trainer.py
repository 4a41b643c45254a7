"""`ct-vlm fit | validate | test | predict`: LightningCLI, where YAML files name classes briefly.

Every class of the library can be named without its module, and a mistyped key or class is
answered with the nearest one and exit code 2.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from ct_vlm.cli.friendly import explain

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
    from lightning.pytorch.cli import LightningCLI

    from ct_vlm.cli.parts import import_parts

    class _CLI(LightningCLI):
        """LightningCLI that takes its arguments from us and raises on wrong ones."""

        def parse_arguments(self, parser: Any, args: Any) -> None:
            """Parse without exiting and without a look at ``sys.argv``."""
            try:
                self.config = parser.parse_args(args)
            except argparse.ArgumentError as error:
                raise explain(str(error), _class_names()) from error

    import_parts()
    quiet = {"exit_on_error": False}
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
    return 0


def _class_names() -> list[str]:
    """Return the short names of every class that a configuration may use."""
    from lightning import Callback, LightningDataModule
    from torch import nn

    from ct_vlm.cli.parts import subclasses

    return [name for base in (nn.Module, LightningDataModule, Callback) for name in subclasses(base)]
