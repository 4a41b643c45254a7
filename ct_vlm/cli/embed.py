"""Write one embedding a slice, or the visual tokens of a video language model, for every volume, once.

The encoder is a folder written by `save_pretrained`, a trainer's `.ckpt` file, or a video language model of
transformers (Qwen2.5-VL, Qwen3-VL, InternVL), whose tower is taken. Training then needs neither voxels nor encoder. An
interrupted run goes on where it stopped, and several processes may fill one folder. `features.json` in it says what the
features were made with: `SliceEmbeddingDataModule` reads embeddings of slices by that, `CachedFeatureDataModule` visual
tokens. Files of the data set are only read.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ct_vlm.cli.errors import UsageError
from ct_vlm.cli.generate import device_named
from ct_vlm.cli.output import say
from ct_vlm.cli.types import positive

if TYPE_CHECKING:
    import argparse

    from ct_vlm.encoders import Encoder
    from ct_vlm.transforms import CTPreset

SPLITS = ("train", "valid")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``ct-vlm embed``."""
    parser.add_argument("--encoder", required=True, metavar="DIR|FILE", help="folder, .ckpt file or hub id")
    parser.add_argument("--root", type=Path, required=True, metavar="DIR", help="folder that holds CT-RATE's dataset/")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where the embeddings go")
    parser.add_argument(
        "--preset", default="ker_vljepa", metavar="NAME|FILE.json", help="preprocessing (default ker_vljepa)"
    )
    parser.add_argument("--split", nargs="+", choices=SPLITS, default=list(SPLITS), help="splits (default: both)")
    parser.add_argument("--version", choices=("auto", "v1", "v2"), default="auto", help="release (default auto)")
    parser.add_argument("--cache-dir", type=Path, metavar="DIR", help="cache of preprocessed volumes")
    parser.add_argument(
        "--dtype",
        choices=("float16", "bfloat16", "float32"),
        help="stored type (default: float16 for slices, that of the weights for visual tokens)",
    )
    parser.add_argument("--max-slices", type=positive, default=600, metavar="N", help="thin out above (default 600)")
    parser.add_argument("--pooling", choices=("class", "mean"), default="class", help="token taken (default class)")
    parser.add_argument("--frames", type=positive, metavar="N", help="frames that a video LM sees (default: its own)")
    parser.add_argument("--workers", type=int, default=0, metavar="N", help="reading processes (default 0)")
    parser.add_argument("--shard", metavar="I/N", help="only part I of N, by patient, e.g. one a GPU; auto for SLURM")
    parser.add_argument("--device", default="auto", help="auto (default), cpu, cuda, cuda:1, mps")
    parser.add_argument("--no-progress", action="store_true", help="no progress bar")


def run(args: argparse.Namespace) -> int:
    """Embed every volume of the splits that has no embeddings yet."""
    from ct_vlm.cache import FeatureCache, model_identity, write_manifest
    from ct_vlm.datamodules import precompute
    from ct_vlm.datasets import CTRateDataset
    from ct_vlm.datasets.preprocessing import Shard

    part = Shard.parse(args.shard) if args.shard else Shard()
    preset = _preset(args.preset)
    embedder = load_embedder(
        args.encoder,
        pooling=args.pooling,
        max_slices=args.max_slices,
        frames=args.frames,
        in_channels=preset.channels,
    )
    cache = FeatureCache(args.out, model_identity(embedder), preset.to_config(), dtype=_stored_type(args, embedder))
    write_manifest(cache, args.out, encoder=args.encoder, **_notes(args, embedder))
    embedder = embedder.to(device_named(args.device))
    for split in args.split:
        whole = CTRateDataset(
            args.root, split, version=args.version, preset=preset, text=None, labels=False, cache_dir=args.cache_dir
        )
        dataset = whole.subset(whole.patient_ids()[part.number - 1 :: part.count])
        done = precompute(embedder, dataset, cache, preset, num_workers=args.workers, progress=not args.no_progress)
        say(f"{split}: {len(done.made)} volumes embedded, {len(done.present)} present")
    return 0


def _stored_type(args: argparse.Namespace, encoder: Encoder) -> str:
    """Return the type that features are stored as: visual tokens keep every bit unless asked otherwise."""
    if args.dtype is not None:
        return str(args.dtype)
    if not _is_video(encoder):
        return "float16"
    weights = next(p.dtype for p in encoder.parameters() if p.is_floating_point())
    return str(weights).removeprefix("torch.")


def _notes(args: argparse.Namespace, encoder: Encoder) -> dict[str, Any]:
    """Return what the manifest says of the encoder for readers."""
    from ct_vlm.encoders import VideoLMEncoder

    if isinstance(encoder, VideoLMEncoder):
        return {"family": encoder.family.model_type, "inputs": encoder.inputs.to_config()}
    return {"pooling": args.pooling, "max_slices": args.max_slices}


def _is_video(encoder: Encoder) -> bool:
    """Tell whether an encoder is the tower of a video language model."""
    from ct_vlm.encoders import VideoLMEncoder

    return isinstance(encoder, VideoLMEncoder)


def _preset(name: str) -> CTPreset:
    """Return a preset by its name, or from a file that holds its config."""
    from ct_vlm.transforms import get_preset

    if not name.endswith(".json"):
        return get_preset(name)
    try:
        return get_preset(json.loads(Path(name).read_text(encoding="utf-8")))
    except ValueError as error:
        cause = f"`--preset {name}` holds no preset: {error}"
        raise UsageError(cause, "Write the output of `preset.to_config()` there.") from error


def load_embedder(source: str, *, frames: int | None = None, in_channels: int = 3, **options: Any) -> Encoder:
    """Rebuild a slice embedder from a slice encoder, or the tower of a video language model, or from what holds one.

    Args:
        source: Folder written by ``save_pretrained``, ``.ckpt`` file, hub id, or a video language model of
            transformers.
        frames: Frames of a video language model of transformers; None takes its processor's rule.
        in_channels: Channels of its volumes.
        options: Arguments of :class:`ct_vlm.encoders.SliceEmbedder`, unless it is one already.

    Returns:
        The embedder, frozen.

    Raises:
        CheckpointError: If it cannot be read.
        ConfigError: If it holds no slice encoder and no tower.
    """
    from ct_vlm.component import Component
    from ct_vlm.encoders import SliceEmbedder, SliceEncoder, VideoLMEncoder
    from ct_vlm.errors import ConfigError
    from ct_vlm.tasks import load_task

    if _is_transformers_folder(source):
        return _video_encoder(source, frames, in_channels)
    is_file = Path(source).is_file() or source.endswith(".ckpt")
    found: Any = load_task(source, Component) if is_file else Component.from_pretrained(source)
    while not isinstance(found, SliceEmbedder | SliceEncoder | VideoLMEncoder):
        if not hasattr(found, "encoder"):
            cause = f"`{source}` holds a `{type(found).__name__}`, which has no slice encoder and no video LM's tower."
            raise ConfigError(cause, "Pass the checkpoint of a `SliceEncoder`, a `VideoLMEncoder` or a task with one.")
        found = found.encoder
    return (SliceEmbedder(found, **options) if isinstance(found, SliceEncoder) else found).freeze()


def _is_transformers_folder(source: str) -> bool:
    """Tell whether a folder holds a model of transformers rather than one of this library."""
    file = Path(source) / "config.json"
    try:
        return file.is_file() and "model_type" in json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        return False


def _video_encoder(source: str, frames: int | None, in_channels: int) -> Encoder:
    """Return the tower of a video language model of transformers."""
    from ct_vlm.encoders import VideoLMEncoder
    from ct_vlm.encoders.video_lm import default_inputs
    from ct_vlm.transforms import FrameSampling

    sampling = None if frames is None else FrameSampling("uniform", num_frames=frames)
    return VideoLMEncoder(source, default_inputs(source, sampling), in_channels=in_channels)
