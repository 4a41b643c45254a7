"""AbSteering's builder: published counts, tiny models that learn, tokens from disk."""

from __future__ import annotations

import copy

import pytest
import torch

from ct_vlm.cache import FeatureCache, model_identity, write_manifest
from ct_vlm.component import Component
from ct_vlm.datamodules import CachedFeatureDataModule, precompute
from ct_vlm.decoders import train_bpe_tokenizer
from ct_vlm.encoders import AbsentEncoder, VideoLMEncoder
from ct_vlm.errors import ConfigError
from ct_vlm.models import VisionLanguageModel, build_model, write_tiny_video_lm
from ct_vlm.models.absteering import CONFIGS, REPORT_PROMPT, absteering
from ct_vlm.text.steering import STEERING_PROMPT

TEXTS = ["Abnormalities: (Lung: a nodule of 4 mm).", "Clear lungs, no effusion is seen."]
BACKBONES = ("qwen2_5_vl", "qwen3_vl", "internvl")
# what the safetensors index of the public checkpoints counts
PUBLISHED_COUNTS = {"qwen2_5_vl": 8_292_166_656, "internvl": 7_944_373_760}
PUBLISHED_TOKENS = {"qwen2_5_vl": 3757, "internvl": 26 * 256}


@pytest.fixture(scope="module")
def tokenizer():
    return train_bpe_tokenizer(TEXTS * 3, vocab_size=300)


def tiny_batch(model, count=2):
    generator = torch.Generator().manual_seed(2)
    image = torch.randint(-1000, 600, (count, 1, *model.preset.size), generator=generator).short()
    return {"image": image, "report": (TEXTS * count)[:count]}


class TestPaper:
    @pytest.mark.parametrize("backbone", list(PUBLISHED_COUNTS))
    def test_counts_are_those_of_the_public_checkpoints_and_only_adapters_learn(self, backbone, tokenizer) -> None:
        with torch.device("meta"):
            model = absteering("paper", backbone=backbone, tokenizer=tokenizer)
        learning = {name: p for name, p in model.named_parameters() if p.requires_grad}
        assert all("lora_" in name and name.startswith("decoder.lm.model.language_model") for name in learning)
        # two matrices for each of seven linear layers in 28 layers
        assert len(learning) == 28 * 7 * 2
        rest = sum(p.numel() for name, p in model.named_parameters() if name not in learning)
        assert rest == PUBLISHED_COUNTS[backbone]
        assert model.encoder.inputs.num_tokens(*model.preset.size) == PUBLISHED_TOKENS[backbone]
        steps = model.encoder.inputs.token_grid(*model.preset.size)[0]
        assert model.decoder.seconds_per_grid * steps == pytest.approx(240 / 18)

    def test_a_family_without_a_published_architecture_here_needs_a_model(self, tokenizer) -> None:
        with pytest.raises(ConfigError, match="no architecture"):
            absteering("paper", backbone="qwen3_vl", tokenizer=tokenizer)


class TestTiny:
    @pytest.mark.parametrize("backbone", BACKBONES)
    def test_every_weight_learns_and_texts_are_written(self, backbone, tokenizer) -> None:
        model = build_model("absteering", "tiny", backbone=backbone, tokenizer=tokenizer)
        assert isinstance(model, VisionLanguageModel)
        assert model.encoder.inputs.num_tokens(*model.preset.size) == 96
        batch = tiny_batch(model)
        model(batch).loss.backward()
        silent = [name for name, p in model.named_parameters() if p.grad is None]
        assert silent == []
        assert len(model.generate_batch(batch, max_new_tokens=3)) == 2

    def test_a_random_model_learns_to_tell_two_volumes_apart(self, tokenizer) -> None:
        torch.manual_seed(0)
        model = absteering("tiny", backbone="internvl", tokenizer=tokenizer, num_frames=2)
        image = torch.full((2, 1, *model.preset.size), -900, dtype=torch.int16)
        image[0, :, :, 10:40, 10:40] = 60
        batch = {"image": image, "report": ["nodule", "clear"]}
        optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
        for _ in range(22):
            model(batch).loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
        assert model.eval().generate_batch(batch, max_new_tokens=8) == ["nodule", "clear"]

    def test_settings_round_trip(self, tokenizer, tmp_path) -> None:
        model = absteering("tiny", tokenizer=tokenizer).eval()
        again = Component.from_pretrained(model.save_pretrained(tmp_path / "model")).eval()
        batch = tiny_batch(model)
        assert torch.equal(again(batch).loss, model(batch).loss)
        assert torch.equal(copy.deepcopy(model)(batch).loss, model(batch).loss)


class TestSwitches:
    def test_prompts(self, tokenizer) -> None:
        options = {"backbone": "internvl", "tokenizer": tokenizer, "cached": True}
        assert absteering(**options).prompt.template == STEERING_PROMPT
        assert absteering(steering=False, **options).prompt.template == REPORT_PROMPT
        assert absteering(prompt="Findings?", **options).prompt.template == "Findings?"

    @pytest.mark.parametrize(("vision", "learns"), [("frozen", 0), ("lora", 1), ("full", 2), ("scratch", 2)])
    def test_what_learns(self, vision, learns, tokenizer) -> None:
        lora = {"r": 2}
        model = absteering(backbone="internvl", tokenizer=tokenizer, vision=vision, lora=lora)
        tower = [(name, p.requires_grad) for name, p in model.encoder.named_parameters()]
        assert {"lora_" in name for name, grad in tower if grad} == [set(), {True}, {False}][learns]
        text = {name for name, p in model.decoder.named_parameters() if p.requires_grad}
        assert text
        assert all("lora_" in name for name in text)

    def test_fewer_frames(self, tokenizer) -> None:
        model = absteering(tokenizer=tokenizer, num_frames=6)
        assert model.encoder.inputs.token_grid(*model.preset.size) == (3, 4, 4)

    @pytest.mark.parametrize(
        ("options", "match"),
        [
            ({"size": "huge"}, "No AbSteering"),
            ({"backbone": "internvl", "model": {"model_type": "qwen2_5_vl"}}, "is a `qwen2_5_vl`"),
            ({"cached": True, "vision": "lora"}, "left out"),
            ({"backbone": "llava"}, "no architecture"),
        ],
    )
    def test_what_is_refused(self, options, match, tokenizer) -> None:
        with pytest.raises(ConfigError, match=match):
            absteering(tokenizer=tokenizer, **options)


class Phantoms:
    """Three random volumes, as data sets of the library give them."""

    def __init__(self, preset):
        generator = torch.Generator().manual_seed(4)
        self.images = torch.randint(-1000, 600, (3, 1, *preset.size), generator=generator).short()

    def __len__(self):
        return 3

    def record(self, index):
        return {"volume_id": f"v{int(index)}", "report": TEXTS[int(index) % 2]}

    def __getitem__(self, index):
        return {**self.record(index), "image": self.images[int(index)], "spacing": torch.ones(3)}


class Samples:
    """A data module around them."""

    trainer = None

    def __init__(self, preset):
        self.preset, self.datasets = preset, {}

    def prepare_data(self):
        pass

    def setup(self, stage):
        self.datasets = {"train": Phantoms(self.preset), "test": Phantoms(self.preset)}


@pytest.mark.parametrize(
    ("backbone", "dtype"),
    [("qwen2_5_vl", "float32"), ("qwen2_5_vl", "bfloat16"), ("qwen3_vl", "float32"), ("internvl", "float32")],
)
class TestTokensOnDisk:
    @torch.no_grad()
    def test_logits_and_texts_from_disk_are_those_with_the_tower_to_the_bit(self, backbone, dtype, tmp_path) -> None:
        folder = write_tiny_video_lm(tmp_path / "lm", backbone, TEXTS, vocab_size=280)
        options = {"backbone": backbone, "model": str(folder), "dtype": dtype}
        whole = absteering("tiny", vision="frozen", **options).eval()
        preset = whole.preset
        cache = FeatureCache(tmp_path / "tokens", model_identity(whole.encoder), preset.to_config(), dtype=dtype)
        write_manifest(cache, tmp_path / "tokens")
        done = precompute(whole.encoder, Phantoms(preset), cache, preset, batch_size=2, progress=False)
        assert len(done.made) == 3

        blind = absteering("tiny", cached=True, **options).eval()
        assert isinstance(blind.encoder, AbsentEncoder)
        assert not list(blind.encoder.parameters())
        data = CachedFeatureDataModule(Samples(preset), tmp_path / "tokens", batch_size=3)
        data.setup("test")
        stored = next(iter(data.test_dataloader()))
        assert "image" not in stored
        volumes = Phantoms(preset)
        seen = {"image": volumes.images, "report": [volumes.record(i)["report"] for i in range(3)]}

        contexts = [model.visual_context(batch) for model, batch in ((whole, seen), (blind, stored))]
        assert contexts[0].grid == contexts[1].grid
        prompts = [STEERING_PROMPT] * 3
        encoded = [
            model.decoder.encode(prompts, seen["report"], context)
            for model, context in zip((whole, blind), contexts, strict=True)
        ]
        found = [
            model.decoder(one.input_ids, None, context, one.attention_mask).logits
            for model, one, context in zip((whole, blind), encoded, contexts, strict=True)
        ]
        assert torch.equal(*found)
        assert whole.generate_batch(seen, max_new_tokens=3) == blind.generate_batch(stored, max_new_tokens=3)

        blind.encoder = VideoLMEncoder(str(folder), CONFIGS["tiny"].inputs[backbone], dtype=dtype)
        assert torch.equal(blind(seen).loss, whole(seen).loss)


def test_a_folder_of_another_preset_is_refused(tmp_path) -> None:
    preset = CONFIGS["tiny"].preset["internvl"]
    write_manifest(FeatureCache(tmp_path, "model", {"init_args": {"name": "other"}}), tmp_path)
    with pytest.raises(ConfigError, match="the preset 'other'"):
        CachedFeatureDataModule(Samples(preset), tmp_path).setup("fit")
