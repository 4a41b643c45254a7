"""The error of a wrong command line."""

from __future__ import annotations

from ct_vlm.errors import ConfigError


class UsageError(ConfigError):
    """The command line or a configuration file is wrong (exit code 2)."""
