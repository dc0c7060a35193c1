"""Settings of pixels: transcoding for peers, and compression by rule."""

from __future__ import annotations

from typing import Final, Literal

from isocenter.engine.fast_init import dataclass
from isocenter.services.dicom.pixels.transcoder import DEFAULT_PREFERENCE
from isocenter.services.dicom.pixels.transfer_syntaxes import BY_KEYWORD, PIXEL_SYNTAXES
from isocenter.services.settings import value_types as kinds
from isocenter.services.settings.field import MIB, seconds, setting

_DEFAULT: Final = tuple(PIXEL_SYNTAXES[uid].keyword for uid in DEFAULT_PREFERENCE)
_TARGETS: Final = tuple(
    keyword
    for keyword, syntax in BY_KEYWORD.items()
    if syntax.codec is not None and syntax.is_encoded
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TranscodingSettings:
    """Objects in another transfer syntax, for peers that do not take the stored one.

    It needs the extra `codecs`; without it objects leave in the syntax that they came in, or
    converted among the uncompressed ones.
    """

    enabled: bool = setting(True, kinds.Boolean(), "transcode where it is needed")
    preference: tuple[str, ...] = setting(
        _DEFAULT,
        kinds.ListOf(kinds.one_of(*_TARGETS)),
        "what such peers are given, best first; what is not here is not used",
    )
    lossy: bool = setting(
        False,
        kinds.Boolean(),
        "also encodings that lose something, if nothing else fits: such an object is another one, "
        "with a SOP Instance UID of its own",
    )
    quality: int = setting(90, kinds.Integer(1, 100), "of JPEG Baseline")
    signatures: Literal["remove", "refuse"] = setting(
        "remove",
        kinds.one_of("remove", "refuse"),
        "digital signatures of an object, which do not fit other pixel data: leave them out, or "
        "do not transcode it",
    )
    workers: int = setting(
        2, kinds.Integer(1, 256), "processes that decode and encode, per worker of the server"
    )
    frame_seconds: float = seconds(30.0, "one frame may take; then its process is ended")
    memory_bytes: int = setting(
        3 << 30,
        kinds.Integer(512 * MIB, 1 << 40, "bytes"),
        "the address space of each such process (Linux)",
    )
    max_frame_bytes: int = setting(
        512 * MIB, kinds.Integer(1 << 16, 1 << 32, "bytes"), "the longest frame that is decoded"
    )
    cache_bytes: int = setting(
        256 * MIB,
        kinds.Integer(1 << 16, 1 << 40, "bytes"),
        "what results may take that are kept or on their way, per worker of the server; an object "
        "that needs more than a quarter is made while it is sent",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class CompressionSettings:
    """Compression by rule (``[[rules]]`` with ``compress``): how objects are kept.

    One process of a server does it, one object after the other, when there is nothing better to do.
    It needs the extra `codecs`, and takes the limits of frames from `[transcoding]`.
    """

    workers: int = setting(
        1,
        kinds.Integer(1, 64),
        "processes that decode and encode for it, at the lowest priority of the system",
    )
    bytes_per_second: int = setting(
        20 * MIB,
        kinds.Integer(1 << 16, 1 << 40, "bytes", zero="as fast as it goes"),
        "how much of what was received is compressed in a second",
    )
    first_retry: float = seconds(
        60.0, "interval before the second attempt; each later one is twice as long"
    )
    longest_retry: float = seconds(21_600.0, "longest interval between two attempts")
    give_up_after: float = setting(
        3 * 86_400.0,
        kinds.Seconds(365 * 86_400.0),
        "time until an object is given up, and stays as it came",
    )
