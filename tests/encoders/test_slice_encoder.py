from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from ct_vlm.component import Component
from ct_vlm.encoders import SliceEncoder
from ct_vlm.encoders.input_channels import find_patch_convolution, fold_channels
from ct_vlm.encoders.slice_backbones import build_backbone
from ct_vlm.errors import CheckpointError, ConfigError, ShapeError

DINO = {
    "model_type": "dinov2",
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "patch_size": 7,
    "image_size": 35,
    "mlp_ratio": 2,
}
TIMM = {"timm": "vit_tiny_patch16_224", "img_size": 32, "patch_size": 8, "embed_dim": 16, "depth": 3, "num_heads": 2}
SPECS = {"dinov2": DINO, "timm": TIMM}


def image_of(batch: int = 2, channels: int = 1, size=(5, 28, 21)) -> torch.Tensor:
    return torch.rand(batch, channels, *size)


def encoder(kind: str = "dinov2", **changes) -> SliceEncoder:
    return SliceEncoder(SPECS[kind], **{"layers": (1, 3), **changes})


def size_of(kind: str) -> tuple[int, int, int]:
    return (5, 28, 21) if kind == "dinov2" else (5, 24, 32)


@pytest.fixture(scope="module")
def rad_dino(tmp_path_factory) -> str:
    """A folder that holds a small random model as RAD-DINO's does: Dinov2Model with three input channels."""
    from transformers import Dinov2Config, Dinov2Model

    torch.manual_seed(1)
    values = {k: v for k, v in DINO.items() if k != "model_type"}
    folder = tmp_path_factory.mktemp("rad-dino")
    Dinov2Model(Dinov2Config(**values)).save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize("kind", SPECS)
def test_every_slice_is_kept_on_the_grid(kind):
    features, prefix = encoder(kind).encode(image_of(size=size_of(kind)))
    grid = (5, 4, 3) if kind == "dinov2" else (5, 3, 4)
    assert features.grids == [grid, grid]
    assert [tuple(level.shape) for level in features.levels] == [(2, 60, 16)] * 2
    assert [tuple(tokens.shape) for tokens in prefix] == [(2, 5, 1, 16)] * 2
    assert encoder(kind).level_dims == (16, 16)


@pytest.mark.parametrize("config", ["vit", "dinov2_with_registers", "dinov3_vit"])
def test_other_vision_transformers(config):
    spec = {**DINO, "model_type": config, "image_size": 28, "intermediate_size": 24}
    features, prefix = SliceEncoder(spec, (2, 3)).encode(image_of(1, size=(2, 28, 21)))
    assert features.grids[0] == (2, 4, 3)
    assert prefix[0].shape[2] == {"vit": 1, "dinov2_with_registers": 5, "dinov3_vit": 1}[config]


@pytest.mark.parametrize(
    ("name", "prefix"), [("deit_tiny_distilled_patch16_224", 2), ("vit_base_patch16_siglip_224", 0)]
)
def test_other_transformers_of_timm(name, prefix):
    module = SliceEncoder({**TIMM, "timm": name}, (1, 3), frozen=False)
    features, tokens = module.encode(image_of(1, size=(2, 24, 40)))
    assert features.grids[0] == (2, 3, 5)
    assert tokens[0].shape == (1, 2, prefix, 16)
    sum((level * torch.randn_like(level)).sum() for level in features.levels).backward()
    assert all(p.grad is not None for p in module.parameters() if p.requires_grad)


def test_a_model_that_drops_tokens_is_refused():
    module = SliceEncoder({**DINO, "model_type": "vit_mae", "intermediate_size": 24}, (1, 3))
    with pytest.raises(ConfigError, match="4 x 3 patches"):
        module(image_of())


def test_states_are_those_of_the_model(rad_dino):
    """Slice by slice, on three copies of the channel, in float64."""
    from transformers import Dinov2Model

    model = Dinov2Model.from_pretrained(rad_dino).double().eval()
    found = SliceEncoder(rad_dino, (1, 2, 3), chunk_size=2).double()
    image = image_of().double()
    features, prefix = found.encode(image)
    for b in range(2):
        for d in range(5):
            with torch.no_grad():
                out = model(image[b, :, d].expand(3, -1, -1)[None], output_hidden_states=True)
            for i, state in enumerate([*out.hidden_states[1:3], out.last_hidden_state]):
                torch.testing.assert_close(features.levels[i].view(2, 5, 12, 16)[b, d], state[0, 1:])
                torch.testing.assert_close(prefix[i][b, d], state[0, :1])


def test_states_are_those_of_timm():
    module = encoder("timm", layers=(1, 2, 3), input_mode="repeat").double()
    image = image_of(1, size=size_of("timm")).double()
    levels = module(image).levels
    for d in range(5):
        final, states = module.backbone.model.forward_intermediates(
            image[:, :, d].expand(-1, 3, -1, -1), indices=[0, 1], output_fmt="NLC"
        )
        for level, state in zip(levels, [*states, final[:, 1:]], strict=True):
            torch.testing.assert_close(level.view(5, 12, 16)[d], state[0])


def test_timm_stops_at_the_last_block_that_is_asked_for():
    module = encoder("timm", layers=(1,))
    called = []
    module.backbone.model.blocks[2].register_forward_hook(lambda *_: called.append(1))
    module(image_of(1, size=size_of("timm")))
    assert called == []


def test_final_norm_is_a_choice():
    torch.manual_seed(0)
    normed = encoder()
    raw = encoder(final_norm=False)
    raw.load_state_dict(normed.state_dict())
    with torch.no_grad():
        normed.backbone.model.layernorm.bias += 1
        raw.backbone.model.layernorm.bias += 1
    image = image_of()
    a, b = normed(image), raw(image)
    assert torch.equal(a.levels[0], b.levels[0])
    torch.testing.assert_close(a.levels[1], normed.backbone.model.layernorm(b.levels[1]))


@pytest.mark.parametrize("kind", SPECS)
def test_folding_one_channel_equals_repeating_it(kind):
    normalisation = {"mean": (0.5, 0.4, 0.1), "std": (0.2, 0.3, 0.7)}
    repeated = encoder(kind, input_mode="repeat", **normalisation).double()
    folded = encoder(kind, **normalisation).double()
    conv = find_patch_convolution(repeated.backbone.model)[2]
    state = dict(repeated.backbone.model.state_dict())
    small = fold_channels(conv, **normalisation)
    path = next(key for key, value in repeated.backbone.model.named_modules() if value is conv)
    state.update({f"{path}.weight": small.weight, f"{path}.bias": small.bias})
    folded.backbone.model.load_state_dict(state)
    image = image_of(size=size_of(kind)).double()
    for a, b in zip(folded(image).levels, repeated(image).levels, strict=True):
        torch.testing.assert_close(a, b)
    assert find_patch_convolution(folded.backbone.model)[2].in_channels == 1


def test_folding_loaded_weights_equals_repeating(rad_dino):
    kwargs = {"layers": (2, 3), "mean": (0.5, 0.4, 0.1), "std": (0.2, 0.3, 0.7)}
    image = image_of()
    folded, repeated = (SliceEncoder(rad_dino, input_mode=mode, **kwargs) for mode in ("fold", "repeat"))
    for a, b in zip(folded(image).levels, repeated(image).levels, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


def test_three_windows_meet_three_channels():
    module = encoder(in_channels=3, mean=(0.5,) * 3)
    image = image_of(1, 3)
    levels = module(image).levels
    plain = encoder(in_channels=3)
    plain.load_state_dict(module.state_dict())
    torch.testing.assert_close(levels, plain(image - 0.5).levels)


@pytest.mark.parametrize("kind", SPECS)
@pytest.mark.parametrize("checkpointing", [False, True])
def test_gradients_reach_every_parameter(kind, checkpointing):
    module = encoder(kind, frozen=False, gradient_checkpointing=checkpointing, chunk_size=3)
    image = image_of(size=size_of(kind)).requires_grad_()
    features, prefix = module.encode(image)
    sum((level * torch.randn_like(level)).sum() for level in [*features.levels, *prefix]).backward()
    trained = {name: p.grad for name, p in module.named_parameters() if p.requires_grad}
    assert len(trained) > 20
    missing = [name for name, grad in trained.items() if grad is None or not (grad != 0).any()]
    # a bias of keys shifts all scores of a query alike
    assert [name for name in missing if "k_proj.bias" not in name and "key.bias" not in name] == []
    assert (image.grad != 0).any()


def test_checkpointing_gives_the_same_gradients():
    plain = encoder(frozen=False, chunk_size=3)
    again = encoder(frozen=False, chunk_size=3, gradient_checkpointing=True)
    again.load_state_dict(plain.state_dict())
    image = image_of()
    for module in (plain, again):
        module.train()
        sum(level.square().sum() for level in module(image).levels).backward()
    for a, b in zip(plain.parameters(), again.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)


def test_a_frozen_backbone_has_no_gradients_and_stays_in_eval_mode():
    module = SliceEncoder({**DINO, "hidden_dropout_prob": 0.5}, (1, 3))
    assert not any(p.requires_grad for p in module.parameters())
    parent = nn.ModuleList([module]).train()
    assert module.training
    assert not module.backbone.training
    image = image_of().requires_grad_()
    levels = parent[0](image).levels
    assert not any(level.requires_grad for level in levels)
    assert torch.equal(levels[0], module(image).levels[0])


def test_an_unfrozen_backbone_follows_the_mode():
    module = encoder(frozen=False).train()
    assert module.backbone.training
    assert not module.eval().backbone.training


@pytest.mark.parametrize("chunk_size", [1, 3, 100])
def test_chunks_and_batches_change_nothing(chunk_size):
    whole = encoder(chunk_size=7)
    module = encoder(chunk_size=chunk_size)
    module.load_state_dict(whole.state_dict())
    image = image_of(3)
    expected = whole(image).levels
    for level, other in zip(module(image).levels, expected, strict=True):
        torch.testing.assert_close(level, other)
    for b in range(3):
        torch.testing.assert_close(module(image[b : b + 1]).levels[1][0], expected[1][b])


def test_no_pass_holds_more_slices_than_a_chunk():
    module = encoder(chunk_size=2)
    seen = []
    module.backbone.register_forward_pre_hook(lambda _, args: seen.append(len(args[0])))
    module(image_of(1))
    assert seen == [2, 2, 1]


def test_padded_slices_are_not_encoded():
    module = encoder()
    image = image_of()
    padding = torch.zeros(2, 5, dtype=torch.bool)
    padding[0, 3:], padding[1, 0] = True, True
    expected = module(image).levels[1].view(2, 5, 12, 16).clone()
    expected[padding] = 0
    image.transpose(1, 2)[padding] = torch.nan
    features = module(image, padding_mask=padding)
    torch.testing.assert_close(features.levels[1].view(2, 5, 12, 16), expected)
    assert features.padding_mask is padding


def test_slice_positions_are_in_mm():
    features = encoder()(image_of(), spacing=torch.tensor([[2.0, 1, 1], [5.0, 1, 1]]))
    assert features.slice_position_mm.tolist() == [[0, 2, 4, 6, 8], [0, 5, 10, 15, 20]]


@pytest.mark.parametrize("kind", SPECS)
@pytest.mark.parametrize("fit", ["resize", "crop"])
def test_sides_that_are_no_multiples_of_the_patch(kind, fit):
    module = encoder(kind, fit=fit)
    patch = module.backbone.patch_size[0]
    image = image_of(1, size=(1, 3 * patch + 4, 4 * patch + 1))
    features = module(image)
    assert features.grids[0] == (1, 3, 4)
    cropped = module(image[..., : 3 * patch, : 4 * patch]).levels[0]
    assert torch.equal(features.levels[0], cropped) == (fit == "crop")


@pytest.mark.parametrize("kind", SPECS)
def test_bf16_keeps_its_dtype(kind):
    module = encoder(kind, dtype="bfloat16")
    level = module(image_of(size=(2, 33, 33)).bfloat16()).levels[1]
    assert level.dtype == torch.bfloat16
    assert torch.isfinite(level).all()


@pytest.mark.parametrize("kind", SPECS)
@pytest.mark.parametrize("mode", ["fold", "repeat"])
def test_round_trip_and_copy(kind, mode, tmp_path):
    module = encoder(kind, input_mode=mode, mean=(0.5, 0.4, 0.1), std=(0.2, 0.3, 0.7))
    module.save_pretrained(tmp_path)
    image = image_of(size=size_of(kind))
    for other in (Component.from_pretrained(tmp_path), copy.deepcopy(module)):
        torch.testing.assert_close(other(image).levels[1], module(image).levels[1], atol=0, rtol=0)
        assert other.to_config() == module.to_config()


def test_a_checkpoint_needs_no_path_again(rad_dino, tmp_path):
    import shutil

    source = shutil.copytree(rad_dino, tmp_path / "source")
    module = SliceEncoder(source, (1, 3), mean=(0.5,) * 3, std=(0.2,) * 3)
    module.save_pretrained(tmp_path / "saved")
    shutil.rmtree(source)
    other = Component.from_pretrained(tmp_path / "saved")
    image = image_of()
    assert torch.equal(other(image).levels[1], module(image).levels[1])


@pytest.mark.parametrize("dtype", [None, "bfloat16"])
def test_a_reference_keeps_checkpoints_small(rad_dino, tmp_path, dtype):
    module = SliceEncoder(rad_dino, (1, 3), store_backbone=False, mean=(0.5,) * 3, dtype=dtype)
    assert module.state_dict() == {}
    parent = nn.ModuleDict({"encoder": module, "head": nn.Linear(2, 2)})
    assert sorted(parent.state_dict()) == ["head.bias", "head.weight"]
    parent.load_state_dict(parent.state_dict())
    module.save_pretrained(tmp_path)
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) < 10_000
    image = image_of().to(next(module.parameters()).dtype)
    for other in (Component.from_pretrained(tmp_path), copy.deepcopy(module)):
        assert torch.equal(other(image).levels[1], module(image).levels[1])


def test_a_reference_to_other_weights_is_refused(rad_dino, tmp_path):
    import shutil

    from transformers import Dinov2Model

    source = shutil.copytree(rad_dino, tmp_path / "source")
    config = SliceEncoder(source, (1, 3), store_backbone=False).to_config()
    model = Dinov2Model.from_pretrained(source)
    with torch.no_grad():
        model.embeddings.cls_token += 1
    model.save_pretrained(source)
    with pytest.raises(CheckpointError, match="not those"):
        Component.from_config(config)


def test_a_reference_needs_a_path():
    with pytest.raises(ConfigError, match="path"):
        encoder(store_backbone=False)


def test_a_model_is_taken_over(rad_dino):
    from transformers import Dinov2Model

    model = Dinov2Model.from_pretrained(rad_dino)
    image = image_of()
    expected = SliceEncoder(rad_dino, (1, 3))(image).levels[1]
    module = SliceEncoder(model, (1, 3))
    assert module.backbone.model is model
    assert torch.equal(module(image).levels[1], expected)


def test_a_folder_of_timm(tmp_path):
    import timm

    args = {k: v for k, v in TIMM.items() if k != "timm"}
    model = timm.create_model(TIMM["timm"], **args)
    timm.models.save_for_hf(model, tmp_path, model_args=args, safe_serialization=True)
    module = SliceEncoder(f"timm:local-dir:{tmp_path}", (1, 3), input_mode="repeat")
    image = image_of(1, size=(1, 32, 32))
    final = model.eval().forward_features(image[:, :, 0].expand(-1, 3, -1, -1))
    torch.testing.assert_close(module(image).levels[1], final[:, 1:])
    module.save_pretrained(tmp_path / "saved")
    assert torch.equal(Component.from_pretrained(tmp_path / "saved")(image).levels[1], module(image).levels[1])


def test_missing_weights_are_not_random_numbers(rad_dino, tmp_path):
    import shutil

    from safetensors.torch import load_file, save_file

    source = shutil.copytree(rad_dino, tmp_path / "source")
    state = load_file(source / "model.safetensors")
    state.pop("encoder.layer.1.norm1.weight")
    save_file(state, source / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match="lacks 1 weights"):
        SliceEncoder(source, (1, 3))


def test_what_does_not_fit_is_refused(tmp_path):
    for changes in (
        {"layers": ()},
        {"layers": (0, 1)},
        {"layers": (3, 1)},
        {"layers": (1, 4)},
        {"in_channels": 2},
        {"mean": (0.5,)},
        {"input_mode": "average"},
        {"fit": "pad"},
        {"chunk_size": 0},
    ):
        with pytest.raises(ConfigError):
            encoder(**changes)
    types = [{"model_type": name} for name in ("llama", "no_such")]
    for spec in ({"hidden_size": 8}, *types, {"timm": "no_such"}, {"timm": "resnet18"}):
        with pytest.raises(ConfigError):
            build_backbone(spec)
    with pytest.raises(ConfigError, match="vision transformer"):
        build_backbone(nn.Linear(2, 2))
    with pytest.raises(CheckpointError, match="Cannot load"):
        build_backbone(tmp_path)
    with pytest.raises(ShapeError, match="padding_mask"):
        encoder()(image_of(), padding_mask=torch.zeros(2, 4))
    with pytest.raises(ShapeError, match="at least"):
        encoder()(image_of(size=(1, 6, 30)))


def test_a_padding_convolution_cannot_hold_a_mean():
    conv = nn.Conv2d(3, 2, 4, 4, padding=1)
    with pytest.raises(ConfigError, match="repeat"):
        fold_channels(conv, (0.5,) * 3, (1.0,) * 3)
    x = torch.rand(1, 1, 8, 8)
    torch.testing.assert_close(fold_channels(conv, (0.0,) * 3, (1.0,) * 3)(x), conv(x.expand(-1, 3, -1, -1)))


def test_size_of_the_papers_encoder():
    rad_dino = {"model_type": "dinov2", "image_size": 518, "patch_size": 14}
    with torch.device("meta"):
        module = SliceEncoder(rad_dino)
        features = module(torch.empty(1, 1, 32, 256, 256))
    assert features.grids == [(32, 18, 18)] * 4
    assert features.levels[0].shape == (1, 32 * 324, 768)
    # ViT-B/14, less two colours of the patch embedding
    assert sum(p.numel() for p in module.parameters()) == 86_580_480 - 2 * 768 * 14 * 14
