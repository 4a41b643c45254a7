"""List what the library offers: components, models and presets.

A component's name is what a YAML file of `ct-vlm fit` gives as `class_path`.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from ct_vlm.cli.output import say, say_json, say_table

if TYPE_CHECKING:
    import argparse

KINDS = ("components", "models", "presets")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``ct-vlm list``."""
    parser.add_argument("kind", nargs="?", choices=KINDS, help="only this kind; all by default")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")


def run(args: argparse.Namespace) -> int:
    """Print the requested lists."""
    kinds = [args.kind] if args.kind else list(KINDS)
    collect = {"components": _components, "models": _models, "presets": _presets}
    found = {kind: collect[kind]() for kind in kinds}
    if args.json:
        say_json(found)
        return 0
    for kind, rows in found.items():
        header = list(rows[0]) if rows else []
        say_table(kind, header, [[str(row[name]) for name in header] for row in rows])
        say("")
    return 0


def _components() -> list[dict[str, Any]]:
    from ct_vlm.cli.parts import list_parts

    return [{"name": p.name, "package": p.package, "what": p.summary, "path": p.path} for p in list_parts()]


def _models() -> list[dict[str, Any]]:
    from ct_vlm.models import MODELS

    return [{"name": name, "what": _summary(builder)} for name, builder in sorted(MODELS.items())]


def _presets() -> list[dict[str, Any]]:
    from ct_vlm.transforms import get_preset, list_presets

    return [{"name": name, **_preset_columns(get_preset(name).to_config()["init_args"])} for name in list_presets()]


def _summary(documented: Any) -> str:
    return (inspect.getdoc(documented) or "").partition("\n\n")[0].replace("\n", " ")


def _preset_columns(settings: dict[str, Any]) -> dict[str, Any]:
    windows = "; ".join(f"{low:g} to {high:g}" for low, high in settings["windows"])
    return {"spacing mm": settings["spacing"], "size": settings["size"], "HU": windows, "norm": settings["norm"]}
