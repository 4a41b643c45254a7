"""A model that is asked region by region: one pass of the encoder, as many texts as regions."""

from __future__ import annotations

import pytest
import torch

from ct_vlm.component import Component
from ct_vlm.decoders import train_bpe_tokenizer
from ct_vlm.errors import ConfigError, DatasetError, ShapeError
from ct_vlm.features import VisualContext
from ct_vlm.models import VisionLanguageModel, medregion_ct, u_vlm
from ct_vlm.models.medregion_ct import MedRegionConfig
from ct_vlm.models.regionwise import rows_to_learn, rows_to_write
from ct_vlm.text import RegionPrompts, parse_region_reports

REGIONS = ("lung", "heart", "bone")
TEXTS = ["The lungs are clear.", "Heart size is normal.", "There is a fracture of a rib."]
SIZES = MedRegionConfig(
    backbone={
        "model_type": "dinov2", "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2,
        "patch_size": 7, "image_size": 28,
    },
    layers=(1, 2), in_channels=1, num_slices=6, slow_grid=(2, 2), uniform=(3, (2, 2)), hidden_dim=8,
    max_length=None, preset="medregion",
    language_model={
        "model_type": "llama", "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2,
        "num_attention_heads": 2, "max_position_embeddings": 256,
    },
)  # fmt: skip


def build(**options) -> VisionLanguageModel:
    torch.manual_seed(0)
    settings = {"tokenizer": train_bpe_tokenizer(TEXTS, 300), "regions": REGIONS, "attributes": False, **options}
    return medregion_ct(SIZES, **settings)


def batch_of() -> dict:
    masks = (torch.rand(2, len(REGIONS), 6, 28, 28) < 0.2).to(torch.uint8)
    first = dict(zip(REGIONS, TEXTS, strict=True))
    return {
        "image": torch.rand(2, 1, 6, 28, 28),
        "region_masks": masks,
        "report": [" ".join(TEXTS), TEXTS[1]],
        "region_reports": [first, {"heart": TEXTS[1]}],
        "volume_id": ["a", "b"],
    }


def test_the_encoder_and_connectors_run_once(monkeypatch):
    model, batch = build().eval(), batch_of()
    calls = []
    for part in (model.encoder, *model.connectors):
        forward = part.forward
        monkeypatch.setattr(part, "forward", lambda *a, _f=forward, _p=part, **k: calls.append(type(_p)) or _f(*a, **k))
    model(batch)
    model.generate_regions(batch, max_new_tokens=2)
    assert len(calls) == 2 * (1 + len(model.connectors))


def test_loss_is_that_of_each_region_asked_alone():
    model, batch = build().eval(), batch_of()
    output = model(batch)
    context = model.visual_context(batch)
    rows = [(0, 0), (0, 1), (0, 2), (1, 1)]
    total, count = 0.0, 0
    for sample, region in rows:
        encoded = model.decoder.encode([model.region_prompts.render(REGIONS[region])], [TEXTS[region]])
        alone = model.decoder(**encoded.inputs(), visual=context.select([sample]))
        total, count = total + (alone.loss * alone.num_targets).item(), count + int(alone.num_targets)
    assert int(output.num_targets) == count
    assert output.loss.item() == pytest.approx(total / count, rel=1e-5)


def test_all_regions_of_a_batch_are_one_decoder_batch_or_chunks_of_it(monkeypatch):
    model, batch = build().eval(), batch_of()
    sizes = []
    generate = model.decoder.generate

    def counted(prompts, visual, **options):
        sizes.append((len(prompts), visual.tokens.shape[0]))
        return generate(prompts, visual, **options)

    monkeypatch.setattr(model.decoder, "generate", counted)
    together = model.generate_regions(batch, max_new_tokens=6)
    assert sizes == [(6, 6)]
    model.region_prompts = RegionPrompts(REGIONS, max_texts=4)
    assert model.generate_regions(batch, max_new_tokens=6) == together
    assert sizes[1:] == [(4, 4), (2, 2)]
    assert [list(texts) for texts in together] == [list(REGIONS)] * 2
    merged = model.generate_batch(batch, max_new_tokens=6)
    assert [parse_region_reports(text, REGIONS) for text in merged] == [
        {name: text for name, text in texts.items() if text.strip()} for texts in together
    ]


def test_questions_of_a_batch_are_answered_as_they_are(monkeypatch):
    model, batch = build().eval(), {**batch_of(), "prompt": ["Is there a nodule?", "Where?"]}
    asked = []
    generate = model.decoder.generate
    monkeypatch.setattr(model.decoder, "generate", lambda p, v, **o: asked.append(p) or generate(p, v, **o))
    assert len(model.generate_batch(batch, max_new_tokens=2)) == 2
    assert asked == [["Is there a nodule?", "Where?"]]
    encoded = model.decoder.encode(batch["prompt"], batch["report"])
    expected = model.decoder(**encoded.inputs(), visual=model.visual_context(batch)).loss
    torch.testing.assert_close(model(batch).loss, expected)


def test_attribute_text_goes_into_every_prompt_of_its_sample():
    rows = rows_to_write(RegionPrompts(["lung", "bone"]), 2)
    assert rows.prompts(RegionPrompts(["lung", "bone"], "{text} {region}"), ["A", "B"]) == [
        "A lung", "A bone", "B lung", "B bone",
    ]  # fmt: skip


def test_draws_take_so_many_regions_follow_the_seed_and_stop_in_evaluation():
    prompts = RegionPrompts(REGIONS, regions_per_sample=2)
    batch = batch_of()
    drawn = []
    for seed in (1, 1, 2, 3, 4):
        torch.manual_seed(seed)
        rows = rows_to_learn(prompts, batch, draw=True)
        assert rows.samples == [0, 0, 1]
        assert rows.regions[2] == "heart"
        drawn.append(tuple(rows.regions))
    assert drawn[0] == drawn[1]
    assert len(set(drawn)) > 1
    assert rows_to_learn(prompts, batch, draw=False).samples == [0, 0, 0, 1]


def test_regions_without_a_text_are_skipped_or_learnt_as_normal():
    batch = batch_of()
    rows = rows_to_learn(RegionPrompts(REGIONS, missing="normal", normal="{Region} is normal."), batch, draw=False)
    assert rows.samples == [0, 0, 0, 1, 1, 1]
    assert rows.targets[3:] == ["Lung is normal.", TEXTS[1], "Bone is normal."]
    with pytest.raises(DatasetError, match=r"\['a'\].*'lung', 'bone'"):
        rows_to_learn(
            RegionPrompts(["lung", "bone"]), {"region_reports": [{"heart": "x"}], "volume_id": ["a"]}, draw=False
        )
    with pytest.raises(ShapeError, match="no `region_reports`"):
        build()({key: value for key, value in batch.items() if key != "region_reports"})


def test_whole_report_models_say_that_they_have_no_regions():
    with pytest.raises(ConfigError, match="whole reports"):
        build(stage=1).generate_regions(batch_of())


def test_any_model_can_be_asked_region_by_region():
    parts = u_vlm("tiny", tokenizer=train_bpe_tokenizer(TEXTS, 300))
    prompts = RegionPrompts(REGIONS, "<visual>{Region}:")
    model = VisionLanguageModel(parts.encoder, list(parts.connectors), parts.decoder, region_prompts=prompts)
    batch = {"image": torch.rand(2, 3, 8, 16, 16), "region_reports": batch_of()["region_reports"]}
    model(batch).loss.backward()
    assert all(torch.isfinite(p.grad).all() for p in model.connectors[0].parameters() if p.grad is not None)
    assert any((p.grad != 0).any() for p in model.connectors[0].parameters() if p.grad is not None)
    written = model.eval().generate_regions(batch, max_new_tokens=3)
    assert [list(texts) for texts in written] == [list(REGIONS)] * 2


def test_selected_rows_of_a_context_are_copies_with_their_states_and_memory():
    context = VisualContext(
        torch.arange(12.0).view(2, 3, 2), {1: torch.ones(2, 3, 2)}, ["a", "b"],
        torch.rand(2, 4, 5), torch.ones(2, 4, dtype=torch.bool),
    )  # fmt: skip
    chosen = context.select([1, 0, 1])
    assert chosen.text == ["b", "a", "b"]
    assert chosen.tokens.equal(context.tokens[[1, 0, 1]])
    assert chosen.layer_states[1].shape == (3, 3, 2)
    assert chosen.memory.equal(context.memory[[1, 0, 1]])
    assert chosen.memory_mask.shape == (3, 4)


def test_saved_models_ask_as_before(tmp_path):
    model, batch = build(region_options={"missing": "normal", "max_texts": 2}).eval(), batch_of()
    model.save_pretrained(tmp_path)
    again = Component.from_pretrained(tmp_path).eval()
    assert again.region_prompts == model.region_prompts
    torch.testing.assert_close(again(batch).loss, model(batch).loss)


def test_spacing_and_padding_reach_encoders_that_take_them():
    model, batch = build().eval(), batch_of()
    padding = torch.zeros(2, 6, dtype=torch.bool)
    padding[1, 4:] = True
    batch |= {"spacing": torch.full((2, 3), 2.5), "padding_mask": padding}
    features = model.encode_image(batch)
    assert features.padding_mask.equal(padding)
    assert features.slice_position_mm[0].tolist() == [0.0, 2.5, 5.0, 7.5, 10.0, 12.5]
    assert (features.levels[0].unflatten(1, (6, -1))[1, 4:] == 0).all()


def test_poolings_of_one_pass_choose_slices_and_pool_levels_once(monkeypatch):
    from ct_vlm.modules import r2_token_pooling

    model, batch = build().eval(), batch_of()
    alone = [connector(model.encode_image(batch), batch).tokens for connector in model.connectors]
    calls = {"representative_slices": 0, "region_pool": 0}
    for name in calls:
        function = getattr(r2_token_pooling, name)

        def counted(*args, _name=name, _function=function, **options):
            calls[_name] += 1
            return _function(*args, **options)

        monkeypatch.setattr(r2_token_pooling, name, counted)
    context = model.visual_context(batch)
    # two levels of features, and the masks
    assert calls == {"representative_slices": 1, "region_pool": 3}
    torch.testing.assert_close(context.tokens, torch.cat(alone, dim=1))
