"""The ``ct-vlm`` command.

One file a command; a command's file is imported only when that command is called, and imports
torch only when it runs, so ``ct-vlm --help`` answers at once.

Exit codes: 0 done; 1 the work failed (an error with cause and cure is on stderr); 2 the command
line or a configuration file is wrong; 130 interrupted.
"""

from __future__ import annotations

from ct_vlm.cli.main import main

__all__ = ["main"]
