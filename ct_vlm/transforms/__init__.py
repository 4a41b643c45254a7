"""Volumes: reading, HU checks, orientation, resampling, windows and presets."""
