"""Video language models small enough to train on phantoms on one CPU core (ours, no published sizes)."""

from __future__ import annotations

import copy
from typing import Any

from ct_vlm.errors import ConfigError

_TEXT: dict[str, Any] = {
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "max_position_embeddings": 1024,
}
_QWEN_TOWER: dict[str, Any] = {
    "depth": 3,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_heads": 4,
    "patch_size": 8,
    "out_hidden_size": 128,
}

TINY: dict[str, dict[str, Any]] = {
    "qwen2_5_vl": {
        "model_type": "qwen2_5_vl",
        # 64 pixels are 8 x 8 patches: one window
        "vision_config": {**_QWEN_TOWER, "window_size": 64, "fullatt_block_indexes": [2], "tokens_per_second": 2},
        "text_config": {**_TEXT, "rope_parameters": {"rope_type": "default", "mrope_section": [4, 6, 6]}},
    },
    "qwen3_vl": {
        "model_type": "qwen3_vl",
        "vision_config": {**_QWEN_TOWER, "num_position_embeddings": 64, "deepstack_visual_indexes": [0, 1]},
        "text_config": {
            **_TEXT,
            "head_dim": 32,
            "rope_parameters": {"rope_type": "default", "mrope_section": [6, 5, 5], "mrope_interleaved": True},
        },
    },
    "internvl": {
        "model_type": "internvl",
        "vision_config": {
            "hidden_size": 64,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "intermediate_size": 128,
            "image_size": [64, 64],
            "patch_size": [8, 8],
        },
        "image_seq_length": 16,
        "text_config": {"model_type": "qwen2", **_TEXT},
        "tie_word_embeddings": False,
    },
}


def tiny_config(backbone: str) -> dict[str, Any]:
    """Return the config of a tiny model of transformers' real classes, without a vocabulary.

    Frames are 64 x 64 pixels: 16 visual tokens a frame, or two frames where the family joins them.

    Args:
        backbone: ``model_type`` of a family.

    Raises:
        ConfigError: If there is none of that family.

    Example:
        >>> from ct_vlm.video_lm.tiny import tiny_config
        >>> tiny_config("internvl")["image_seq_length"]
        16
    """
    if backbone not in TINY:
        cause = f"There is no tiny video language model of type {backbone!r}."
        raise ConfigError(cause, f"Choose one of {', '.join(sorted(TINY))}.")
    return copy.deepcopy(TINY[backbone])
