"""Samples a second from warm caches, beside MONAI's data sets: ``python -m benchmarks.loader``.

All read the same volumes one by one. ``ct_vlm`` gives int16 HU, and windows them after the loader, where the device
is: "windowed" includes that work on this machine's CPU, and "int16" is what a loader that feeds a GPU does. MONAI's
data sets keep windowed float32. Passes take turns; processes are started and caches read once before the first, when
every sixth slice is compared with float64. Ratios are MONAI PersistentDataset's time over a loader's, with as many
processes.

A volume takes 2.2 GB in memory, shared memory and page cache together, most of it for MONAI's floats.
"""

from __future__ import annotations

import argparse
import os
import sys

# before numpy or torch is imported: a thread that waits for another one counts as work
for _variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[_variable] = "1"

import importlib.util  # noqa: E402
import multiprocessing  # noqa: E402
import statistics  # noqa: E402
import tempfile  # noqa: E402
import time  # noqa: E402
from dataclasses import dataclass, field  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import TYPE_CHECKING, Any  # noqa: E402

import nibabel as nib  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
from isal import igzip  # noqa: E402

from benchmarks.environment import load  # noqa: E402
from benchmarks.ops._volumes import GRID, source_volume  # noqa: E402
from benchmarks.tables import append_csv, environment_columns, print_table, progress_bar  # noqa: E402
from ct_vlm.cli.types import positive  # noqa: E402
from ct_vlm.datamodules import make_loader  # noqa: E402
from ct_vlm.datasets import CTRateDataset  # noqa: E402
from ct_vlm.errors import CTVLMError  # noqa: E402
from ct_vlm.transforms import CTPreset  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from torch import Tensor

CODECS = {"ct_vlm": "uncompressed", "ct_vlm lz4": "lz4", "ct_vlm zstd": "zstd"}
WINDOW = (-1000, 1000)
PEER = "MONAI PersistentDataset"
COMPARED = 6
"""Every so many slices are compared: all of them would take longer than what is measured."""
Size = tuple[int, int, int]


@dataclass
class Provider:
    """A loader that is started once and passed over again and again.

    Args:
        name: Of the row.
        workers: Reading processes.
        batches: The loader.
        image: Takes what is compared (and, where that is part of it, makes it) from a batch.
        windowed: Whether it is windowed floats, else HU.
    """

    name: str
    workers: int
    batches: Iterable[dict[str, Any]]
    image: Callable[[dict[str, Any]], Tensor]
    windowed: bool
    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    mib: float = 0.0
    difference: float = 0.0


def write_tree(root: Path, volumes: int, size: Size) -> None:
    """Write different volumes of that size as CT-RATE's v2 stores them."""
    base = source_volume(size)
    for number in range(1, volumes + 1):
        folder = root / f"dataset/train_fixed/train_{number}/train_{number}_a"
        folder.mkdir(parents=True)
        array = np.roll(base, 3 * number, axis=1)[::-1].T
        image = nib.Nifti1Image(np.ascontiguousarray(array), np.diag([-0.75, -0.75, 1.5, 1.0]))
        image.header.set_xyzt_units("mm")
        with igzip.open(folder / f"train_{number}_a_1.nii.gz", "wb", compresslevel=0) as file:
            file.write(image.to_bytes())


def make_providers(root: Path, size: Size, workers: Sequence[int]) -> tuple[list[Provider], list[Tensor]]:
    """Return loaders over warm caches, and the HU of every volume."""
    preset = CTPreset("bench", size=size, windows=(WINDOW,))
    providers: list[Provider] = []
    reference: list[Tensor] = []
    for name, codec in CODECS.items():
        dataset = CTRateDataset(root, preset=preset, text=None, labels=False, cache_dir=root / codec, cache_codec=codec)
        for index in range(len(dataset)):
            image = dataset[index]["image"]
            if index >= len(reference):
                reference.append(image)
        for count in workers:
            loader = make_loader(dataset, batch_size=1, num_workers=count, persistent_workers=count > 0)
            providers.append(Provider(f"{name}, int16", count, loader, lambda batch: batch["image"], windowed=False))
            providers.append(
                Provider(f"{name}, windowed", count, loader, lambda batch: preset.window(batch["image"]), windowed=True)
            )
    return providers + _monai_providers(root, preset, reference, workers), reference


def _monai_providers(root: Path, preset: CTPreset, volumes: list[Tensor], workers: Sequence[int]) -> list[Provider]:
    """Return MONAI's data sets, whose caches are filled, behind its loaders."""
    from monai.data import CacheDataset, DataLoader, LMDBDataset, PersistentDataset, ThreadDataLoader
    from monai.transforms import Transform

    class Windowed(Transform):  # MONAI keeps what its own deterministic transforms return, nothing else
        def __call__(self, data: Any) -> dict[str, Tensor]:
            return {"image": preset.window(volumes[data["number"]][None])[0]}

    records = [{"number": number} for number in range(len(volumes))]
    datasets = {
        "PersistentDataset": PersistentDataset(records, Windowed(), cache_dir=root / "persistent"),
        "CacheDataset": CacheDataset(records, Windowed(), progress=False, num_workers=1),
    }
    if importlib.util.find_spec("lmdb") is not None:
        limit = 2 * len(volumes) * volumes[0].numel() * 4 + 2**24
        datasets["LMDBDataset"] = LMDBDataset(
            records, Windowed(), cache_dir=root / "lmdb", progress=False, lmdb_kwargs={"map_size": limit}
        )
    providers = []
    for name, dataset in datasets.items():
        for count in workers:
            loader = DataLoader(dataset, batch_size=1, num_workers=count, persistent_workers=count > 0)
            providers.append(Provider(f"MONAI {name}", count, loader, _image, windowed=True))
        threaded = ThreadDataLoader(dataset, batch_size=1, num_workers=0, buffer_size=2)
        providers.append(Provider(f"MONAI {name}, ThreadDataLoader", 0, threaded, _image, windowed=True))
    return providers


def _image(batch: dict[str, Any]) -> Tensor:
    image: Tensor = batch["image"]
    return image.as_tensor() if hasattr(image, "as_tensor") else image


def compare(provider: Provider, reference: list[Tensor]) -> None:
    """Start the processes, read everything once, and note how far it is from the reference in float64."""
    low, high = WINDOW
    for batch, hu in zip(provider.batches, reference, strict=True):
        image = provider.image(batch)[0]
        for found, of_slice in zip(image[:, ::COMPARED].unbind(1), hu[:, ::COMPARED].unbind(1), strict=True):
            exact = of_slice.double()
            if provider.windowed:
                exact = (exact.clamp(low, high) - low) / (high - low)
            provider.difference = max(provider.difference, float((found.double() - exact).abs().max()))
        provider.mib = batch["image"].nbytes / 2**20


def time_pass(provider: Provider) -> None:
    """Read all volumes once; note wall and CPU seconds of all processes a sample."""
    samples = 0
    wall, cpu = time.perf_counter(), cpu_seconds()
    for batch in provider.batches:
        provider.image(batch)
        samples += 1
    provider.wall.append((time.perf_counter() - wall) / samples)
    provider.cpu.append((cpu_seconds() - cpu) / samples)


def cpu_seconds() -> float:
    """Return the CPU time of this process and of its children that run."""
    ticks = 0
    for child in multiprocessing.active_children():
        try:
            fields = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()
        except FileNotFoundError:
            continue
        ticks += int(fields[11]) + int(fields[12])
    return time.process_time() + ticks / os.sysconf("SC_CLK_TCK")


def run(volumes: int, size: Size, workers: Sequence[int], repeats: int, csv: str | None, *, progress: bool) -> int:
    """Measure, print and keep."""
    torch.set_num_threads(1)
    environment = environment_columns()
    with tempfile.TemporaryDirectory(prefix="ct_vlm_loader_") as folder, progress_bar(shown=progress) as bar:
        task = bar.add_task("writing volumes", total=None)
        write_tree(Path(folder), volumes, size)
        bar.update(task, description="filling caches", refresh=True)
        providers, reference = make_providers(Path(folder), size, workers)
        bar.update(task, total=(repeats + 1) * len(providers))
        for provider in providers:
            bar.update(task, description=f"{provider.name}: comparing", refresh=True)
            compare(provider, reference)
            bar.update(task, advance=1)
        for number in range(repeats):
            for provider in providers:
                bar.update(task, description=f"{provider.name}: {number + 1} of {repeats}", refresh=True)
                time_pass(provider)
                bar.update(task, advance=1)
    rows = [_row(provider, _peer_of(provider, providers)) for provider in providers]
    title = f"{volumes} volumes of {'x'.join(map(str, size))}; load {environment['load']} before, {load():.2f} after"
    print_table(title, [_cells(row) for row in rows])
    if csv is not None:
        shared = {**environment, "volumes": volumes, "size": "x".join(map(str, size)), "repeats": repeats}
        append_csv(csv, [{**shared, **row} for row in rows])
    return 0


def _peer_of(provider: Provider, providers: Sequence[Provider]) -> Provider:
    """Return the peer with as many processes."""
    return next(other for other in providers if (other.name, other.workers) == (PEER, provider.workers))


def _row(provider: Provider, peer: Provider) -> dict[str, Any]:
    wall = statistics.median(provider.wall)
    return {
        "provider": provider.name,
        "workers": provider.workers,
        "samples_a_second": 1 / wall,
        "wall_ms": 1e3 * wall,
        "cpu_ms": 1e3 * statistics.median(provider.cpu),
        "wall_ratio": statistics.median(peer.wall) / wall,
        # a child's time comes in hundredths of a second: few tiny volumes may take none
        "cpu_ratio": statistics.median(peer.cpu) / (statistics.median(provider.cpu) or float("nan")),
        "mib_a_sample": provider.mib,
        "difference": provider.difference,
    }


def _cells(row: dict[str, Any]) -> dict[str, str]:
    return {
        "loader": row["provider"],
        "workers": str(row["workers"]),
        "samples/s": f"{row['samples_a_second']:.3g}",
        "wall ms": f"{row['wall_ms']:.4g}",
        "CPU ms": f"{row['cpu_ms']:.4g}",
        "ratio wall": f"{row['wall_ratio']:.3g}",
        "ratio CPU": f"{row['cpu_ratio']:.3g}",
        "MiB a sample": f"{row['mib_a_sample']:.4g}",
        "difference": f"{row['difference']:.2g}",
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; 2 if it was wrong."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.loader", description=__doc__.split("\n\n")[0])
    parser.add_argument("--volumes", type=positive, default=3, metavar="N", help="different volumes (3)")
    parser.add_argument("--size", type=positive, nargs=3, default=GRID, metavar=("D", "H", "W"), help="(240 480 480)")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 2], metavar="N", help="reading processes (0 2)")
    parser.add_argument("--repeats", type=positive, default=3, metavar="N", help="timed passes of a loader (3)")
    parser.add_argument("--csv", metavar="FILE", help="append the rows to this file")
    parser.add_argument("--no-progress", action="store_true", help="no progress bar")
    args = parser.parse_args(argv)
    try:
        return run(args.volumes, tuple(args.size), args.workers, args.repeats, args.csv, progress=not args.no_progress)
    except CTVLMError as error:
        print(error, file=sys.stderr)
        return 2


if __name__ == "__main__":
    raise SystemExit(main())
