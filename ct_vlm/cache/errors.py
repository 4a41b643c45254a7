"""What goes wrong with cache entries."""

from __future__ import annotations

from ct_vlm.errors import CTVLMError


class DamagedEntryError(CTVLMError, RuntimeError):
    """A cache entry is not what was written: cut off, altered, or no entry at all."""

    def __init__(self, path: object, detail: str) -> None:
        self.detail = detail
        super().__init__(f"Cache entry `{path}` is damaged: {detail}.", "Delete it; it is made again when needed.")
