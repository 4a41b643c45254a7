"""What is timed of every op: sizes, inputs, providers and the least work."""
