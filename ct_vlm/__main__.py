"""``python -m ct_vlm`` is ``ct-vlm``."""

from __future__ import annotations

import sys

from ct_vlm.cli import main

if __name__ == "__main__":
    sys.exit(main())
