from __future__ import annotations

import copy

import pytest
import torch

from ct_vlm.component import Component
from ct_vlm.decoders import train_bpe_tokenizer
from ct_vlm.encoders import Encoder, ResidualUNetEncoder
from ct_vlm.errors import ConfigError, ShapeError
from ct_vlm.features import Features
from ct_vlm.models import (
    ClassificationModel,
    SegmentationModel,
    VisionLanguageModel,
    build_model,
    u_vlm,
    u_vlm_classification,
    u_vlm_head,
    u_vlm_segmentation,
)
from ct_vlm.modules import Connector
from ct_vlm.tasks import ReportLightningModule

TEXTS = ["The heart size is normal.", "A nodule of 3.5 mm is seen.", "Pleural effusion on the left side."]


@pytest.fixture(scope="module")
def tokenizer():
    return train_bpe_tokenizer(TEXTS * 2, 300)


@pytest.fixture(scope="module")
def model(tokenizer):
    torch.manual_seed(0)
    return u_vlm("tiny", tokenizer=tokenizer).eval()


def batch(size: int = 2) -> dict:
    return {"image": torch.rand(size, 3, 16, 32, 32), "report": TEXTS[:size]}


def count(module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_paper_sizes_on_the_meta_device(tokenizer):
    with torch.device("meta"):
        paper = u_vlm("paper", tokenizer=tokenizer)
        assert count(u_vlm_segmentation("paper", 16)) == 102_361_040
        assert count(u_vlm_classification("paper").head) == 520_978
    assert count(paper.encoder) == 90_296_576
    embedding = len(tokenizer) * 512
    assert count(paper.decoder) - embedding == 102_874_624 - 151_669 * 512
    assert paper.decoder.num_layers == 8
    assert sorted(paper.connectors[0].layer_levels) == list(range(8))


def test_image_decides_the_report_loss(model):
    one = batch()
    other = {**one, "image": one["image"].flip(0)}
    assert (model(one).loss - model(other).loss).abs() > 1e-6


def test_gradients_reach_encoder_connectors_and_decoder(tokenizer):
    trained = u_vlm("tiny", tokenizer=tokenizer)
    trained(batch()).loss.backward()
    without = {n for n, p in trained.named_parameters() if p.grad is None}
    assert without == set()


def test_generation_is_the_same_alone_and_in_a_batch(model):
    images = batch()["image"]
    together = model.generate_batch({"image": images}, max_new_tokens=8)
    alone = [model.generate(image, max_new_tokens=8) for image in images]
    assert together == alone


def test_checkpoint_directory_rebuilds_everything(model, tmp_path):
    model.save_pretrained(tmp_path)
    loaded = Component.from_pretrained(tmp_path)
    assert isinstance(loaded, VisionLanguageModel)
    assert loaded.preset == model.preset
    assert loaded.decoder.tokenizer("nodule")["input_ids"] == model.decoder.tokenizer("nodule")["input_ids"]
    sample = batch()
    torch.testing.assert_close(loaded.eval()(sample).loss, model(sample).loss)


def test_deepcopy_is_independent(model):
    twin = copy.deepcopy(model)
    sample = batch()
    torch.testing.assert_close(twin(sample).loss, model(sample).loss)
    with torch.no_grad():
        next(twin.encoder.parameters()).zero_()
    assert not next(model.encoder.parameters()).eq(0).all()


@pytest.mark.parametrize(
    "config",
    [
        {"model_type": "llama", "num_key_value_heads": 1},
        {"model_type": "qwen3", "num_key_value_heads": 1, "head_dim": 16},
        {"model_type": "gpt2", "n_embd": 32, "n_layer": 4, "n_head": 2},
    ],
)
@pytest.mark.parametrize("lora", [None, {"r": 2, "lora_alpha": 4}])
def test_any_causal_lm_takes_the_place_of_the_small_decoder(tokenizer, config, lora):
    sizes = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 4, "num_attention_heads": 2}
    settings = config if config["model_type"] == "gpt2" else {**sizes, **config}
    lm = u_vlm("tiny", tokenizer=tokenizer, language_model=settings, lora=lora)
    loss = lm(batch()).loss
    loss.backward()
    assert torch.isfinite(loss)
    assert all(p.grad is not None for p in lm.connectors.parameters())
    assert len(lm.eval().generate(batch()["image"][0], max_new_tokens=3)) >= 0


def test_prompt_and_connector_text_reach_the_decoder(tokenizer):
    from ct_vlm.features import VisualContext
    from ct_vlm.modules import Connector

    class Ages(Connector):
        def forward(self, features, batch=None):
            return VisualContext(text=[f"Age {age}." for age in batch["age"]])

    base = u_vlm("tiny", tokenizer=tokenizer)
    talking = VisionLanguageModel(base.encoder, [*base.connectors, Ages()], base.decoder, preset="phantom").eval()
    old, young = ({**batch(), "age": ages} for ages in ([80, 81], [20, 21]))
    assert (talking(old).loss - talking(young).loss).abs() > 1e-6


def test_clear_errors(tokenizer, model):
    with pytest.raises(ConfigError, match="size"):
        u_vlm("huge", tokenizer=tokenizer)
    with pytest.raises(ConfigError, match="tokenizer"):
        u_vlm("tiny")
    with pytest.raises(ConfigError, match="No model named"):
        build_model("u-vlm")
    with pytest.raises(ConfigError, match="at least one connector"):
        VisionLanguageModel(model.encoder, [], model.decoder)
    with pytest.raises(ShapeError, match="report"):
        model({"image": batch()["image"]})


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_model_of_half_precision_reads_images_and_features_and_stays_so(tokenizer, tmp_path, dtype):
    half = u_vlm("tiny", tokenizer=tokenizer).to(dtype)
    assert torch.isfinite(half(batch()).loss)
    features = half.encode_image(batch())
    wide = Features([level.float() for level in features.levels], features.grids)
    assert torch.isfinite(half({"features": wide, "report": TEXTS[:2]}).loss)
    assert isinstance(half.generate(batch()["image"][0], max_new_tokens=3), str)
    again = Component.from_pretrained(half.save_pretrained(tmp_path))
    assert {p.dtype for p in again.parameters()} == {dtype}
    assert all(value.equal(half.state_dict()[key]) for key, value in again.state_dict().items())


@pytest.mark.parametrize("build", [u_vlm_segmentation, u_vlm_classification])
def test_other_stages_read_images_in_half_precision(build):
    output = build("tiny").bfloat16()(batch()["image"])
    assert (output[0] if isinstance(output, list) else output).isfinite().all()


def test_integer_hu_are_windowed_by_the_models_preset_or_refused(model, tokenizer):
    hu = torch.randint(-1000, 1000, (2, 1, 16, 32, 32), dtype=torch.int16)
    windowed = model.preset.window(hu)
    expected = model({"image": windowed, "report": TEXTS[:2]}).loss
    torch.testing.assert_close(model({"image": hu, "report": TEXTS[:2]}).loss, expected)
    bare = VisionLanguageModel(model.encoder, list(model.connectors), model.decoder)
    with pytest.raises(ShapeError, match=r"int16.*preset\.window"):
        bare({"image": hu, "report": TEXTS[:2]})
    with pytest.raises(ShapeError, match="int16"):
        u_vlm_classification("tiny")(hu)


def test_long_reports_are_cut_to_the_decoders_positions_and_counted(tokenizer, caplog):
    short = u_vlm("tiny", tokenizer=tokenizer, max_length=64)
    limit = 64 - short.visual_context(batch()).num_tokens
    sample = {"image": batch()["image"], "report": ["Pleural effusion. " * 200, "Normal."]}
    for _ in range(2):
        output = short(sample)
        assert torch.isfinite(output.loss)
    prompt = short.decoder.encode([short.prompt.render("")]).input_ids.shape[1]
    normal = len(tokenizer("Normal.", add_special_tokens=False)["input_ids"]) + 1
    assert output.num_targets == limit - prompt + normal
    assert short.num_cut == 2
    assert [record.levelname for record in caplog.records if "cut" in record.message] == ["WARNING"]


def test_max_length_is_kept_and_cuts_below_the_decoders_limit(tokenizer):
    base = u_vlm("tiny", tokenizer=tokenizer)
    model = VisionLanguageModel(base.encoder, list(base.connectors), base.decoder, max_length=40)
    model({"image": batch()["image"], "report": [TEXTS[0] * 20, TEXTS[1]]})
    assert model.num_cut == 1
    assert Component.from_config(model.to_config()).max_length == 40
    assert ReportLightningModule.from_model(model).max_length == 40


def test_parts_built_for_other_levels_are_refused_at_construction(tokenizer):
    encoder = ResidualUNetEncoder(3, features=(4, 8), blocks=(1, 1), strides=(1, 2))
    base = u_vlm("tiny", tokenizer=tokenizer)
    for connector in base.connectors:
        with pytest.raises(ConfigError, match=r"connectors\.0.*\(16, 32, 64, 96\).*\(4, 8\)"):
            VisionLanguageModel(encoder, [connector], base.decoder)
    with pytest.raises(ConfigError, match=r"`head`.*\(16, 32, 64, 96\).*\(4, 8\)"):
        ClassificationModel(encoder, u_vlm_head("tiny"))
    with pytest.raises(ConfigError, match=r"`decoder`.*\(16, 32, 64, 96\).*\(4, 8\)"):
        SegmentationModel(encoder, u_vlm_segmentation("tiny").decoder)


def test_more_labels_than_classes_of_stage_1_are_refused():
    with pytest.raises(ConfigError, match="4 classes"):
        u_vlm_head("tiny", num_labels=4, num_classes=4)
    assert u_vlm_head("tiny", num_labels=3, num_classes=4).presence_offset == 0


@pytest.mark.parametrize("base", [Encoder, Connector])
def test_bases_of_parts_are_abstract(base):
    with pytest.raises(TypeError, match="abstract"):
        base()
