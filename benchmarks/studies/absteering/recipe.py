"""Sizes and steps of the study: everything a result depends on beside the seed."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.studies.medregion.recipe import Shape, TrainRecipe

_TOWER = TrainRecipe(steps=640, batch_size=12, lr=6e-3)
_LANGUAGE = TrainRecipe(steps=150, batch_size=16, lr=8e-3)
_CAPTIONS = TrainRecipe(steps=600, batch_size=16, lr=8e-3)
_REPORT = TrainRecipe(steps=240, batch_size=12, lr=6e-3)
_PREFERENCE = TrainRecipe(steps=60, batch_size=12, lr=5e-5)


@dataclass(frozen=True)
class StandInRecipe:
    """Training of the stand-in for a pretrained video language model, once for all seeds.

    Args:
        phantoms: Phantoms that it learns from; none of them is used anywhere else.
        checks: Further phantoms that its tower is scored on.
        texts: Scans whose texts alone the language model learns from.
        vocab_size: Size of the tokenizer.
        tower: The tower, on what each token's place holds.
        language: The language model, from impressions to findings.
        captions: The language model behind the tower's tokens, on impressions.
    """

    phantoms: int = 2000
    checks: int = 100
    texts: int = 3000
    vocab_size: int = 1000
    tower: TrainRecipe = _TOWER
    language: TrainRecipe = _LANGUAGE
    captions: TrainRecipe = _CAPTIONS


@dataclass(frozen=True)
class SteeringRecipe:
    """Both stages on phantoms.

    Args:
        train: Scans to learn from.
        held_out: Scans of other patients, whose pairs are scored.
        scored: How many of those are written and scored.
        report: Stage 1, with the list or without.
        preference: Stage 2 (AdamW in place of Muon).
        beta: How much stage 2 is held to stage 1.
        sft_weight: Weight of the true list's own loss in stage 2, without which both lists lose probability.
        max_new_tokens: Longest text.
    """

    train: int = 800
    held_out: int = 120
    scored: int = 100
    report: TrainRecipe = _REPORT
    preference: TrainRecipe = _PREFERENCE
    beta: float = 0.5
    sft_weight: float = 1.0
    max_new_tokens: int = 340


@dataclass(frozen=True)
class StudyRecipe:
    """All settings of the study.

    Args:
        shape: Grid of all phantoms (D, H, W).
        stand_in: Stand-in for a pretrained model.
        steering: Both stages.
    """

    shape: Shape = (24, 64, 64)
    stand_in: StandInRecipe = StandInRecipe()
    steering: SteeringRecipe = SteeringRecipe()
