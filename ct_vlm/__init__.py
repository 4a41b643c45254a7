"""Reusable components for 3D medical vision-language models that read chest CT."""

__version__ = "0.1.0"
