"""How many bytes a volume takes on disk: ``python -m benchmarks.cache_size``.

The volume is the phantom of the other benchmarks, 240 x 480 x 480 voxels; ratios depend on its noise.
Every form is read back and compared.
"""

from __future__ import annotations

import numpy as np

from benchmarks.ops._volumes import scratch
from benchmarks.ops.cached_volume import CASES, CODECS, make_inputs


def main() -> int:
    """Print one line a form."""
    inputs = make_inputs(CASES[0], "cpu", None)
    volume = inputs["volume"]
    peer = sum(file.stat().st_size for file in scratch("monai").rglob("*.pt"))
    print(f"{'form':>24} {'bytes':>13} {'of peer':>8}  read back")
    print(f"{'MONAI PersistentDataset':>24} {peer:>13,} {1:>8.2f}  windowed float32")
    for name, codec in CODECS.items():
        cache, path = inputs["entries"][codec]
        size = path.stat().st_size
        same = np.array_equal(cache.load(path)["image"], volume)
        print(f"{name:>24} {size:>13,} {peer / size:>8.2f}  {'equal' if same else 'DIFFERENT'}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
