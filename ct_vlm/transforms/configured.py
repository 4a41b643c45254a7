"""Transforms that round-trip through a JSON config."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from ct_vlm.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping


class Configured:
    """A transform that is rebuilt from the arguments in its :attr:`config`."""

    config: dict[str, Any]

    def to_config(self) -> dict[str, Any]:
        """Return ``{"class_path": ..., "init_args": {...}}`` with JSON values only."""
        path = f"{type(self).__module__}.{type(self).__qualname__}"
        return {"class_path": path, "init_args": dict(self.config)}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Build one from :meth:`to_config` or from its ``init_args``.

        Args:
            config: The arguments, or the whole config.

        Raises:
            ConfigError: If an argument is unknown.
        """
        args = config.get("init_args", {}) if "class_path" in config else config
        try:
            return cls(**args)
        except TypeError as error:
            cause = f"`{cls.__name__}` cannot be built: {error}."
            raise ConfigError(cause, "Use the output of `to_config`.") from error
