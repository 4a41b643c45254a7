"""2D vision transformers of transformers and timm behind one interface: slices in, hidden states out."""

from __future__ import annotations

import inspect
import json
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from ct_vlm.errors import CheckpointError, ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

TIMM_PREFIX = "timm:"
"""What a reference to pretrained timm weights starts with."""
UNUSED = ("mask_token", "pooler.", "attn_pool.", "fc_norm.")
"""Parts of names of parameters that no hidden state depends on."""


class SliceBackbone(nn.Module, ABC):
    """A vision transformer that returns hidden states of chosen blocks.

    Attributes:
        model: The transformer as its library built it.
        dim: Width of the hidden states.
        depth: Number of blocks.
        patch_size: Height and width of a patch in pixels.
        config: What :func:`build_backbone` rebuilds the architecture from, with random weights.
    """

    model: Any
    dim: int
    depth: int
    patch_size: tuple[int, int]
    config: dict[str, Any]

    @abstractmethod
    def forward(self, pixels: Tensor, layers: Sequence[int], *, final_norm: bool = True) -> list[Tensor]:
        """Return the tokens after each of the blocks (counted from 1), prefix tokens first.

        Args:
            pixels: Images whose sides are multiples of the patch.
            layers: Blocks, ascending.
            final_norm: Whether the last block's tokens pass the model's final norm.

        Shape:
            - pixels: ``(S, C, H, W)``.
            - output: ``(S, P + N, dim)`` each, with P prefix tokens (class, registers).
        """

    @abstractmethod
    def set_channels(self, channels: int) -> None:
        """Tell the model that its patch embedding was replaced by one of so many channels."""


class TransformersBackbone(SliceBackbone):
    """A vision model of transformers, such as ``Dinov2Model`` (RAD-DINO is one).

    Args:
        model: A ``PreTrainedModel`` that takes ``pixel_values``.

    Raises:
        ConfigError: If its config does not say width, depth and patch size.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        _check_config(getattr(model, "config", None), type(model).__name__)
        self.model = model
        self.dim, self.depth = int(model.config.hidden_size), int(model.config.num_hidden_layers)
        self.patch_size = _pair(model.config.patch_size)
        names = inspect.signature(model.forward).parameters
        self.options = {"interpolate_pos_encoding": True} if "interpolate_pos_encoding" in names else {}
        self._write_config()

    def forward(self, pixels: Tensor, layers: Sequence[int], *, final_norm: bool = True) -> list[Tensor]:
        """Return the tokens after each of the blocks."""
        out = self.model(pixels, output_hidden_states=True, **self.options)
        states = list(out.hidden_states)
        if final_norm:
            states[self.depth] = out.last_hidden_state
        return [states[layer] for layer in layers]

    def set_channels(self, channels: int) -> None:
        """Write the number of channels to the config and to the module that checks it."""
        self.model.config.num_channels = channels
        for module in self.model.modules():
            if hasattr(module, "num_channels"):
                module.num_channels = channels
        self._write_config()

    def _write_config(self) -> None:
        values = json.loads(self.model.config.to_json_string(use_diff=False))
        left_out = {"transformers_version", "dtype"}
        self.config = {k: v for k, v in values.items() if not k.startswith("_") and k not in left_out}


class TimmBackbone(SliceBackbone):
    """A vision transformer of timm.

    Args:
        name: Model name, e.g. ``vit_base_patch14_dinov2.lvd142m``.
        pretrained: Whether timm loads the weights of that name.
        settings: Further arguments of ``timm.create_model``.

    Raises:
        ConfigError: If timm does not know the name, or the model is no vision transformer.
        CheckpointError: If timm cannot load the weights.
    """

    def __init__(self, name: str, *, pretrained: bool = False, **settings: Any) -> None:
        super().__init__()
        import timm

        settings = {"dynamic_img_size": True, "num_classes": 0, **settings}
        try:
            self.model = timm.create_model(name, pretrained=pretrained, **settings)
        except Exception as error:
            cause = f"timm cannot build `{name}` with {settings}: {error}"
            if pretrained:
                raise CheckpointError(cause, "Check the name and the network, or pass a local folder.") from error
            raise ConfigError(cause, "Check the name with `timm.list_models()`.") from error
        if not hasattr(self.model, "blocks") or not hasattr(self.model, "patch_embed"):
            cause = f"`{name}` is no vision transformer: it has no blocks or no patch embedding."
            raise ConfigError(cause, "Choose a `vit_...`, `eva...` or `deit...` model.")
        self.dim, self.depth = int(self.model.embed_dim), len(self.model.blocks)
        self.patch_size = _pair(self.model.patch_embed.patch_size)
        # a folder or a repository names the architecture in its config
        self.config = {**_architecture(name), **settings}

    def forward(self, pixels: Tensor, layers: Sequence[int], *, final_norm: bool = True) -> list[Tensor]:
        """Return the tokens after each of the blocks."""
        indices = [layer - 1 for layer in layers]
        final, states = self.model.forward_intermediates(
            pixels, indices=indices, return_prefix_tokens=True, output_fmt="NLC", stop_early=True
        )
        tokens = [_joined(state) for state in states]
        if final_norm and layers[-1] == self.depth:
            tokens[-1] = final
        return tokens

    def set_channels(self, channels: int) -> None:
        """Write the number of channels to the config."""
        self.config["in_chans"] = channels


def build_backbone(spec: Any) -> SliceBackbone:
    """Build a backbone.

    Args:
        spec: A folder or hub id of a transformers vision model; ``"timm:NAME"`` for timm's pretrained
            weights (``"timm:local-dir:FOLDER"`` for a folder that timm wrote); a dict with
            ``model_type`` (transformers) or ``timm`` (a model name) for random weights; or a
            ``PreTrainedModel``, which is taken over.

    Raises:
        ConfigError: If it names no vision transformer.
        CheckpointError: If weights cannot be read or do not fill the model.

    Example:
        >>> from ct_vlm.encoders.slice_backbones import build_backbone
        >>> config = {"model_type": "dinov2", "hidden_size": 8, "num_hidden_layers": 2,
        ...           "num_attention_heads": 2, "patch_size": 7, "image_size": 28}
        >>> backbone = build_backbone(config)
        >>> backbone.dim, backbone.depth, backbone.patch_size
        (8, 2, (7, 7))
    """
    if isinstance(spec, nn.Module):
        return TransformersBackbone(spec)
    if isinstance(spec, dict):
        return _from_dict(dict(spec))
    text = str(spec)
    if text.startswith(TIMM_PREFIX):
        return TimmBackbone(text.removeprefix(TIMM_PREFIX), pretrained=True)
    return _from_path(text)


def _from_dict(values: dict[str, Any]) -> SliceBackbone:
    """Build a backbone with random weights."""
    if "timm" in values:
        return TimmBackbone(values.pop("timm"), **values)
    from transformers import AutoConfig, AutoModel

    name = values.pop("model_type", None)
    if name is None:
        cause = f"The backbone config names neither `model_type` nor `timm`; its keys are {sorted(values)}."
        raise ConfigError(cause, "Name it, e.g. {'model_type': 'dinov2', ...} or {'timm': 'vit_tiny_patch16_224'}.")
    try:
        config = AutoConfig.for_model(name, **values)
        model = AutoModel.from_config(config, **_options(config))
    except (TypeError, ValueError) as error:
        cause = f"Cannot build a vision model of type `{name}`: {error}"
        raise ConfigError(cause, "Check its arguments against the config class of transformers.") from error
    return TransformersBackbone(model)


def _from_path(path: str) -> SliceBackbone:
    """Load a transformers model; weights that the file lacks are an error, not random numbers."""
    from transformers import AutoConfig, AutoModel

    try:
        options = _options(AutoConfig.from_pretrained(path))
        model, report = AutoModel.from_pretrained(path, dtype="auto", output_loading_info=True, **options)
    except (OSError, ValueError) as error:
        cause = f"Cannot load a vision model from `{path}`: {error}"
        raise CheckpointError(cause, "Pass a folder with config.json and weights, or a hub id.") from error
    missing = sorted(name for name in report["missing_keys"] if not is_unused(name))
    if missing:
        cause = f"`{path}` lacks {len(missing)} weights of {type(model).__name__}, e.g. {missing[:3]}."
        raise CheckpointError(cause, "Pass the checkpoint of this architecture.")
    return TransformersBackbone(model)


def _options(config: Any) -> dict[str, Any]:
    """Leave out the pooler of models that have one: no hidden state depends on it."""
    from transformers import AutoModel

    # before anything is built: a language model by mistake may not fit into memory
    _check_config(config, f"A model of type `{getattr(config, 'model_type', None)}`")
    if type(config) not in AutoModel._model_mapping:
        cause = f"transformers has no model for a config of type `{config.model_type}`."
        raise ConfigError(cause, "Use a `model_type` that AutoModel knows, such as 'dinov2' or 'vit'.")
    model_class: Any = AutoModel._model_mapping[type(config)]
    names = inspect.signature(model_class).parameters
    return {"add_pooling_layer": False} if "add_pooling_layer" in names else {}


def _check_config(config: Any, name: str) -> None:
    """Refuse what does not say width, depth and patch size."""
    missing = [field for field in ("hidden_size", "num_hidden_layers", "patch_size") if not hasattr(config, field)]
    if missing:
        cause = f"{name} is no vision transformer: its config has no {', '.join(missing)}."
        raise ConfigError(cause, "Use a model such as Dinov2Model or ViTModel, or the vision tower alone.")


def is_unused(name: str) -> bool:
    """Tell whether a parameter of this name decides no hidden state.

    Example:
        >>> is_unused("embeddings.mask_token"), is_unused("embeddings.cls_token")
        (True, False)
    """
    return any(part in name for part in UNUSED)


def _architecture(name: str) -> dict[str, Any]:
    """Return what timm builds an architecture of, without weights."""
    scheme, _, place = name.partition(":")
    if not place:
        return {"timm": name}
    if scheme == "local-dir":
        values = json.loads((Path(place) / "config.json").read_text(encoding="utf-8"))
        return {"timm": values["architecture"], **values.get("model_args", {})}
    from timm.models import load_model_config_from_hf

    _, architecture, arguments = load_model_config_from_hf(place)
    return {"timm": architecture, **(arguments or {})}


def _joined(state: Any) -> Tensor:
    """Put prefix tokens before the patches' tokens."""
    from torch import cat

    return state if isinstance(state, Tensor) else cat([state[1], state[0]], dim=1)


def _pair(size: int | Sequence[int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))
