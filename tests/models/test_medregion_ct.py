"""MedRegion-CT: what the paper's configuration holds and trains, on the meta device; the rows of its ablation."""

from __future__ import annotations

import pytest
import torch

from ct_vlm.decoders import train_bpe_tokenizer
from ct_vlm.encoders import SliceEncoder
from ct_vlm.errors import ConfigError
from ct_vlm.features import Features
from ct_vlm.models import build_model, medregion_ct, medregion_ct_encoder
from ct_vlm.models.medregion_ct import CONFIGS, LLAMA_3_8B, PAPER_LORA
from ct_vlm.tasks import ReportLightningModule
from ct_vlm.text import MEDREGION_REGIONS
from ct_vlm.transforms import get_preset

TEXTS = ["The lungs are clear.", "Heart size is normal."]


@pytest.fixture(scope="module")
def tokenizer():
    return train_bpe_tokenizer(TEXTS, 300)


@pytest.fixture(scope="module")
def stages(tokenizer) -> dict[int, ReportLightningModule]:
    """Both stages of the paper's configuration, without memory for their weights."""
    tasks = {}
    for stage, frozen in ((1, ("encoder", "decoder")), (2, ("encoder",))):
        with torch.device("meta"):
            model = medregion_ct("paper", tokenizer=tokenizer, language_model=dict(LLAMA_3_8B), stage=stage)
            tasks[stage] = ReportLightningModule.from_model(model, frozen=frozen)
    return tasks


def count(module, *, trained: bool = False) -> int:
    return sum(p.numel() for p in module.parameters() if p.requires_grad or not trained)


def test_parts_have_the_papers_sizes(stages):
    two = stages[2]
    assert count(two.encoder) == 86_580_480  # ViT-B/14 with 37 x 37 positions
    assert count(stages[1].decoder) == 8_030_261_248  # Llama-3-8B
    assert [count(part) for part in two.connectors] == [768 * 4096 + 4096, 12_961_792, 0]
    assert count(two.decoder) - count(stages[1].decoder) == 13_631_488  # LoRA, r = 16, on q, k, v and o


def test_stage_1_trains_the_connector_alone(stages):
    trained = [name for name, value in stages[1].named_parameters() if value.requires_grad]
    assert trained == ["connectors.0.project.weight", "connectors.0.project.bias"]
    assert count(stages[1], trained=True) == 3_149_824
    assert stages[1].region_prompts is None


def test_stage_2_trains_connector_mask_module_and_adapters(stages):
    trained = {name for name, value in stages[2].named_parameters() if value.requires_grad}
    expected = {f"connectors.0.project.{kind}" for kind in ("weight", "bias")}
    extractor = ["mask_out", *(f"level_projections.{i}" for i in range(4)), *(f"spatial.{i}" for i in (0, 2, 4))]
    expected |= {f"connectors.1.{part}.{kind}" for part in extractor for kind in ("weight", "bias")}
    expected |= {
        f"decoder.lm.model.layers.{layer}.self_attn.{name}_proj.lora_{half}.default.weight"
        for layer in range(32)
        for name in "qkvo"
        for half in "AB"
    }
    assert trained == expected
    assert count(stages[2], trained=True) == 3_149_824 + 12_961_792 + 13_631_488


def test_a_prompt_has_356_vision_tokens_and_12_of_masks(stages):
    with torch.device("meta"):
        features = Features([torch.zeros(2, 32 * 18 * 18, 768) for _ in range(4)], [(32, 18, 18)] * 4)
        masks = torch.zeros(2, 6, 32, 256, 256, dtype=torch.uint8)
        batch = {"features": features, "region_masks": masks, "attributes": ["Heart: 640 mL.", ""]}
        tokens = [part(features, batch).num_tokens for part in stages[2].connectors]
        context = stages[2].visual_context(batch)
    assert tokens == [356, 12, 0]
    assert tuple(context.tokens.shape) == (2, 368, 4096)
    assert stages[2].max_length == 2048


def test_the_papers_preset_gives_the_encoder_what_it_reads():
    preset, sizes = get_preset("medregion"), CONFIGS["paper"]
    assert preset.size == (sizes.num_slices, 256, 256)
    assert preset.channels == sizes.in_channels
    assert 256 // sizes.backbone["patch_size"] == 18


@pytest.mark.parametrize("size", ["tiny", "paper"])
def test_uniform_sampling_has_as_many_tokens(size, tokenizer):
    sizes = CONFIGS[size]
    number, grid = sizes.uniform
    assert number * grid[0] * grid[1] == len(MEDREGION_REGIONS) * sizes.slow_grid[0] * sizes.slow_grid[1]
    with torch.device("meta"):
        model = medregion_ct(size, tokenizer=tokenizer, language_model=dict(LLAMA_3_8B), policy="uniform")
    assert [part.policy for part in (model.connectors[0], model.connectors[1].pooling)] == ["uniform"] * 2
    assert model.connectors[0].num_slow == model.connectors[1].pooling.num_slow == number


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"mask_tokens": False, "attributes": False}, ["R2TokenPooling"]),
        ({"attributes": False}, ["R2TokenPooling", "MaskDrivenVisualExtractor"]),
        ({"mask_tokens": False}, ["R2TokenPooling", "AttributeText"]),
        ({}, ["R2TokenPooling", "MaskDrivenVisualExtractor", "AttributeText"]),
        ({"stage": 1}, ["R2TokenPooling"]),
    ],
)
def test_rows_of_the_ablation(options, names, tokenizer):
    model = build_model("medregion_ct", "tiny", tokenizer=tokenizer, **options)
    assert [type(part).__name__ for part in model.connectors] == names
    assert (model.region_prompts is None) == (options.get("stage") == 1)


def test_adapters_are_for_pretrained_language_models(tokenizer):
    small = {"model_type": "llama", "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1,
             "num_attention_heads": 2}  # fmt: skip

    def adapters(**options) -> int:
        names = [n for n, _ in medregion_ct("tiny", tokenizer=tokenizer, **options).decoder.named_parameters()]
        return sum("lora_A" in name for name in names)

    assert adapters() == 0
    assert adapters(language_model=small) == 4
    assert adapters(language_model=small, lora=None) == 0
    assert adapters(language_model=small, stage=1) == 0
    assert PAPER_LORA == {"r": 16, "lora_alpha": 32, "lora_dropout": 0.1}


def test_encoders_of_ones_own_are_taken(tokenizer):
    encoder = medregion_ct_encoder("tiny", frozen=False)
    model = medregion_ct("tiny", tokenizer=tokenizer, encoder=encoder)
    assert model.encoder is encoder
    assert any(p.requires_grad for p in model.encoder.parameters())
    small = {"model_type": "dinov2", "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2,
             "patch_size": 8, "image_size": 64}  # fmt: skip
    other = SliceEncoder(small, layers=(1, 2), in_channels=3)
    model = medregion_ct("tiny", tokenizer=tokenizer, encoder=other, regions=("lung", "bone"))
    assert model.connectors[1].level_dims == (8, 8)
    assert model.connectors[0].num_slow == model.connectors[1].num_regions == 2


def test_what_cannot_be_built_is_refused(tokenizer):
    with pytest.raises(ConfigError, match="needs a pretrained language model"):
        medregion_ct("paper", tokenizer=tokenizer)
    with pytest.raises(ConfigError, match="of size 'huge'"):
        medregion_ct("huge", tokenizer=tokenizer)
    with pytest.raises(ConfigError, match="stages 1 and 2"):
        medregion_ct("tiny", tokenizer=tokenizer, stage=3)
