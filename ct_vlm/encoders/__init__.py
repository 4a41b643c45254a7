"""Encoders that turn a volume into multi-level features."""
