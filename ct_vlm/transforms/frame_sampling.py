"""Which slices of a volume a video model sees: sampling policies as data."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from ct_vlm.errors import ConfigError
from ct_vlm.transforms.configured import Configured

if TYPE_CHECKING:
    from numpy.typing import NDArray

Policy = Literal["uniform", "middle", "ends", "fps", "all", "given"]
Placing = Literal["uniform", "middle", "ends"]
FILM_FPS = 18.0


@dataclass(frozen=True)
class FrameSampling(Configured):
    """A policy that picks frames of a film, which for a CT are its slices.

    ``n`` frames of a film of ``T`` are placed

    - ``uniform``: at the starts of ``n`` equal parts, as ``Qwen2VLVideoProcessor`` of transformers does;
    - ``middle``: in the middle of each part, as ``InternVLVideoProcessor`` does;
    - ``ends``: evenly from the first to the last frame, as Qwen's own ``qwen-vl-utils`` package and
      ``Qwen3VLVideoProcessor`` do.

    ``fps`` computes ``n`` from the rate and the film's own rate, as Qwen's processors do, and ``all``
    and ``given`` need no number. An encoder that joins frames (two for Qwen) rounds ``n`` to a
    multiple; frames that are still missing at the end repeat the last one, in the encoder's inputs.

    Args:
        policy: How frames are picked.
        num_frames: Frames of ``uniform``, ``middle`` and ``ends``.
        fps: Frames a second of ``fps``.
        film_fps: Rate of the film.
        placing: Where the frames of ``fps`` are placed.
        min_frames: Least number of frames of ``fps``, if the film has as many.
        max_frames: Largest number of frames of ``fps``.
        frames: Frames of ``given``, counted from 0; negative ones count from the end.

    Raises:
        ConfigError: If a value is unknown, or does not belong to the policy.

    Example:
        >>> from ct_vlm.transforms import FrameSampling
        >>> FrameSampling("fps").indices(240, multiple=2).size
        26
        >>> FrameSampling("middle", num_frames=4).indices(240).tolist()
        [30, 90, 150, 210]

    References:
        AbSteering, arXiv 2603.12469: 240 slices at 18 frames a second. How many of them its models
        saw is not said; two a second, placed as ``qwen-vl-utils`` does, is Qwen's default (inferred).
    """

    policy: Policy = "fps"
    num_frames: int | None = None
    fps: float = 2.0
    film_fps: float = FILM_FPS
    placing: Placing = "ends"
    min_frames: int = 4
    max_frames: int = 768
    frames: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Bring lists to tuples and check every value."""
        object.__setattr__(self, "frames", tuple(int(frame) for frame in self.frames))
        for name, kind in (("policy", Policy), ("placing", Placing)):
            if getattr(self, name) not in get_args(kind):
                cause = f"Expected `{name}` to be one of {get_args(kind)}, but got {getattr(self, name)!r}."
                raise ConfigError(cause, "Choose one of them.")
        counted = self.policy in get_args(Placing)
        if counted != (self.num_frames is not None) or (self.num_frames is not None and self.num_frames < 1):
            cause = f"The policy {self.policy!r} does not go with num_frames={self.num_frames}."
            raise ConfigError(cause, "`uniform`, `middle` and `ends` need a positive number; the others take none.")
        if (self.policy == "given") != bool(self.frames):
            cause = f"The policy {self.policy!r} does not go with frames={self.frames}."
            raise ConfigError(cause, "Name frames with the policy `given`, and with no other.")
        if not (self.fps > 0 and self.film_fps > 0 and 1 <= self.min_frames <= self.max_frames):
            cause = (
                f"Expected positive rates and 1 <= min_frames <= max_frames, but got fps={self.fps}, "
                f"film_fps={self.film_fps}, {self.min_frames} and {self.max_frames}."
            )
            raise ConfigError(cause, "Leave those at their defaults that you do not need.")

    def indices(self, total: int, *, multiple: int = 1) -> NDArray[np.int64]:
        """Return the frames that are picked, in their order.

        Args:
            total: Frames of the film.
            multiple: The number of frames is brought to a multiple of it, if the film has as many.

        Raises:
            ConfigError: If the film has fewer frames than asked for.
        """
        if total < 1 or multiple < 1:
            cause = f"Expected a film of at least one frame, and a positive multiple, but got {total} and {multiple}."
            raise ConfigError(cause, "Pass a volume with slices.")
        if self.policy == "all":
            return np.arange(total)
        if self.policy == "given":
            return self._given(total)
        count = self._rate_count(total, multiple) if self.policy == "fps" else self._asked_count(total, multiple)
        return _place(self.placing if self.policy == "fps" else self.policy, count, total)

    def to_config(self) -> dict[str, Any]:
        """Return ``{"class_path": ..., "init_args": {...}}`` with JSON values only."""
        args = {field.name: getattr(self, field.name) for field in fields(self)}
        path = f"{type(self).__module__}.{type(self).__qualname__}"
        return {"class_path": path, "init_args": args | {"frames": list(self.frames)}}

    def _given(self, total: int) -> NDArray[np.int64]:
        """Return the named frames, counted from the start."""
        beyond = [frame for frame in self.frames if not -total <= frame < total]
        if beyond:
            cause = f"The film has {total} frames, but frames {beyond} were asked for."
            raise ConfigError(cause, f"Name frames from 0 to {total - 1}.")
        return np.array(self.frames) % total

    def _asked_count(self, total: int, multiple: int) -> int:
        """Return ``num_frames``, brought to a multiple that the film has."""
        asked = self.num_frames or 0
        if asked > total:
            cause = f"The film has {total} frames, but num_frames={asked}."
            raise ConfigError(cause, "Ask for fewer, use the policy `all`, or a preset with more slices.")
        rounded = round(asked / multiple) * multiple
        while rounded > total:
            rounded -= multiple
        return rounded or asked

    def _rate_count(self, total: int, multiple: int) -> int:
        """Return the number of frames at the rate, within the limits."""
        limit = min(self.max_frames, total) // multiple * multiple
        wanted = min(max(total / self.film_fps * self.fps, self.min_frames), limit)
        return math.floor(wanted / multiple) * multiple or min(total, multiple)


def _place(placing: str, count: int, total: int) -> NDArray[np.int64]:
    """Return ``count`` of ``total`` frames."""
    if placing == "ends":
        return np.linspace(0, total - 1, count).round().astype(np.int64)
    # whole numbers: the processors step in floats, which can yield a frame too many (27 for 26 of 240)
    shift = int(placing == "middle")
    return (2 * np.arange(count) + shift) * total // (2 * count)
