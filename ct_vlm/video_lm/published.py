"""Architectures of the published video language models, for counts and new weights without a download."""

from __future__ import annotations

from typing import Any

_QWEN2_7B: dict[str, Any] = {
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "rms_norm_eps": 1e-6,
}

PUBLISHED: dict[str, dict[str, Any]] = {
    # Qwen2.5-VL-7B-Instruct
    "qwen2_5_vl": {
        "model_type": "qwen2_5_vl",
        "vision_config": {
            "depth": 32,
            "hidden_size": 1280,
            "intermediate_size": 3420,
            "num_heads": 16,
            "patch_size": 14,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "tokens_per_second": 2,
            "window_size": 112,
            "out_hidden_size": 3584,
            "fullatt_block_indexes": [7, 15, 23, 31],
        },
        "text_config": {
            **_QWEN2_7B,
            "vocab_size": 152064,
            "max_position_embeddings": 128000,
            "rope_parameters": {"rope_type": "default", "mrope_section": [16, 24, 24], "rope_theta": 1000000.0},
        },
        "tie_word_embeddings": False,
    },
    # InternVL3-8B: InternViT-300M and Qwen2.5-7B
    "internvl": {
        "model_type": "internvl",
        "vision_config": {
            "hidden_size": 1024,
            "num_hidden_layers": 24,
            "num_attention_heads": 16,
            "intermediate_size": 4096,
            "image_size": [448, 448],
            "patch_size": [14, 14],
            "attention_bias": True,
        },
        "image_seq_length": 256,
        "text_config": {
            "model_type": "qwen2",
            **_QWEN2_7B,
            "vocab_size": 151674,
            "max_position_embeddings": 32768,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1000000.0},
        },
        "tie_word_embeddings": False,
    },
}
"""Configs by the ``model_type`` of transformers, with the values of the public checkpoints."""
