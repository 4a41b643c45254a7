"""Where the visual side starts: from slices and texts rather than from noise.

Paper: Ker-VLJEPA-3B, https://arxiv.org/abs/2603.23308 (queries and predictor by singular value decomposition).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ct_vlm.transforms import CTPreset


def start_visual(
    folder: str,
    root: str,
    embeddings: str,
    language: str,
    preset: str | Mapping[str, Any] | CTPreset,
    *,
    size: Literal["tiny", "paper"] = "tiny",
    count: int = 10_000,
    seed: int = 0,
) -> str:
    """Save zones, predictor and calibrator as phase 1 may start from them.

    Queries are the principal directions of training slices, the predictor's weights those of the language model's
    input embeddings, and tokens get the length of those. A step of a curriculum between ``embeddings``,
    ``language`` and ``phase1``, which then takes ``init_from: {visual.zones: "{start}#zones", visual.predictor:
    "{start}#predictor", visual.calibrator: "{start}#calibrator"}``.

    Args:
        folder: Where to.
        root: Folder of the CT-RATE tree that the slices are of.
        embeddings: Folder of slice embeddings.
        language: Folder of :func:`ct_vlm.cli.curriculum.steps.prepare_language`, or folder or hub id of a causal LM.
        preset: Preprocessing that the embeddings were made with, by name or as a dict.
        size: Size of the system.
        count: Slices that queries are made from, at most 32 of a volume.
        seed: Decides the draw, and the weights that stay random.

    Returns:
        The folder.

    Raises:
        ConfigError: If the folder of embeddings was made with another preset.
        ShapeError: If there are too few slices or texts for so many directions.

    References:
        Ker-VLJEPA-3B, arXiv 2603.23308, names both decompositions without a recipe: see
        :meth:`ct_vlm.modules.ZoneConstrainedCrossAttention.init_queries_` and
        :meth:`ct_vlm.modules.VisualPredictor.init_from_text_`.
    """
    from pathlib import Path

    import torch

    from ct_vlm.datamodules import CTRateDataModule, SliceEmbeddingDataModule, sample_slices
    from ct_vlm.decoders import CausalLMDecoder
    from ct_vlm.models import ker_vljepa_visual
    from ct_vlm.transforms import get_preset

    scans = CTRateDataModule(root, preset=get_preset(preset), check_files=False)
    data = SliceEmbeddingDataModule(scans, embeddings)
    data.setup("fit")
    train: Any = data.datasets["train"]
    torch.manual_seed(seed)
    visual = ker_vljepa_visual(size).visual
    visual.zones.init_queries_(sample_slices(train, count, seed=seed))
    prepared = Path(language) / "lm"
    lm = str(prepared) if prepared.is_dir() else language
    decoder = CausalLMDecoder(lm, lm)
    visual.init_from_text_(decoder.lm.get_input_embeddings().weight)
    return str(visual.save_pretrained(folder))
