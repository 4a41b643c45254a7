"""Write one embedding a slice for every volume, once, so that training needs no voxels.

The encoder is a folder written by `save_pretrained` or a trainer's `.ckpt` file. An interrupted run goes on where it
stopped, and several processes may fill one folder. `features.json` in it says what the embeddings were made with:
`SliceEmbeddingDataModule` reads them by that. Files of the data set are only read.
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

    from ct_vlm.encoders import SliceEmbedder
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
        "--dtype", choices=("float16", "bfloat16", "float32"), default="float16", help="stored type (default float16)"
    )
    parser.add_argument("--max-slices", type=positive, default=600, metavar="N", help="thin out above (default 600)")
    parser.add_argument("--pooling", choices=("class", "mean"), default="class", help="token taken (default class)")
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
    embedder = load_embedder(args.encoder, pooling=args.pooling, max_slices=args.max_slices)
    cache = FeatureCache(args.out, model_identity(embedder), preset.to_config(), dtype=args.dtype)
    write_manifest(cache, args.out, encoder=args.encoder, pooling=args.pooling, max_slices=args.max_slices)
    embedder = embedder.to(device_named(args.device))
    for split in args.split:
        whole = CTRateDataset(
            args.root, split, version=args.version, preset=preset, text=None, labels=False, cache_dir=args.cache_dir
        )
        dataset = whole.subset(whole.patient_ids()[part.number - 1 :: part.count])
        done = precompute(embedder, dataset, cache, preset, num_workers=args.workers, progress=not args.no_progress)
        say(f"{split}: {len(done.made)} volumes embedded, {len(done.present)} present")
    return 0


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


def load_embedder(source: str, **options: Any) -> SliceEmbedder:
    """Rebuild a slice embedder from a slice encoder, or from a task or model around one.

    Args:
        source: Folder written by ``save_pretrained``, ``.ckpt`` file, or hub id.
        options: Arguments of :class:`ct_vlm.encoders.SliceEmbedder`, unless it is one already.

    Returns:
        The embedder, frozen.

    Raises:
        CheckpointError: If it cannot be read.
        ConfigError: If it holds no slice encoder.
    """
    from ct_vlm.component import Component
    from ct_vlm.encoders import SliceEmbedder, SliceEncoder
    from ct_vlm.errors import ConfigError
    from ct_vlm.tasks import load_task

    is_file = Path(source).is_file() or source.endswith(".ckpt")
    found: Any = load_task(source, Component) if is_file else Component.from_pretrained(source)
    while not isinstance(found, SliceEmbedder | SliceEncoder):
        if not hasattr(found, "encoder"):
            cause = f"`{source}` holds a `{type(found).__name__}`, which has no slice encoder."
            raise ConfigError(cause, "Pass the checkpoint of a `SliceEncoder` or of a task that trains one.")
        found = found.encoder
    return (SliceEmbedder(found, **options) if isinstance(found, SliceEncoder) else found).freeze()
