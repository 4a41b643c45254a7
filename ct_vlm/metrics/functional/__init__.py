"""Functional twins of the metric classes."""
