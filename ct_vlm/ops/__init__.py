"""Pure functions and fused kernels, one folder an op."""
