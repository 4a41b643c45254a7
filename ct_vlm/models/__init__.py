"""The published systems as builder functions, and the models they build."""
