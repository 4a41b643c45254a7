"""Studies of whole systems on phantoms; each runs as ``python -m benchmarks.studies.<name>``."""
