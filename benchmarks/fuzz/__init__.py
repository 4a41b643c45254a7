"""Damaged and hostile volumes against the reader: ``python -m benchmarks.fuzz --files 10000``."""
