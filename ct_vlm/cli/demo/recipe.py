"""The demo's settings: sizes, steps and learning rates of the three stages."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class StageRecipe:
    """Training of one stage.

    Args:
        steps: Optimizer steps.
        batch_size: Samples a step, over all processes.
        lr: Peak learning rate of Muon.
    """

    steps: int
    batch_size: int
    lr: float


@dataclass(frozen=True)
class DemoRecipe:
    """Everything the demo's result depends on, beside the seed.

    Args:
        shape: Grid of the phantoms and of the model (D, H, W).
        train_volumes: Volumes to train on.
        held_out_volumes: Volumes of other patients to score on.
        segmentation: Stage 1.
        classification: Stage 2.
        impression: First part of stage 3: impressions, a few words that all depend on the image.
        report: Second part of stage 3: findings sections.
        vocab_size: Size of the tokenizer, trained on the training reports.
        max_new_tokens: Longest report written.
    """

    shape: tuple[int, int, int]
    train_volumes: int
    held_out_volumes: int
    segmentation: StageRecipe
    classification: StageRecipe
    impression: StageRecipe
    report: StageRecipe
    vocab_size: int
    max_new_tokens: int


FULL = DemoRecipe(
    shape=(32, 48, 48),
    train_volumes=2400,
    held_out_volumes=300,
    segmentation=StageRecipe(steps=700, batch_size=4, lr=6e-3),
    classification=StageRecipe(steps=300, batch_size=4, lr=3e-3),
    impression=StageRecipe(steps=380, batch_size=24, lr=8e-3),
    report=StageRecipe(steps=500, batch_size=16, lr=8e-3),
    vocab_size=1000,
    max_new_tokens=256,
)
"""The recipe whose result the documentation quotes."""

QUICK = DemoRecipe(
    shape=(24, 32, 32),
    train_volumes=48,
    held_out_volumes=16,
    segmentation=StageRecipe(steps=6, batch_size=4, lr=6e-3),
    classification=StageRecipe(steps=6, batch_size=4, lr=3e-3),
    impression=StageRecipe(steps=10, batch_size=8, lr=8e-3),
    report=StageRecipe(steps=10, batch_size=8, lr=8e-3),
    vocab_size=600,
    max_new_tokens=48,
)
"""The same path in seconds, for tests; its result claims nothing."""
