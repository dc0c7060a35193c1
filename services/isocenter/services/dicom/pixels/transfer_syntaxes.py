"""Table of transfer syntaxes as pixel codecs (PS3.5 8.2, Annex A).

Whether a syntax can be decoded or encoded here has four answers (`Support`): nothing else in
Isocenter decides that, so that lists, statements and errors agree.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from functools import cache
from importlib.util import find_spec
from typing import Final

from isocenter.engine.fast_init import dataclass
from isocenter.engine.uid import (
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
)
from isocenter.services.dicom.pixels.errors import CodecUnavailableError

ENCAPSULATED_UNCOMPRESSED: Final = "1.2.840.10008.1.2.1.98"
JPEG_BASELINE: Final = "1.2.840.10008.1.2.4.50"
JPEG_EXTENDED: Final = "1.2.840.10008.1.2.4.51"
JPEG_LOSSLESS: Final = "1.2.840.10008.1.2.4.57"
JPEG_LOSSLESS_SV1: Final = "1.2.840.10008.1.2.4.70"
JPEG_LS_LOSSLESS: Final = "1.2.840.10008.1.2.4.80"
JPEG_LS_NEAR_LOSSLESS: Final = "1.2.840.10008.1.2.4.81"
JPEG_2000_LOSSLESS: Final = "1.2.840.10008.1.2.4.90"
JPEG_2000: Final = "1.2.840.10008.1.2.4.91"
JPEG_XL_LOSSLESS: Final = "1.2.840.10008.1.2.4.110"
JPEG_XL_RECOMPRESSION: Final = "1.2.840.10008.1.2.4.111"
JPEG_XL: Final = "1.2.840.10008.1.2.4.112"
HTJ2K_LOSSLESS: Final = "1.2.840.10008.1.2.4.201"
HTJ2K_LOSSLESS_RPCL: Final = "1.2.840.10008.1.2.4.202"
HTJ2K: Final = "1.2.840.10008.1.2.4.203"
RLE_LOSSLESS: Final = "1.2.840.10008.1.2.5"
DEFLATED_FRAMES: Final = "1.2.840.10008.1.2.8.1"

#: What installs what the codecs need.
INSTALL: Final = "python3 -m pip install 'isocenter[codecs]'"
#: What installs what shows single frames of video.
INSTALL_VIDEO: Final = "python3 -m pip install 'isocenter[codecs,video]'"


class Support(Enum):
    """Whether pixels of a transfer syntax can be decoded, or encoded, here."""

    UNKNOWN = "unknown"
    PASSED_THROUGH = "known, kept and sent as it is"
    NOT_INSTALLED = "known, not installed"
    AVAILABLE = "available"


class Codec(Enum):
    """What compresses a frame."""

    NONE = "none"
    JPEG = "JPEG"
    JPEG_LS = "JPEG-LS"
    JPEG_2000 = "JPEG 2000"
    HTJ2K = "HTJ2K"
    JPEG_XL = "JPEG XL"
    RLE = "RLE"
    DEFLATE = "deflate"


#: Codec → modules that have to be installed.
_MODULES: Final = {
    Codec.NONE: ("numpy",),
    Codec.DEFLATE: ("numpy",),
    Codec.RLE: ("numpy", "rle"),
}
_IMAGE_CODECS: Final = ("numpy", "imagecodecs")
_VIDEO_MODULES: Final = (*_IMAGE_CODECS, "av")


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferSyntax:
    """One transfer syntax.

    Attributes:
        keyword: its short name on the command line and in settings.
        codec: None: nothing here decodes it.
        is_encapsulated: Pixel Data is a sequence of fragments (PS3.5 A.4).
        is_lossy: pixels that were encoded differ from the original, or may.
        is_encoded: whether we write it.
        is_video: all frames are one stream (PS3.5 8.2.5 and following).
    """

    uid: str
    name: str
    keyword: str
    codec: Codec | None = None
    is_encapsulated: bool = True
    is_lossy: bool = False
    is_encoded: bool = True
    is_video: bool = False

    def _support(self, is_wanted: bool) -> Support:
        if self.codec is None or not is_wanted:
            return Support.PASSED_THROUGH
        return _if_installed(_MODULES.get(self.codec, _IMAGE_CODECS))

    @property
    def decoding(self) -> Support:
        return self._support(True)

    @property
    def encoding(self) -> Support:
        return self._support(self.is_encoded)

    @property
    def viewing(self) -> Support:
        """Whether single frames can be shown: also those of video, which is never transcoded."""
        return _if_installed(_VIDEO_MODULES) if self.is_video else self.decoding


def _if_installed(modules: Iterable[str]) -> Support:
    is_there = all(_is_installed(name) for name in modules)
    return Support.AVAILABLE if is_there else Support.NOT_INSTALLED


@cache
def _is_installed(module: str) -> bool:
    return find_spec(module) is not None


def _native(uid: str, name: str, keyword: str) -> TransferSyntax:
    return TransferSyntax(
        uid=uid, name=name, keyword=keyword, codec=Codec.NONE, is_encapsulated=False
    )


def _syntax(
    uid: str,
    name: str,
    keyword: str,
    codec: Codec | None,
    lossy: bool = False,
    *,
    out: bool = True,
    video: bool = False,
) -> TransferSyntax:
    return TransferSyntax(
        uid=uid,
        name=name,
        keyword=keyword,
        codec=codec,
        is_lossy=lossy,
        is_encoded=out and codec is not None,
        is_video=video,
    )


_ROOT: Final = "1.2.840.10008.1.2.4."
#: Video (PS3.5 A.4.5 to A.4.10, 8.2.5 to 8.2.8): one stream for all frames.
_VIDEO: Final = {
    "100": "MPEG2 Main Profile / Main Level",
    "100.1": "Fragmentable MPEG2 Main Profile / Main Level",
    "101": "MPEG2 Main Profile / High Level",
    "101.1": "Fragmentable MPEG2 Main Profile / High Level",
    "102": "MPEG-4 AVC/H.264 High Profile / Level 4.1",
    "102.1": "Fragmentable MPEG-4 AVC/H.264 High Profile / Level 4.1",
    "103": "MPEG-4 AVC/H.264 BD-compatible High Profile / Level 4.1",
    "103.1": "Fragmentable MPEG-4 AVC/H.264 BD-compatible High Profile / Level 4.1",
    "104": "MPEG-4 AVC/H.264 High Profile / Level 4.2 For 2D Video",
    "104.1": "Fragmentable MPEG-4 AVC/H.264 High Profile / Level 4.2 For 2D Video",
    "105": "MPEG-4 AVC/H.264 High Profile / Level 4.2 For 3D Video",
    "105.1": "Fragmentable MPEG-4 AVC/H.264 High Profile / Level 4.2 For 3D Video",
    "106": "MPEG-4 AVC/H.264 Stereo High Profile / Level 4.2",
    "106.1": "Fragmentable MPEG-4 AVC/H.264 Stereo High Profile / Level 4.2",
    "107": "HEVC/H.265 Main Profile / Level 5.1",
    "108": "HEVC/H.265 Main 10 Profile / Level 5.1",
}
#: Retired processes of JPEG (PS3.5-2004 A.4.1) that its decoder takes as well.
_RETIRED_JPEG: Final = {
    "52": "JPEG Extended (Process 3 and 5)",
    "53": "JPEG Spectral Selection, Non-Hierarchical (Process 6 and 8)",
    "54": "JPEG Spectral Selection, Non-Hierarchical (Process 7 and 9)",
    "55": "JPEG Full Progression, Non-Hierarchical (Process 10 and 12)",
    "56": "JPEG Full Progression, Non-Hierarchical (Process 11 and 13)",
}

_ALL: Final = (
    _native(IMPLICIT_VR_LITTLE_ENDIAN, "Implicit VR Little Endian", "implicit"),
    _native(EXPLICIT_VR_LITTLE_ENDIAN, "Explicit VR Little Endian", "explicit"),
    _native(DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN, "Deflated Explicit VR Little Endian", "deflated"),
    _native(EXPLICIT_VR_BIG_ENDIAN, "Explicit VR Big Endian", "explicit-be"),
    _syntax(
        ENCAPSULATED_UNCOMPRESSED,
        "Encapsulated Uncompressed Explicit VR Little Endian",
        "encapsulated",
        Codec.NONE,
    ),
    _syntax(RLE_LOSSLESS, "RLE Lossless", "rle", Codec.RLE),
    _syntax(JPEG_BASELINE, "JPEG Baseline (Process 1)", "jpeg-baseline", Codec.JPEG, True),
    _syntax(
        JPEG_EXTENDED, "JPEG Extended (Process 2 and 4)", "jpeg-extended", Codec.JPEG, True,
        out=False,
    ),
    _syntax(
        JPEG_LOSSLESS, "JPEG Lossless, Non-Hierarchical (Process 14)", "jpeg-lossless-p14",
        Codec.JPEG, out=False,
    ),
    _syntax(
        JPEG_LOSSLESS_SV1,
        "JPEG Lossless, Non-Hierarchical, First-Order Prediction (Process 14 [Selection Value 1])",
        "jpeg-lossless",
        Codec.JPEG,
    ),
    _syntax(JPEG_LS_LOSSLESS, "JPEG-LS Lossless Image Compression", "jpeg-ls", Codec.JPEG_LS),
    _syntax(
        JPEG_LS_NEAR_LOSSLESS,
        "JPEG-LS Lossy (Near-Lossless) Image Compression",
        "jpeg-ls-near",
        Codec.JPEG_LS,
        True,
    ),
    _syntax(
        JPEG_2000_LOSSLESS,
        "JPEG 2000 Image Compression (Lossless Only)",
        "jpeg2000",
        Codec.JPEG_2000,
    ),
    _syntax(JPEG_2000, "JPEG 2000 Image Compression", "jpeg2000-lossy", Codec.JPEG_2000, True),
    _syntax(
        HTJ2K_LOSSLESS,
        "High-Throughput JPEG 2000 Image Compression (Lossless Only)",
        "htj2k",
        Codec.HTJ2K,
    ),
    _syntax(
        HTJ2K_LOSSLESS_RPCL,
        "High-Throughput JPEG 2000 with RPCL Options Image Compression (Lossless Only)",
        "htj2k-rpcl",
        Codec.HTJ2K,
    ),
    _syntax(
        HTJ2K, "High-Throughput JPEG 2000 Image Compression", "htj2k-lossy", Codec.HTJ2K, True
    ),
    _syntax(JPEG_XL_LOSSLESS, "JPEG XL Lossless", "jpegxl", Codec.JPEG_XL),
    _syntax(
        JPEG_XL_RECOMPRESSION, "JPEG XL JPEG Recompression", "jpegxl-jpeg", Codec.JPEG_XL, True
    ),
    _syntax(JPEG_XL, "JPEG XL", "jpegxl-lossy", Codec.JPEG_XL, True),
    _syntax(
        DEFLATED_FRAMES, "Deflated Image Frame Compression", "frame-deflate", Codec.DEFLATE
    ),
    *(
        _syntax(_ROOT + end, name, f"jpeg-{end}", Codec.JPEG, True, out=False)
        for end, name in _RETIRED_JPEG.items()
    ),
    _syntax(
        _ROOT + "92",
        "JPEG 2000 Part 2 Multi-component Image Compression (Lossless Only)",
        "jpeg2000-part2",
        None,
    ),
    _syntax(
        _ROOT + "93",
        "JPEG 2000 Part 2 Multi-component Image Compression",
        "jpeg2000-part2-lossy",
        None,
        True,
    ),
    *(
        _syntax(_ROOT + end, name, f"video-{end}", None, True, video=True)
        for end, name in _VIDEO.items()
    ),
)  # fmt: skip

#: Transfer syntax UID → what is known of it.
PIXEL_SYNTAXES: Final = {each.uid: each for each in _ALL}
#: Keyword → the same.
BY_KEYWORD: Final = {each.keyword: each for each in _ALL}

#: Keywords of those in which objects may be kept instead of their own: what was encoded comes back
#: bit by bit, and takes less room.
LOSSLESS_TARGETS: Final = tuple(
    each.keyword
    for each in _ALL
    if each.is_encapsulated
    and each.is_encoded
    and not each.is_lossy
    and each.codec not in (None, Codec.NONE)
)


def decoding_of(transfer_syntax_uid: str) -> Support:
    """Whether pixels of this syntax can be decoded here."""
    known = PIXEL_SYNTAXES.get(transfer_syntax_uid)
    return Support.UNKNOWN if known is None else known.decoding


def encoding_of(transfer_syntax_uid: str) -> Support:
    """Whether pixels can be encoded in this syntax here."""
    known = PIXEL_SYNTAXES.get(transfer_syntax_uid)
    return Support.UNKNOWN if known is None else known.encoding


def decodable(transfer_syntax_uid: str) -> TransferSyntax:
    """The syntax of pixels that are to be decoded.

    Raises:
        CodecUnavailableError: nothing here decodes it.
    """
    return _available(transfer_syntax_uid, decoding_of(transfer_syntax_uid), "decode")


def encodable(transfer_syntax_uid: str) -> TransferSyntax:
    """The syntax in which pixels are to be encoded.

    Raises:
        CodecUnavailableError: nothing here encodes it.
    """
    return _available(transfer_syntax_uid, encoding_of(transfer_syntax_uid), "encode")


def viewing_of(transfer_syntax_uid: str) -> Support:
    """Whether frames of this syntax can be shown here."""
    known = PIXEL_SYNTAXES.get(transfer_syntax_uid)
    return Support.UNKNOWN if known is None else known.viewing


def viewable(transfer_syntax_uid: str) -> TransferSyntax:
    """The syntax of frames that are to be shown.

    Raises:
        CodecUnavailableError: nothing here decodes it.
    """
    return _available(transfer_syntax_uid, viewing_of(transfer_syntax_uid), "show frames of")


def _available(uid: str, support: Support, what: str) -> TransferSyntax:
    if support is Support.AVAILABLE:
        return PIXEL_SYNTAXES[uid]
    if support is Support.UNKNOWN:
        message = f"the transfer syntax {uid[:64]!r} is unknown: it can be kept and sent as it is"
    elif support is Support.PASSED_THROUGH:
        message = f"nothing here can {what} {PIXEL_SYNTAXES[uid].name}"
    else:
        syntax = PIXEL_SYNTAXES[uid]
        install = INSTALL_VIDEO if syntax.is_video else INSTALL
        message = f"to {what} {syntax.name}, install the codecs: {install}"
    raise CodecUnavailableError(message, uid)
