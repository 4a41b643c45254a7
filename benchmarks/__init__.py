"""Measurements that anyone can repeat; each module runs as ``python -m benchmarks.<name>``."""
