"""Extraction of what a DICOM file holds: frames, documents, waveforms."""

from __future__ import annotations

import csv
import io
import os
import sys
from collections.abc import Awaitable, Callable, Iterable, Iterator
from enum import Enum
from pathlib import Path
from typing import Any, Final

from isocenter.engine.fast_init import dataclass
from isocenter.services.cli.files.codec_tasks import CodecTasks
from isocenter.services.cli.files.dicom_input import dicom_input
from isocenter.services.cli.files.file_tool import (
    PIECE,
    STANDARD,
    FileToolError,
    InputFile,
    OtherFileKindError,
    Plan,
    output_file,
)
from isocenter.services.cli.files.mapped_image import MappedImage
from isocenter.services.cli.support.options import UsageError
from isocenter.services.cli.support.terminal import Terminal
from isocenter.services.cli.support.terminal_picture import (
    PictureProtocol,
    has_truecolor,
    protocol_of,
    show_blocks,
    show_png,
)
from isocenter.services.dicom.data_set import Attribute, DataSet
from isocenter.services.dicom.data_set_file import DataSetFile
from isocenter.services.dicom.encapsulated_document import document_of
from isocenter.services.dicom.pixels.errors import CodecUnavailableError
from isocenter.services.dicom.pixels.frames import Image, NoPixelDataError, open_image
from isocenter.services.dicom.pixels.rendering.options import RenderOptions, Viewport
from isocenter.services.dicom.pixels.rendering.renderer import open_renderer
from isocenter.services.dicom.pixels.transfer_syntaxes import PIXEL_SYNTAXES, Codec
from isocenter.services.dicom.uid_registry import name_of
from isocenter.services.dicom.waveforms import MultiplexGroup, waveforms_of

#: Columns of a picture of blocks, each a pixel wide; a line is two pixels high.
_SHOWN_BLOCKS: Final = 80
_SHOWN_PIXELS: Final = 384
#: Rows of a table that are written at once.
_ROWS: Final = 4_096
_PNG: Final = "image/png"
#: Transfer syntaxes whose Pixel Data is one stream of video begin so.
_VIDEO: Final = "1.2.840.10008.1.2.4.10"


class Form(Enum):
    """What becomes of a frame."""

    RAW = ".raw"
    CODESTREAM = ".bin"
    PNG = ".png"
    JPEG = ".jpg"
    PPM = ".ppm"


#: How the names of codestreams end.
_SUFFIXES: Final = {
    Codec.NONE: ".raw",
    Codec.JPEG: ".jpg",
    Codec.JPEG_LS: ".jls",
    Codec.JPEG_2000: ".j2k",
    Codec.HTJ2K: ".j2c",
    Codec.JPEG_XL: ".jxl",
    Codec.RLE: ".rle",
    Codec.DEFLATE: ".deflate",
}


@dataclass(frozen=True, slots=True)
class FrameChoice:
    """Which frames, and what becomes of them.

    Attributes:
        frame: from 0 on; None: all.
        options: of pictures.
    """

    form: Form
    frame: int | None
    options: RenderOptions


@dataclass(frozen=True, slots=True)
class Extraction:
    """Takes out of files what is in them.

    Attributes:
        show: how a picture is shown on the terminal; None: none is.
        is_info: say what there is, and write nothing.
    """

    tasks: CodecTasks
    terminal: Terminal
    made: Plan
    choice: FrameChoice
    overwrites: bool
    show: str | None
    is_info: bool

    def extract(self, file: InputFile) -> None:
        """Take out of one file what is in it.

        Raises:
            FileToolError, PixelError, DataSetError, OSError: it cannot be.
        """
        with dicom_input(file, self.terminal) as opened:
            data_set = DataSet(opened)
            if self.is_info:
                for line in self._info(opened, data_set):
                    print(f"{file.path}: {line}" if self.made.many else line)
            elif self.show is not None:
                self._show(opened)
            else:
                self._write(file, opened, data_set)

    def _write(self, file: InputFile, opened: DataSetFile, data_set: DataSet) -> None:
        document = document_of(data_set)
        if document is not None:
            self._write_file(file, document.suffix, document.pieces())
            return
        groups = waveforms_of(data_set)
        if groups:
            self._write_waveforms(file, groups)
            return
        pixels = data_set.attribute("PixelData")
        is_stream = self.choice.form in (Form.RAW, Form.CODESTREAM)
        if pixels is not None and is_stream and _is_video(opened):
            self._write_video(file, opened, pixels)
            return
        self._in_image(opened, lambda image: self._write_frames(file, opened, image))

    def _write_waveforms(self, file: InputFile, groups: list[MultiplexGroup]) -> None:
        wanted = self.choice.frame
        if wanted is not None and wanted >= len(groups):
            raise FileToolError(
                f"has {len(groups)} waveforms, numbered from 0 on; none is {wanted}"
            )
        chosen = range(len(groups)) if wanted is None else [wanted]
        if len(chosen) > 1 and self.made.target == STANDARD:
            raise FileToolError(
                f"has {len(groups)} waveforms; choose one with --frame, or write to a folder"
            )
        for number in chosen:
            suffix = ".csv" if len(groups) == 1 else f".{number}.csv"
            self._write_file(file, suffix, _table(groups[number]))

    # -- Frames ----------------------------------------------------------------------------

    def _in_image(self, opened: DataSetFile, work: Callable[[Image], Awaitable[None]]) -> None:
        async def run() -> None:
            try:
                async with open_image(MappedImage(opened)) as image:
                    await work(image)
            except NoPixelDataError:
                raise OtherFileKindError(
                    "has neither pixels nor a document nor a waveform"
                ) from None

        self.tasks.run(run)

    async def _write_frames(self, file: InputFile, opened: DataSetFile, image: Image) -> None:
        wanted = self.choice.frame
        if wanted is not None and wanted >= len(image):
            raise FileToolError(
                f"has {len(image)} frames, numbered from 0 on; there is no {wanted}"
            )
        numbers = range(len(image)) if wanted is None else [wanted]
        if (
            len(numbers) > 1
            and self.made.target == STANDARD
            and self.choice.form
            not in (
                Form.RAW,
                Form.PPM,
            )
        ):
            raise FileToolError(
                f"has {len(image)} frames; choose one with --frame, or write to a folder"
            )
        is_rendered = self.choice.form in (Form.PNG, Form.JPEG, Form.PPM)
        if not is_rendered:
            for number in numbers:
                data, suffix = await self._stored(image, number)
                self._write_file(file, self._name(suffix, number, image), [data])
            return
        async with open_renderer(MappedImage(opened), self.tasks.pool) as renderer:
            for number in numbers:
                picture = await renderer.render(number + 1, self.choice.options)
                data, suffix = picture.content, self.choice.form.value
                if self.choice.form is Form.PPM:
                    data, suffix = _netpbm(_pixels_of(picture.content))
                self._write_file(file, self._name(suffix, number, image), [data])

    @staticmethod
    def _name(suffix: str, number: int, image: Image) -> str:
        digits = len(str(len(image) - 1))
        return suffix if len(image) == 1 else f".{number:0{digits}d}{suffix}"

    async def _stored(self, image: Image, number: int) -> tuple[bytes, str]:
        if self.choice.form is Form.RAW:
            return (await image.decode(self.tasks.pool, number)).samples, Form.RAW.value
        known = PIXEL_SYNTAXES.get(image.transfer_syntax_uid)
        suffix = Form.CODESTREAM.value
        if known is not None and known.codec is not None:
            suffix = _SUFFIXES[known.codec]
        return await image.read(number), suffix

    def _write_video(self, file: InputFile, opened: DataSetFile, value: Attribute) -> None:
        """All fragments are one stream (PS3.5 8.2.8 and others), whatever the frames."""
        spans = list(value.fragments())[1:]  # behind the offset table
        if not spans:
            raise FileToolError("has no fragments, which video is made of")
        start, end = spans[0]
        head = bytes(opened.data[start : min(end, start + 16)])
        pieces = (
            bytes(opened.data[at : min(at + PIECE, end)])
            for start, end in spans
            for at in range(start, end, PIECE)
        )
        self._write_file(file, _video_suffix(head), pieces)

    # -- Files -----------------------------------------------------------------------------

    def _place(self, file: InputFile, suffix: str) -> str:
        """Where a result goes."""
        made = self.made
        if made.target == STANDARD:
            return STANDARD
        if made.target and not made.is_folder:
            path = Path(made.target)
            parts = suffix.split(".")
            # Of several results each has a number: NAME.3.png.
            place = (
                path
                if len(parts) == 2
                else path.with_name(f"{path.stem}.{parts[1]}{path.suffix or '.' + parts[2]}")
            )
        else:
            relative = "stdin" if file.path == STANDARD else file.relative
            stem, ending = os.path.splitext(relative)
            name = stem if ending.lower() in (".dcm", ".dicom", ".dic") else relative
            place = Path(made.target, name + suffix)
        if not self.overwrites and place.is_file():
            raise FileToolError(f"{place} is there already; --overwrite replaces it")
        return str(place)

    def _write_file(self, file: InputFile, suffix: str, pieces: Iterable[bytes]) -> None:
        place = self._place(file, suffix)
        with output_file(place) as target:
            for piece in pieces:
                target.write(piece)
        self._told(place)

    def _told(self, place: str) -> None:
        if place != STANDARD:
            self.terminal.detail(f"wrote {place}")

    # -- Looking ---------------------------------------------------------------------------

    def _info(self, opened: DataSetFile, data_set: DataSet) -> Iterator[str]:
        yield f"{name_of(data_set.text('SOPClassUID')) or 'no SOP class'}"
        document = document_of(data_set)
        if document is not None:
            yield f"document: {document.mime_type or 'of unknown type'}, {document.length} bytes"
        for group in waveforms_of(data_set):
            yield (
                f"waveform: {group.label}, {len(group.channels)} channels, "
                f"{group.samples} samples, {group.frequency:g} Hz"
            )
        if _is_video(opened):
            yield f"video: {name_of(opened.head.transfer_syntax_uid)}"
            return
        lines: list[str] = []

        async def look(image: Image) -> None:
            found = image.description
            known = PIXEL_SYNTAXES.get(image.transfer_syntax_uid)
            lines.append(
                f"image: {found.columns} x {found.rows}, {len(image)} frames, "
                f"{found.samples_per_pixel} samples of {found.bits_stored} bits in "
                f"{found.bits_allocated}, {'signed' if found.is_signed else 'unsigned'}, "
                f"{found.photometric_interpretation}"
            )
            decoding = known.decoding.value if known else "unknown"
            lines.append(f"pixels: {name_of(image.transfer_syntax_uid)}; decoding: {decoding}")

        try:
            self._in_image(opened, look)
        except OtherFileKindError:
            lines.append("no pixels")
        yield from lines

    def _show(self, opened: DataSetFile) -> None:
        assert self.show is not None
        protocol = protocol_of() if self.show == "auto" else PictureProtocol(self.show)
        if self.show == "auto" and not sys.stdout.isatty():
            raise UsageError("standard output is no terminal; --show=blocks writes anyhow")
        is_blocks = protocol is PictureProtocol.BLOCKS
        side = _SHOWN_BLOCKS if is_blocks else _SHOWN_PIXELS
        options = RenderOptions(
            media_type=_PNG,
            window=self.choice.options.window,
            is_automatic=self.choice.options.is_automatic,
            viewport=Viewport(side, side),
        )

        async def render() -> bytes:
            async with open_renderer(MappedImage(opened), self.tasks.pool) as renderer:
                middle = (len(renderer.image) - 1) // 2
                number = middle if self.choice.frame is None else self.choice.frame
                return (await renderer.render(number + 1, options)).content

        try:
            png = self.tasks.run(render)
        except NoPixelDataError:
            raise OtherFileKindError("has no pixels to show") from None
        if is_blocks:
            lines = show_blocks(_pixels_of(png), has_truecolor=has_truecolor())
        else:
            lines = show_png(png, protocol)
        for line in lines:
            sys.stdout.write(line)
        sys.stdout.flush()


def _is_video(opened: DataSetFile) -> bool:
    return opened.head.transfer_syntax_uid.startswith(_VIDEO)


def _video_suffix(head: bytes) -> str:
    if head[4:8] == b"ftyp":
        return ".mp4"
    return ".ts" if head[:1] == b"\x47" else ".mpg"


def _pixels_of(png: bytes) -> Any:
    """The pixels of a picture that we made."""
    try:
        from imagecodecs import png_decode
    except ImportError:
        raise CodecUnavailableError(
            "pictures need imagecodecs: pip install isocenter[codecs]", ""
        ) from None
    return png_decode(png)


def _netpbm(pixels: Any) -> tuple[bytes, str]:
    """A PGM or PPM file (one byte a sample), and how its name ends."""
    rows, columns = pixels.shape[:2]
    is_gray = pixels.ndim == 2
    head = f"P{5 if is_gray else 6}\n{columns} {rows}\n255\n".encode("ascii")
    return head + pixels.tobytes(), ".pgm" if is_gray else ".ppm"


def _table(group: MultiplexGroup) -> Iterator[bytes]:
    """A waveform as CSV: the time in seconds, where it is known, then a column for each channel."""
    text = io.StringIO()
    writer = csv.writer(text)
    titles = [channel.title for channel in group.channels]
    writer.writerow(["time (s)" if group.frequency else "sample", *titles])
    for number, values in enumerate(group.rows()):
        at = f"{number / group.frequency:.9g}" if group.frequency else str(number)
        writer.writerow([at, *(f"{value:.9g}" for value in values)])
        if number % _ROWS == 0:
            yield text.getvalue().encode("utf-8")
            text.seek(0)
            text.truncate()
    yield text.getvalue().encode("utf-8")
