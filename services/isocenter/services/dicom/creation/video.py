"""Video files that can be encapsulated (PS3.5 8.2.5 to 8.2.8): MP4 and MPEG-2."""

from __future__ import annotations

import struct
from typing import IO, Final

from isocenter.engine.fast_init import dataclass
from isocenter.services.dicom.creation.errors import SourceError

_SYNTAXES: Final = "1.2.840.10008.1.2.4."
MPEG2_MAIN: Final = f"{_SYNTAXES}100"
MPEG2_HIGH: Final = f"{_SYNTAXES}101"
#: What of a file is looked at for its boxes.
_MOST_BOXES: Final = 100_000
_CONTAINERS: Final = frozenset((b"moov", b"trak", b"mdia", b"minf", b"stbl"))
_PICTURE: Final = b"\0\0\1\0"
_PIECE: Final = 1 << 18
_MAX_BOX: Final = 64 << 20
#: Frame rates of MPEG-2 by their code, in frames per second.
_MPEG2_RATES: Final = (0, 24000 / 1001, 24, 25, 30000 / 1001, 30, 50, 60000 / 1001, 60)


@dataclass(frozen=True, slots=True, kw_only=True)
class Video:
    """A video stream.

    Attributes:
        frame_time: milliseconds.
    """

    transfer_syntax_uid: str
    rows: int
    columns: int
    frames: int
    frame_time: float
    lossy_method: str


def is_video(head: bytes) -> bool:
    """Whether a file is one."""
    return head[4:8] == b"ftyp" or head.startswith((b"\0\0\1\xb3", b"\0\0\1\xba"))


def read_video(file: IO[bytes], size: int) -> Video:
    """What a video file says of itself.

    Raises:
        SourceError: it is damaged, or no transfer syntax has its kind.
    """
    file.seek(0)
    head = file.read(1 << 16)
    try:
        if head[4:8] == b"ftyp":
            return _mp4(file, size)
        return _mpeg2(head, _pictures(file))
    except (struct.error, IndexError, KeyError) as error:
        raise SourceError("is a damaged video file") from error


class _Track:
    def __init__(self) -> None:
        self.boxes: dict[bytes, bytes] = {}


def _mp4(file: IO[bytes], size: int) -> Video:
    tracks: list[_Track] = []
    todo = [(0, size)]
    for _ in range(_MOST_BOXES):
        if not todo:
            break
        at, end = todo.pop()
        if end - at < 8:
            continue
        file.seek(at)
        length, kind = struct.unpack(">I4s", file.read(8))
        content = at + 8
        if length == 1:
            (length,) = struct.unpack(">Q", file.read(8))
            content += 8
        after = end if length == 0 else at + length
        if after < content or after > end:
            raise SourceError("is a damaged MP4 file: a box is longer than what holds it")
        todo.append((after, end))
        if kind == b"trak":
            tracks.append(_Track())
        if kind in _CONTAINERS:
            todo.append((content, after))
        elif kind in (b"tkhd", b"mdhd", b"stsd", b"stts", b"hdlr") and tracks:
            if after - content > _MAX_BOX:
                raise SourceError("is an MP4 file with a table that is too long")
            file.seek(content)
            tracks[-1].boxes[kind] = file.read(after - content)
    for track in tracks:
        if track.boxes.get(b"hdlr", b"")[8:12] == b"vide":
            return _video_of(track.boxes)
    raise SourceError("is an MP4 file without video, or with its index missing")


def _video_of(boxes: dict[bytes, bytes]) -> Video:
    header, times, entry = boxes[b"mdhd"], boxes[b"stts"], boxes[b"stsd"]
    is_long = header[0] == 1
    (timescale,) = struct.unpack_from(">I", header, 20 if is_long else 12)
    (count,) = struct.unpack_from(">I", times, 4)
    pairs = list(struct.iter_unpack(">II", times[8 : 8 + 8 * count]))
    frames = sum(number for number, _ in pairs)
    ticks = sum(number * delta for number, delta in pairs)
    if not frames or not ticks or not timescale:
        raise SourceError("is an MP4 file without frames; fragmented ones are not taken")
    kind = entry[12:16]
    columns, rows = struct.unpack_from(">HH", entry, 40)
    syntax, method = _syntax_of(kind, entry[16:], rows, columns)
    return Video(
        transfer_syntax_uid=syntax,
        rows=rows,
        columns=columns,
        frames=frames,
        frame_time=1000 * ticks / timescale / frames,
        lossy_method=method,
    )


def _syntax_of(kind: bytes, entry: bytes, rows: int, columns: int) -> tuple[str, str]:
    if kind in (b"avc1", b"avc3"):
        at = entry.find(b"avcC")
        profile, level = entry[at + 5], entry[at + 7]
        if at < 0 or profile > 100:
            raise SourceError("is H.264 of a profile above High, which no transfer syntax has")
        if level <= 41:
            is_blu_ray = (columns, rows) in ((1920, 1080), (1280, 720))
            return f"{_SYNTAXES}{103 if is_blu_ray and level == 41 else 102}", "ISO_14496_10"
        if level == 42:
            return f"{_SYNTAXES}104", "ISO_14496_10"
        raise SourceError(f"is H.264 of level {level / 10}; transfer syntaxes end at 4.2")
    if kind in (b"hvc1", b"hev1"):
        at = entry.find(b"hvcC")
        profile = entry[at + 5] & 0x1F
        if at < 0 or profile not in (1, 2):
            raise SourceError("is HEVC of a profile that no transfer syntax has")
        return f"{_SYNTAXES}{107 if profile == 1 else 108}", "ISO_23008_2"
    name = kind.decode("ascii", "replace")
    raise SourceError(f"is video of kind {name!r}; H.264, HEVC and MPEG-2 have a transfer syntax")


def _pictures(file: IO[bytes]) -> int:
    """How many pictures an MPEG stream has, by their start codes."""
    file.seek(0)
    count, rest = 0, b""
    while piece := file.read(_PIECE):
        data = rest + piece
        count += data.count(_PICTURE)
        rest = data[-len(_PICTURE) + 1 :]
    return max(count, 1)


def _mpeg2(head: bytes, frames: int) -> Video:
    at = head.find(b"\0\0\1\xb3")
    if at < 0:
        raise SourceError("is MPEG without a sequence header at its beginning")
    (sizes,) = struct.unpack_from(">I", head, at + 4)
    columns, rows, rate = sizes >> 20, sizes >> 8 & 0xFFF, sizes & 0xF
    if not 1 <= rate < len(_MPEG2_RATES):
        raise SourceError("is MPEG with a frame rate that MPEG-2 does not have")
    return Video(
        transfer_syntax_uid=MPEG2_MAIN if columns <= 720 and rows <= 576 else MPEG2_HIGH,
        rows=rows,
        columns=columns,
        frames=frames,
        frame_time=1000 / _MPEG2_RATES[rate],
        lossy_method="ISO_13818_2",
    )
