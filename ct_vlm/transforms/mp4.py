"""Films of volumes: gray 8-bit frames written to and read from MP4 through PyAV.

A video is kept as luma (Y) with neutral colours, in *full range*: a byte of the frame is a byte of Y. The usual
limited range has 220 steps of luma for 256 bytes. Files say which range they have, and readers that go by it, such as
FFmpeg and everything built on it, show the same gray.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from ct_vlm.errors import ConfigError, MissingDependencyError, ShapeError, VolumeReadError
from ct_vlm.files import atomic_path
from ct_vlm.transforms.frame_sampling import FILM_FPS

if TYPE_CHECKING:
    from numpy.typing import NDArray

Codec = Literal["libx264", "libx265", "libx264rgb", "ffv1"]
ColorRange = Literal["full", "limited"]
_FULL = 2
_LUMA_LOW, _LUMA_STEPS = 16, 219
_LUMA_FIRST = ("yuv", "gray")


def write_mp4(
    frames: NDArray[np.uint8],
    path: str | Path,
    fps: float = FILM_FPS,
    *,
    codec: Codec = "libx264",
    crf: int | None = 0,
    color_range: ColorRange = "full",
    speed: str = "medium",
) -> None:
    """Write gray frames as a film.

    With the defaults the file gives every byte back. A larger ``crf`` makes smaller files and
    errors of many HU: :func:`~ct_vlm.transforms.film_error` tells how many.

    Args:
        frames: Gray frames, e.g. of :func:`~ct_vlm.transforms.hu_to_frames`.
        path: The file, ``.mp4``; appears only when it is complete.
        fps: Frames a second (the paper's 18).
        codec: ``libx264`` (H.264, read everywhere), ``libx265``, ``libx264rgb`` or ``ffv1`` (both
            lossless archives that fewer programs play).
        crf: Constant rate factor of H.264 and H.265: 0 keeps every byte, 18 to 23 are common, None
            takes the codec's default. The paper does not say which it used.
        color_range: ``full``, or ``limited`` as tools write that were given RGB frames.
        speed: Preset of x264 and x265, ``ultrafast`` to ``veryslow``.

    **Shape:**
        - frames: ``(T, H, W)``, uint8.

    Raises:
        MissingDependencyError: If PyAV, or the codec in its FFmpeg, is not installed.
        ShapeError: If the frames are no uint8 ``(T, H, W)``.
        ConfigError: If a setting cannot be used.

    Example:
        >>> import tempfile, pathlib, numpy as np
        >>> from ct_vlm.transforms import read_mp4, write_mp4
        >>> frames = np.arange(4 * 32 * 32, dtype=np.uint8).reshape(4, 32, 32)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_mp4(frames, pathlib.Path(folder, "scan.mp4"))
        ...     np.array_equal(read_mp4(pathlib.Path(folder, "scan.mp4")), frames)
        True
    """
    av = _import_av()
    frames = np.asarray(frames)
    if frames.ndim != 3 or 0 in frames.shape or frames.dtype != np.uint8:
        cause = f"Expected frames as uint8 (T, H, W), but got {frames.dtype} {frames.shape}."
        raise ShapeError(cause, "Turn a volume (D, H, W) in HU into frames with `hu_to_frames`.")
    if color_range not in get_args(ColorRange) or not fps > 0 or (crf is not None and not 0 <= crf <= 51):
        cause = f"Cannot write a film with fps={fps}, crf={crf} and color_range={color_range!r}."
        raise ConfigError(cause, "Use a positive rate, a crf from 0 to 51, and 'full' or 'limited'.")
    options = _options(av, codec, crf, speed)
    target = Path(path)
    if target.suffix.lower() != ".mp4" or not target.parent.is_dir():
        cause = f"Cannot write a film to `{target}`."
        raise ConfigError(cause, "Name a file `*.mp4` in a folder that exists.")
    with atomic_path(target) as temporary:
        _encode(av, frames, temporary, Fraction(fps).limit_denominator(1001), (codec, options, color_range))


def read_mp4(path: str | Path) -> NDArray[np.uint8]:
    """Read a film as gray frames.

    Films of other tools work, too: luma of limited range is spread over 0 to 255, as decoders do that
    give RGB, and of RGB films the green channel is taken.

    Args:
        path: A film that FFmpeg can decode.

    **Shape:**
        - returns: ``(T, H, W)``, uint8.

    Raises:
        MissingDependencyError: If PyAV is not installed.
        VolumeReadError: If the file is no film, or has no frame.
    """
    av = _import_av()
    frames = []
    try:
        with av.open(str(path)) as container:
            stream = next(iter(container.streams.video), None)
            if stream is not None:
                stream.thread_type = "AUTO"
                frames = [_gray(frame) for frame in container.decode(stream)]
    except (av.error.FFmpegError, OSError) as error:
        cause = f"`{path}` cannot be read as a film: {error}."
        raise VolumeReadError(cause, "Check that the file exists and was copied whole.") from error
    if not frames:
        cause = f"`{path}` has no frame."
        raise VolumeReadError(cause, "Check that the file is a film.")
    return np.stack(frames)


def _import_av() -> Any:
    try:
        import av
    except ImportError as error:
        cause = "Films need PyAV, which is not installed."
        raise MissingDependencyError(
            cause, 'Install it with `pip install "ct_vlm[video]"`, or keep frames in memory.'
        ) from error
    return av


def _options(av: Any, codec: str, crf: int | None, speed: str) -> dict[str, str]:
    """Return the codec's options."""
    if codec not in get_args(Codec):
        cause = f"Expected `codec` to be one of {get_args(Codec)}, but got {codec!r}."
        raise ConfigError(cause, "Choose one of them.")
    if codec not in av.codecs_available:
        cause = f"PyAV's FFmpeg was built without the codec `{codec}`."
        raise MissingDependencyError(cause, "Install PyAV's binary wheel, or choose another codec, e.g. 'ffv1'.")
    if codec == "ffv1":
        if crf:
            cause = f"The codec `ffv1` is lossless and takes no crf, but got {crf}."
            raise ConfigError(cause, "Leave it at 0, or use 'libx264'.")
        return {}
    options = {"preset": speed} | ({} if crf is None else {"crf": str(crf)})
    if codec == "libx265":
        # x265 has errors at crf 0, and writes to stderr unless told not to
        options["x265-params"] = "log-level=none" + (":lossless=1" if crf == 0 else "")
    return options


def _encode(
    av: Any, frames: NDArray[np.uint8], path: Path, rate: Fraction, coding: tuple[str, dict[str, str], str]
) -> None:
    """Encode frame by frame."""
    codec, options, color_range = coding
    height, width = frames.shape[1:]
    pixels = _pixel_format(codec, height, width)
    tag = av.video.reformatter.ColorRange.JPEG if color_range == "full" else av.video.reformatter.ColorRange.MPEG
    try:
        with av.open(str(path), "w", format="mp4") as container:
            stream = container.add_stream(codec, rate=rate, options=options)
            stream.height, stream.width, stream.pix_fmt = height, width, pixels
            stream.codec_context.color_range = tag
            for index, frame in enumerate(frames):
                luma = frame if color_range == "full" or not pixels.startswith("yuv") else _to_limited(frame)
                picture = av.VideoFrame.from_ndarray(_planes(luma, pixels), format=pixels)
                picture.pts, picture.time_base, picture.color_range = index, 1 / rate, tag
                container.mux(stream.encode(picture))
            container.mux(stream.encode(None))
    except av.error.FFmpegError as error:
        cause = f"The codec `{codec}` cannot encode frames of {height} x {width} with {options}: {error}."
        raise ConfigError(cause, "Check `speed` and `crf`, or choose another codec.") from error


def _pixel_format(codec: str, height: int, width: int) -> str:
    """Return a format that holds gray frames of this size."""
    if codec == "ffv1":
        return "gray"
    if codec == "libx264rgb":
        return "rgb24"
    # colours of 4:2:0 are shared by two rows and columns
    return "yuv444p" if height % 2 or width % 2 else "yuv420p"


def _planes(luma: NDArray[np.uint8], pixels: str) -> NDArray[np.uint8]:
    """Return a gray frame in a format's layout, with neutral colours."""
    if pixels == "gray":
        return np.ascontiguousarray(luma)
    if pixels == "rgb24":
        return np.repeat(luma[..., None], 3, axis=-1)
    if pixels == "yuv444p":
        neutral = np.full_like(luma, 128)
        return np.stack([luma, neutral, neutral])
    return np.concatenate([luma, np.full((luma.shape[0] // 2, luma.shape[1]), 128, np.uint8)])


def _to_limited(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.rint(frame * np.float32(_LUMA_STEPS / 255) + _LUMA_LOW).astype(np.uint8)


def _gray(frame: Any) -> NDArray[np.uint8]:
    """Return one decoded frame as bytes of gray."""
    pixels = frame.format.name
    bits = {component.bits for component in frame.format.components}
    if not pixels.startswith(_LUMA_FIRST) or bits != {8} or not frame.format.is_planar:
        return np.ascontiguousarray(frame.to_ndarray(format="rgb24")[..., 1])
    plane = frame.planes[0]
    luma = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width]
    if pixels.startswith(("yuvj", "gray")) or frame.color_range == _FULL:
        return luma.copy()
    spread = (luma.astype(np.float32) - _LUMA_LOW) * np.float32(255 / _LUMA_STEPS)
    return np.rint(spread).clip(0, 255).astype(np.uint8)
