"""Sizes and steps of the studies: everything a result depends on beside the seed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class PretrainRecipe:
    """Dense pretraining of the slice encoder, our stand-in for RAD-DINO's weights.

    Args:
        phantoms: Phantoms to learn from; none of them is used anywhere else.
        checks: Further phantoms that the encoder is scored on.
        steps: Optimizer steps.
        batch_size: Volumes a step.
        slices: Slices drawn from each of them.
        lr: Peak learning rate of Muon.
        backbone: Architecture of the vision transformer.
        layers: Blocks whose tokens are used.
    """

    phantoms: int = 2000
    checks: int = 150
    steps: int = 1600
    batch_size: int = 8
    slices: int = 8
    lr: float = 6e-3
    backbone: dict[str, Any] = field(
        default_factory=lambda: {
            "model_type": "dinov2",
            "hidden_size": 96,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "mlp_ratio": 2,
            "patch_size": 6,
            "image_size": 48,
            "num_channels": 3,
        }
    )
    layers: tuple[int, ...] = (2, 3, 4)


@dataclass(frozen=True)
class SelectionRecipe:
    """Which slices show a small lesion.

    Args:
        train: Phantoms that the probe learns from.
        held_out: Phantoms that it is scored on.
        share: Share of phantoms with a lesion.
        diameter_mm: Size of a lesion.
        epochs: Times the probe sees each phantom.
        batch_size: Phantoms a step.
        lr: Peak learning rate of AdamW.
        hidden: Width of the probe.
    """

    train: int = 450
    held_out: int = 250
    share: float = 0.75
    diameter_mm: float = 24.0
    epochs: int = 20
    batch_size: int = 32
    lr: float = 2e-3
    hidden: int = 64


@dataclass(frozen=True)
class TrainRecipe:
    """Training of one part.

    Args:
        steps: Optimizer steps.
        batch_size: Scans (texts, for the language model) a step.
        lr: Peak learning rate of Muon.
    """

    steps: int
    batch_size: int
    lr: float


@dataclass(frozen=True)
class AblationRecipe:
    """MedRegion-CT on phantoms with five sets of parts.

    Args:
        train: Scans to learn from.
        held_out: Scans of other patients.
        scored: How many of those are written and scored.
        texts: Scans whose texts the language model is pretrained on; their volumes are never drawn.
        longest: Longest prompt and text, in tokens, that the language model is pretrained on.
        language: Pretraining of the language model on texts alone, our stand-in for Llama-3.
        impression: Stage 1: connector of R² tokens and language model, on impressions.
        connector: The same parts, region by region.
        report: Stage 2: all connectors and language model, region by region.
        longer: Stage 2 of the runs that are named so.
        normal_share: Share of the texts without a finding that regions are learnt from.
        slow_grid: Tokens of a slice that is kept in detail.
        vocab_size: Size of the tokenizer.
        max_new_tokens: Longest text of a region.
    """

    train: int = 2000
    held_out: int = 300
    scored: int = 150
    texts: int = 6000
    longest: int = 90
    language: TrainRecipe = TrainRecipe(steps=500, batch_size=24, lr=8e-3)
    impression: TrainRecipe = TrainRecipe(steps=300, batch_size=24, lr=8e-3)
    connector: TrainRecipe = TrainRecipe(steps=500, batch_size=14, lr=8e-3)
    report: TrainRecipe = TrainRecipe(steps=80, batch_size=14, lr=6e-3)
    longer: TrainRecipe = TrainRecipe(steps=400, batch_size=14, lr=8e-3)
    normal_share: float = 0.4
    slow_grid: tuple[int, int] = (2, 2)
    vocab_size: int = 1000
    max_new_tokens: int = 72


@dataclass(frozen=True)
class StudyRecipe:
    """All settings of the studies.

    Args:
        shape: Grid of all phantoms and of the model (D, H, W).
        encoder: Pretraining of the slice encoder.
        selection: Which slices show a small lesion.
        ablation: The five sets of parts.
    """

    shape: Shape = (32, 48, 48)
    encoder: PretrainRecipe = PretrainRecipe()
    selection: SelectionRecipe = SelectionRecipe()
    ablation: AblationRecipe = AblationRecipe()
