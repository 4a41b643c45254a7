"""Connectors, visual projectors and heads."""
