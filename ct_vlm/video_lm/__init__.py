"""Video language models of transformers: what tells their families apart, and loading one half of a model."""

from __future__ import annotations
