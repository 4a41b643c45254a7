"""Torch datasets over published data layouts."""
