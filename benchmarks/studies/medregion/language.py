"""A small language model that knows the words of reports, trained once on texts alone.

From the impressions of a report it learns to write what the report says about one region: the
language model then knows how to put facts of its context into sentences, as a pretrained one does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from lightning.pytorch import seed_everything
from rich.progress import track

from benchmarks.studies.medregion.encoder import FIRST_SEED
from ct_vlm.attributes import Organ, PatientAttributes, render_attributes
from ct_vlm.component import CONFIG_NAME
from ct_vlm.decoders import CausalLMDecoder, train_bpe_tokenizer
from ct_vlm.models.medregion_ct import CONFIGS
from ct_vlm.phantoms import describe_phantom
from ct_vlm.tasks import OptimizerConfig
from ct_vlm.text import RegionPrompts
from ct_vlm.text.region_lexicon import merge_regions
from ct_vlm.text.regions import MEDREGION_REGIONS

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.studies.medregion.recipe import AblationRecipe, Shape

_FIRST_TEXT = FIRST_SEED + 10**8
_SIDES: tuple[Literal["right", "left"], ...] = ("right", "left")
Example = tuple[str, str]


def pretrained_language_model(out: Path, recipe: AblationRecipe, shape: Shape, *, progress: bool) -> CausalLMDecoder:
    """Return the decoder of a folder, trained now if there is none.

    Args:
        out: Its folder.
        recipe: Settings.
        shape: Grid that sizes in reports refer to.
        progress: Show a progress bar.
    """
    if (out / CONFIG_NAME).is_file():
        return CausalLMDecoder.from_pretrained(out)
    examples = region_examples(recipe.texts, shape)
    words = sorted({text for example in examples for text in example})
    tokenizer = train_bpe_tokenizer([*words, *[_attribute_words()] * len(words)], recipe.vocab_size)
    seed_everything(0, verbose=False)
    decoder = CausalLMDecoder(dict(CONFIGS["tiny"].language_model or {}), tokenizer)
    _train(decoder, examples, recipe, progress=progress)
    decoder.save_pretrained(out)
    return decoder


def region_examples(count: int, shape: Shape) -> list[Example]:
    """Return prompts with a report's impressions, and what it says about the region they ask for.

    Args:
        count: Scans whose texts are taken.
        shape: Grid that sizes in reports refer to.
    """
    prompts, examples = RegionPrompts("six"), []
    for seed in range(count):
        facts = describe_phantom(_FIRST_TEXT + seed, shape)
        texts = merge_regions(facts.region_reports, "medregion")
        examples += [
            (prompts.render(name, facts.impressions_text), texts[name]) for name in MEDREGION_REGIONS if name in texts
        ]
    return examples


def _attribute_words() -> str:
    """Return a text with the words of patient attributes, so that the tokenizer knows them."""
    pairs = [Organ(name, side, 10.0, is_partial=True) for name in ("lung", "kidney") for side in _SIDES]
    organs = (*pairs, *(Organ(name, None, 10.0, is_partial=True) for name in ("heart", "liver")))
    return render_attributes(PatientAttributes(organs))


def _train(decoder: CausalLMDecoder, examples: list[Example], recipe: AblationRecipe, *, progress: bool) -> None:
    """Train on random batches; the few long texts, which would lengthen every batch, are left out."""
    lengths = [len(decoder.tokenizer(f"{prompt} {text}")["input_ids"]) for prompt, text in examples]
    examples = [example for example, length in zip(examples, lengths, strict=True) if length <= recipe.longest]
    stage, rng = recipe.language, np.random.default_rng(0)
    settings: dict[str, Any] = OptimizerConfig("muon", lr=stage.lr).build(decoder.named_parameters(), stage.steps)
    optimizer, schedule = settings["optimizer"], settings["lr_scheduler"]["scheduler"]
    decoder.train()
    for _ in track(range(stage.steps), "Language model", disable=not progress, transient=True):
        rows = rng.integers(len(examples), size=stage.batch_size)
        encoded = decoder.encode([examples[row][0] for row in rows], [examples[row][1] for row in rows])
        loss = decoder(**encoded.inputs()).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(decoder.parameters(), 12.0)
        optimizer.step()
        schedule.step()
    decoder.eval()
