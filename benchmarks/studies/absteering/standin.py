"""The stand-in for a pretrained video language model, made once for all seeds.

Real classes of transformers at a tiny size. The language model first learns from texts alone to turn an impression into
findings, then to write impressions of what the tower's tokens show. It never sees a list of abnormalities.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from lightning.pytorch import seed_everything

from benchmarks.studies.absteering.loop import train
from benchmarks.studies.absteering.tower import GRID, draw_phantoms, pretrained_tower
from benchmarks.studies.medregion.encoder import FIRST_SEED
from ct_vlm.component import CONFIG_NAME
from ct_vlm.decoders import VideoLMDecoder
from ct_vlm.encoders import VideoLMEncoder
from ct_vlm.features import VisualContext
from ct_vlm.files import write_json
from ct_vlm.metrics import RuleLabeler
from ct_vlm.metrics.functional import clinical_scores
from ct_vlm.models import write_tiny_video_lm
from ct_vlm.models.absteering import CONFIGS
from ct_vlm.phantoms import describe_phantom
from ct_vlm.text import STEERING_PROMPT, render_list
from ct_vlm.text.abnormality_lists import STEERING_REGIONS

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from benchmarks.studies.absteering.recipe import StandInRecipe, StudyRecipe
    from benchmarks.studies.absteering.tower import Seen
    from benchmarks.studies.medregion.recipe import Shape

CAPTION_PROMPT = "Write the impression."
_FINDINGS_PROMPT = "Write the findings."
_FIRST_TEXT = FIRST_SEED + 10**8
_LONGEST = 80
Texts = list[tuple[str, str]]


def tiny_checkpoint(out: Path, backbone: str, recipe: StandInRecipe, shape: Shape) -> Path:
    """Return a checkpoint of random weights with a tokenizer for phantoms' reports, written now if there is none.

    Args:
        out: Its folder.
        backbone: Family.
        recipe: Settings.
        shape: Grid that sizes in reports refer to.
    """
    if not (out / "config.json").is_file():
        texts = {text for pair in _facts(recipe.texts, shape) for text in pair}
        form = "\n".join([STEERING_PROMPT, render_list([(name, "none") for name in STEERING_REGIONS]), "\nReport:\n"])
        write_tiny_video_lm(out, backbone, [*sorted(texts), *[form] * len(texts)], vocab_size=recipe.vocab_size)
    return out


def stand_in(out: Path, backbone: str, recipe: StudyRecipe, *, progress: bool) -> tuple[VideoLMEncoder, VideoLMDecoder]:
    """Return tower and language model of a folder, trained now if there are none.

    Args:
        out: Folder of the study.
        backbone: Family.
        recipe: Settings.
        progress: Show progress bars.
    """
    own, shape, folder = recipe.stand_in, recipe.shape, out / backbone
    if not (folder / "captions" / CONFIG_NAME).is_file():
        checkpoint = tiny_checkpoint(folder / "checkpoint", backbone, own, shape)
        seen = draw_phantoms(out / "stand_in.npz", own.phantoms + own.checks, shape, progress=progress)
        encoder = pretrained_tower(folder / "tower", backbone, checkpoint, seen, own, progress=progress)
        decoder = _taught_texts(folder / "language", checkpoint, own, shape, progress=progress)
        _teach_captions(decoder, encoder, seen, own, folder / "captions", progress=progress)
    encoder = VideoLMEncoder.from_pretrained(folder / "tower").eval()
    return encoder, VideoLMDecoder.from_pretrained(folder / "captions").eval()


def _facts(count: int, shape: Shape) -> Texts:
    """Return impression and findings of scans whose volumes are never drawn."""
    facts = (describe_phantom(_FIRST_TEXT + number, shape) for number in range(count))
    return [(fact.impressions_text, fact.findings_text) for fact in facts]


def _taught_texts(
    out: Path, checkpoint: Path, recipe: StandInRecipe, shape: Shape, *, progress: bool
) -> VideoLMDecoder:
    """Return a language model that writes findings from impressions."""
    if not (out / CONFIG_NAME).is_file():
        seed_everything(0, verbose=False)
        decoder = VideoLMDecoder(str(checkpoint))
        pairs = _facts(recipe.texts, shape)

        def loss(rows: Tensor) -> Tensor:
            prompts = [f"{_FINDINGS_PROMPT} {pairs[row][0]}" for row in rows]
            encoded = decoder.encode(prompts, [pairs[row][1] for row in rows])
            return _loss(decoder(**encoded.inputs()))

        decoder.train()
        train({"decoder": decoder}, loss, len(pairs), recipe.language, "Language model", progress=progress)
        decoder.save_pretrained(out)
    return VideoLMDecoder.from_pretrained(out)


def _teach_captions(
    decoder: VideoLMDecoder, encoder: VideoLMEncoder, seen: Seen, recipe: StandInRecipe, out: Path, *, progress: bool
) -> None:
    """Teach the language model to write impressions of what the tower shows; score it on unseen phantoms."""
    preset = CONFIGS["tiny"].preset[encoder.family.model_type]
    with torch.no_grad():
        tokens = torch.cat([encoder(image).levels[-1] for image in seen.batches(preset, range(len(seen)))])
    seed_everything(0, verbose=False)

    def loss(rows: Tensor) -> Tensor:
        visual = VisualContext(tokens[rows], grid=GRID)
        encoded = decoder.encode([CAPTION_PROMPT] * len(rows), [seen.impressions[row] for row in rows], visual)
        return _loss(decoder(**encoded.inputs(), visual=visual))

    decoder.train()
    train({"decoder": decoder}, loss, recipe.phantoms, recipe.captions, "Captions", progress=progress)
    decoder.eval()
    checked = torch.arange(recipe.phantoms, len(seen))
    written: list[str] = []
    for part in torch.split(checked, 50):
        visual = VisualContext(tokens[part], grid=GRID)
        written += decoder.generate([CAPTION_PROMPT] * len(part), visual, max_new_tokens=_LONGEST)
    labeler = RuleLabeler()
    found = clinical_scores(np.asarray(labeler(written)), seen.labels[checked].numpy(), labeler.label_names)
    scores = {key: found[key] for key in ("micro_f1", "macro_f1")}
    write_json(out / "scores.json", {"phantoms": len(checked), **scores})
    decoder.save_pretrained(out)


def _loss(output: Any) -> Tensor:
    """Return the loss, which texts with targets have."""
    found: Tensor = output.loss
    return found
