"""The seeing half of video language models against the whole models of transformers."""

from __future__ import annotations

import copy

import pytest
import torch

from ct_vlm.cache import model_identity
from ct_vlm.component import Component
from ct_vlm.encoders import AbsentEncoder, InternVLVideoInputs, QwenVideoInputs, VideoLMEncoder
from ct_vlm.encoders.video_lm import default_inputs
from ct_vlm.errors import ConfigError, ShapeError
from ct_vlm.models import write_tiny_video_lm
from ct_vlm.modules import VideoTokens
from ct_vlm.video_lm.families import FAMILIES
from ct_vlm.video_lm.tiny import tiny_config

_SMALL = {"sampling": {"policy": "uniform", "num_frames": 4}, "patch_size": 8}
INPUTS = {
    "qwen2_5_vl": QwenVideoInputs(**_SMALL, min_pixels=256, max_pixels=4096),
    "qwen3_vl": QwenVideoInputs(**_SMALL, min_pixels=256, max_pixels=4 * 4096, pixel_limit="film"),
    "internvl": InternVLVideoInputs(**_SMALL, size=64),
}


@pytest.fixture(scope="module", params=list(FAMILIES))
def backbone(request):
    return request.param


@pytest.fixture(scope="module")
def folder(backbone, tmp_path_factory):
    return write_tiny_video_lm(tmp_path_factory.mktemp(backbone), backbone, ["Clear lungs."], vocab_size=270)


@pytest.fixture
def encoder(backbone, folder):
    return VideoLMEncoder(str(folder), INPUTS[backbone])


@pytest.fixture
def volumes():
    return torch.rand(2, 3, 6, 64, 64, generator=torch.Generator().manual_seed(3))


class TestLikeTransformers:
    @torch.no_grad()
    def test_tokens_are_those_of_the_whole_model_and_fill_their_grid(self, backbone, folder, encoder, volumes) -> None:
        from transformers import AutoModelForImageTextToText

        whole = AutoModelForImageTextToText.from_pretrained(folder).eval()
        features = encoder(volumes)
        for row in range(2):
            inputs = INPUTS[backbone](volumes[row : row + 1])
            if backbone == "internvl":
                expected = [whole.get_image_features(**inputs).pooler_output.flatten(0, 1)]
            else:
                found = whole.get_video_features(**inputs, return_dict=True)
                expected = [level[0] for level in getattr(found, "deepstack_features", None) or []]
                expected.append(found.pooler_output[0])
            assert len(expected) == len(features.levels) == len(encoder.level_dims)
            assert all(torch.equal(a[row], b) for a, b in zip(features.levels, expected, strict=True))
        assert set(features.grids) == {INPUTS[backbone].token_grid(6, 64, 64)}
        assert features.levels[-1].shape[-1] == encoder.level_dims[-1]

    def test_the_layers_of_the_language_model_are_not_there(self, encoder) -> None:
        names = [name for name, _ in encoder.named_parameters()]
        assert names
        assert not [name for name in names if "language_model" in name or "lm_head" in name]

    @torch.no_grad()
    def test_one_half_after_the_other_can_be_taken_from_one_model(self, backbone, folder, encoder, volumes) -> None:
        from transformers import AutoModelForImageTextToText

        whole = AutoModelForImageTextToText.from_pretrained(folder).eval()
        taken = VideoLMEncoder(whole, INPUTS[backbone])
        assert torch.equal(taken(volumes).levels[-1], encoder(volumes).levels[-1])
        with pytest.raises(ConfigError, match="already taken"):
            VideoLMEncoder(whole, INPUTS[backbone])
        assert whole.model.language_model is not None


class TestFrozen:
    @torch.no_grad()
    def test_a_sample_has_the_same_bits_in_every_batch(self, encoder, volumes) -> None:
        encoder.train()
        alone = encoder(volumes[1:])
        assert torch.equal(encoder(volumes).levels[-1][1:], alone.levels[-1])
        assert not torch.equal(encoder(volumes).levels[-1][:1], alone.levels[-1])

    def test_nothing_of_it_learns(self, encoder, volumes) -> None:
        encoder.train()
        assert not encoder.body.training
        assert not [p for p in encoder.parameters() if p.requires_grad]
        assert not encoder(volumes).levels[-1].requires_grad


class TestTrained:
    def test_adapters_sit_on_the_towers_attention_alone(self, backbone, folder, volumes) -> None:
        encoder = VideoLMEncoder(str(folder), INPUTS[backbone], vision="lora", lora={"init_lora_weights": False})
        learning = {name for name, p in encoder.named_parameters() if p.requires_grad}
        assert learning
        assert all("lora_" in name and "attn" in name.replace("attention", "attn") for name in learning)
        encoder(volumes).levels[-1].square().sum().backward()
        assert all(p.grad is not None for p in encoder.parameters() if p.requires_grad)

    def test_recomputed_layers_have_the_same_gradients(self, backbone, folder, volumes) -> None:
        found = []
        for again in (False, True):
            encoder = VideoLMEncoder(str(folder), INPUTS[backbone], vision="full", gradient_checkpointing=again)
            runs = []
            layer = next(m for name, m in encoder.named_modules() if name.endswith(("0.norm1", "0.layernorm_before")))
            layer.register_forward_hook(lambda *_, runs=runs: runs.append(1))
            encoder(volumes).levels[-1].square().sum().backward()
            assert len(runs) == 1 + again
            found.append([p.grad for p in encoder.parameters() if p.grad is not None])
        assert len(found[0]) > 20
        for plain, recomputed in zip(*found, strict=True):
            torch.testing.assert_close(plain, recomputed)

    def test_from_scratch_draws_other_weights_and_full_keeps_them(self, backbone, folder, encoder) -> None:
        torch.manual_seed(5)  # the checkpoint's weights were drawn with another
        kept, drawn = (VideoLMEncoder(str(folder), INPUTS[backbone], vision=v) for v in ("full", "scratch"))
        matrices = [name for name, p in encoder.named_parameters() if p.ndim > 1 and float(p.detach().std()) > 0]
        parameters = [dict(part.named_parameters()) for part in (encoder, kept, drawn)]
        for name in matrices:
            assert torch.equal(parameters[0][name], parameters[1][name])
            assert not torch.equal(parameters[0][name], parameters[2][name])
        assert all(p.requires_grad for p in drawn.parameters())


class TestKeeping:
    @torch.no_grad()
    def test_copies_configs_and_checkpoints_see_the_same(self, encoder, volumes, tmp_path) -> None:
        expected = encoder(volumes).levels[-1]
        again = Component.from_pretrained(encoder.save_pretrained(tmp_path / "kept"))
        assert str(tmp_path.parent) not in (tmp_path / "kept" / "config.json").read_text()
        assert again.inputs == encoder.inputs
        assert torch.equal(again(volumes).levels[-1], expected)
        assert torch.equal(copy.deepcopy(encoder)(volumes).levels[-1], expected)
        assert model_identity(again) == model_identity(encoder)

    def test_the_cache_tells_models_and_frames_apart(self, backbone, folder, encoder) -> None:
        fewer = {**_SMALL, "sampling": {"policy": "uniform", "num_frames": 2}}
        other = QwenVideoInputs(**fewer, min_pixels=256)
        other = InternVLVideoInputs(**fewer, size=64) if backbone == "internvl" else other
        changed = VideoLMEncoder(str(folder), INPUTS[backbone])
        next(changed.parameters()).data[0] += 1
        identities = {model_identity(e) for e in (encoder, VideoLMEncoder(str(folder), other), changed)}
        assert len(identities) == 3

    @torch.no_grad()
    def test_half_precision_takes_float_volumes(self, backbone, folder, encoder, volumes) -> None:
        half = VideoLMEncoder(str(folder), INPUTS[backbone], dtype="bfloat16")
        found, expected = half(volumes).levels[-1], encoder(volumes).levels[-1]
        assert found.dtype == torch.bfloat16
        assert float((found.float() - expected).norm() / expected.norm()) < 0.05


class TestDefaults:
    def test_inputs_follow_the_published_models(self) -> None:
        found = {name: default_inputs({"model_type": name}) for name in FAMILIES}
        assert found["qwen2_5_vl"] == QwenVideoInputs()
        assert found["internvl"] == InternVLVideoInputs()
        assert found["qwen2_5_vl"].num_tokens(240, 480, 480) == 3757
        assert found["internvl"].token_grid(240, 480, 480)[1:] == (16, 16)
        assert (found["qwen3_vl"].patch_size, found["qwen3_vl"].pixel_limit) == (16, "film")

    def test_a_checkpoints_processor_is_asked(self, backbone, folder) -> None:
        found = default_inputs(folder, "all")
        assert found == VideoLMEncoder(str(folder), default_inputs(str(folder), "all")).inputs
        assert found.token_grid(12, 64, 64) == ((12, 4, 4) if backbone == "internvl" else (6, 4, 4))

    def test_gray_volumes_are_read(self) -> None:
        gray = VideoLMEncoder(tiny_config("internvl"), INPUTS["internvl"], in_channels=1)
        colour = VideoLMEncoder(gray.to_config()["init_args"]["model"], INPUTS["internvl"])
        colour.load_state_dict(gray.state_dict())
        volume = torch.rand(1, 1, 4, 64, 64)
        assert torch.equal(gray(volume).levels[0], colour(volume.expand(-1, 3, -1, -1, -1)).levels[0])


class TestWhatIsRefused:
    @pytest.mark.parametrize(
        ("options", "match"),
        [
            ({"vision": "thawed"}, "one of"),
            ({"lora": {"r": 2}}, "no effect"),
            ({"in_channels": 2}, "1 or 3"),
            ({"inputs": QwenVideoInputs()}, "does not make"),
            ({"vision": "lora", "lora": {"rank": 2}}, "LoRA"),
        ],
    )
    def test_options_that_do_not_fit(self, options, match) -> None:
        with pytest.raises(ConfigError, match=match):
            VideoLMEncoder(tiny_config("internvl"), **options)

    @pytest.mark.parametrize(
        ("family", "inputs", "match"),
        [
            ("qwen2_5_vl", QwenVideoInputs(), "`patch_size` 14, but its config 8.*Leave `inputs` out"),
            ("qwen3_vl", QwenVideoInputs(patch_size=8, merge_size=1), "`merge_size` 1, but its config 2"),
            ("qwen3_vl", QwenVideoInputs(patch_size=8, temporal_patch_size=1), "`temporal_patch_size` 1, but"),
            ("internvl", InternVLVideoInputs(), "`patch_size` 14, but its config 8"),
            ("internvl", InternVLVideoInputs(size=64, patch_size=8, downsample=4), "`downsample` 4, but its config 2"),
        ],
    )
    def test_patches_that_are_not_those_of_the_tower(self, family, inputs, match) -> None:
        with pytest.raises(ConfigError, match=match):
            VideoLMEncoder(tiny_config(family), inputs)

    @torch.no_grad()
    def test_internvl_reads_frames_of_another_size(self) -> None:
        small = InternVLVideoInputs("all", size=32, patch_size=8)
        features = VideoLMEncoder(tiny_config("internvl"), small)(torch.rand(1, 3, 2, 64, 64))
        assert features.grids == [(2, 2, 2)]
        assert features.levels[0].shape[1] == 8

    def test_volumes_with_another_range(self) -> None:
        with pytest.raises(ShapeError, match=r"\[0, 1\]"):
            VideoLMEncoder(tiny_config("internvl"), INPUTS["internvl"])(torch.full((1, 3, 4, 64, 64), -500.0))

    def test_an_encoder_that_is_not_there_says_so(self) -> None:
        with pytest.raises(ConfigError, match="reads features from disk"):
            AbsentEncoder((8,))(torch.rand(1, 3, 4, 8, 8))


def test_the_connector_hands_tokens_states_and_grid_on(encoder, volumes) -> None:
    features = encoder(volumes)
    context = VideoTokens(encoder.level_dims)(features)
    assert torch.equal(context.tokens, features.levels[-1])
    assert context.grid == features.grids[-1]
    assert [torch.equal(context.layer_states[i + 1], level) for i, level in enumerate(features.levels[:-1])] == [
        True
    ] * (len(features.levels) - 1)
