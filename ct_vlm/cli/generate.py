"""Write the report of one scan from a checkpoint alone.

The checkpoint is a folder written by `save_pretrained`, a trainer's `.ckpt` file or a hub id; it
holds the model, its tokenizer and its preprocessing. The report goes to stdout; `--out` also
writes it as JSON with the volume's HU provenance and all versions. Models that read masks of
regions get them by `--masks`; JSON and pictures then say which slice and mask each part rests on.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ct_vlm.cli import grounding
from ct_vlm.cli.errors import UsageError
from ct_vlm.cli.output import say
from ct_vlm.cli.types import positive
from ct_vlm.files import write_json

if TYPE_CHECKING:
    import argparse

    from ct_vlm.models import GroundedReport, VisionLanguageModel
    from ct_vlm.transforms import Volume

HU_SOURCES = ("auto", "fixed", "csv", "header", "none")
_GENERATION = ("max_new_tokens", "num_beams", "do_sample", "temperature", "top_p", "top_k", "seed")
_VERSIONED = ("ct_vlm", "torch", "transformers", "tokenizers", "monai", "numpy")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``ct-vlm generate``."""
    parser.add_argument("--checkpoint", required=True, metavar="DIR|FILE", help="folder, .ckpt file or hub id")
    parser.add_argument("--volume", type=Path, required=True, metavar="CT.nii.gz", help="the scan; it is only read")
    parser.add_argument("--out", type=Path, metavar="FILE.json", help="also write the report and its origin as JSON")
    parser.add_argument("--device", default="auto", help="auto (default), cpu, cuda, cuda:1, mps")
    reading = parser.add_argument_group("reading the volume")
    reading.add_argument(
        "--hu-source", choices=HU_SOURCES, default="auto", help="where Hounsfield units come from (default auto)"
    )
    reading.add_argument("--metadata", type=Path, metavar="CSV", help="metadata table with a row of this volume")
    grounding.add_arguments(parser)
    writing = parser.add_argument_group("writing the report (defaults are the checkpoint's)")
    writing.add_argument("--max-new-tokens", type=positive, metavar="N", help="longest report in tokens")
    writing.add_argument("--num-beams", type=positive, metavar="N", help="beams; 1 is no beam search")
    writing.add_argument("--do-sample", action="store_true", default=None, help="draw tokens instead of the best one")
    writing.add_argument("--temperature", type=float, metavar="T", help="for --do-sample; 0 means the best token")
    writing.add_argument("--top-p", type=float, metavar="P", help="for --do-sample: probability mass to draw from")
    writing.add_argument("--top-k", type=int, metavar="K", help="for --do-sample: tokens to draw from; 0 means all")
    writing.add_argument("--seed", type=int, metavar="N", help="for --do-sample")


def run(args: argparse.Namespace) -> int:
    """Read the scan, write its report."""
    if args.out is not None and args.out.suffix != ".json":
        cause = f"`--out {args.out}` does not end in .json."
        raise UsageError(cause, "Name a JSON file, so that no scan or checkpoint is overwritten by mistake.")
    grounding.check_arguments(args)
    from ct_vlm.transforms import load_volume

    model = load_model(args.checkpoint)
    volume = load_volume(args.volume, args.hu_source, metadata=args.metadata, axcodes=_preset(model).axcodes)
    given = {name: getattr(args, name) for name in _GENERATION if getattr(args, name) is not None}
    generation = {**getattr(model, "generation", {}), **given}
    model = model.to(device_named(args.device))
    grounded = None if args.masks is None else grounding.write(args, model, volume, generation)
    report = model.generate(volume, **generation) if grounded is None else grounded.report
    if args.out is not None:
        write_json(args.out, _record(args, model, volume, generation, report, grounded))
    say(report)
    return 0


def load_model(checkpoint: str) -> VisionLanguageModel:
    """Rebuild a report model from a folder, a trainer's file or a hub id.

    Args:
        checkpoint: Folder written by ``save_pretrained``, ``.ckpt`` file, or hub id.

    Returns:
        The model in eval mode.

    Raises:
        CheckpointError: If it cannot be read, or its keys do not match.
        ConfigError: If it holds another kind of model.
    """
    from ct_vlm.models import VisionLanguageModel
    from ct_vlm.tasks import load_task

    is_file = Path(checkpoint).is_file() or checkpoint.endswith(".ckpt")
    model = load_task(checkpoint, VisionLanguageModel) if is_file else VisionLanguageModel.from_pretrained(checkpoint)
    return model.eval()


def device_named(name: str) -> Any:
    """Return the named device, or the best one there is for ``auto``.

    Args:
        name: ``auto`` or a device of torch.

    Raises:
        UsageError: If it cannot be used.
    """
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        cause = f"Device `{name}` cannot be used: {str(error).splitlines()[0]}"
        raise UsageError(cause, "Run `ct-vlm env` for what is there, or leave `--device` out.") from error
    return device


def _record(
    args: argparse.Namespace,
    model: VisionLanguageModel,
    volume: Volume,
    generation: dict[str, Any],
    report: str,
    grounded: GroundedReport | None,
) -> dict[str, Any]:
    """Return everything needed to tell where a report came from."""
    import platform

    from ct_vlm import __version__
    from ct_vlm.cli.env import version

    preset = _preset(model)
    versions = {name: version(name) for name in _VERSIONED} | {"ct_vlm": __version__}
    return {
        "report": report,
        **({} if grounded is None else grounded.to_dict()),
        "volume": {
            "path": str(args.volume),
            "shape": list(volume.shape),
            "spacing_mm": [float(value) for value in volume.spacing],
            "hu_provenance": volume.provenance.to_dict(),
        },
        "checkpoint": str(args.checkpoint),
        "model": model.to_config()["class_path"],
        "preset": preset.to_config()["init_args"],
        "generation": generation,
        "versions": {"python": platform.python_version(), **versions},
    }


def _preset(model: VisionLanguageModel) -> Any:
    """Return the model's preprocessing."""
    from ct_vlm.errors import ConfigError

    if model.preset is None:
        cause = "The checkpoint holds no preprocessing preset, so it cannot read a file."
        raise ConfigError(cause, "Build the model with `preset=...` and save it again.")
    return model.preset
