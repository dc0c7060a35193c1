"""Conversion of files: transfer syntax, lengths, character set, padding, with or without header."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import field
from tempfile import TemporaryFile
from typing import IO, Final, Literal

import trio

from isocenter.engine.dataset import DataSetError, encoding_of, write_file_meta
from isocenter.engine.dataset.errors import DataSetLimitError
from isocenter.engine.dataset.vr import EXPLICIT_BIG
from isocenter.engine.dataset.walker import Tolerance
from isocenter.engine.fast_init import dataclass
from isocenter.engine.uid import (
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLEMENTATION_CLASS_UID,
    IMPLEMENTATION_VERSION_NAME,
    is_safe_uid,
)
from isocenter.services.dicom.data_set_file import DataSetFile, mapped
from isocenter.services.dicom.data_set_tree import DataSetTree, write_tree
from isocenter.services.dicom.mapped_object import mapped_object
from isocenter.services.dicom.meta_edits import written_head
from isocenter.services.dicom.objects import DicomObject
from isocenter.services.dicom.pixels.comparison import find_difference
from isocenter.services.dicom.pixels.errors import ImageError
from isocenter.services.dicom.pixels.frames import open_image
from isocenter.services.dicom.pixels.pool import CodecPool
from isocenter.services.dicom.pixels.transcoding import (
    TranscodingOptions,
    is_lossless,
    transcode,
)
from isocenter.services.dicom.pixels.transfer_syntaxes import PIXEL_SYNTAXES
from isocenter.services.dicom.signatures.mac_stream import (
    DIGITAL_SIGNATURES_SEQUENCE,
    has_signatures,
)
from isocenter.services.dicom.utf8 import to_utf8

_SOP_CLASS_UID: Final = 0x00080016
_SOP_INSTANCE_UID: Final = 0x00080018
_PIXELS: Final = (0x7FE00008, 0x7FE00009, 0x7FE00010)
_META_CLASS: Final = 0x00020002
_META_INSTANCE: Final = 0x00020003
_META_SYNTAX: Final = 0x00020010
_META_IMPLEMENTATION: Final = 0x00020012
_META_VERSION_NAME: Final = 0x00020013
_META_SOURCE: Final = 0x00020016


@dataclass(frozen=True, slots=True, kw_only=True)
class ConversionOptions:
    """What is made of a file.

    Attributes:
        transfer_syntax_uid: empty: that of the file; of an uncompressed one explicit VR little
            endian, if *explicit*.
        lengths: of sequences and items; None: as they are, or defined where they are re-encoded.
        group_lengths: put in, or taken away; None: as they are, and right.
        padding: of the file to a multiple of so many bytes; 0: none; None: as it is.
        utf8: texts are converted to UTF-8.
        meta: the File Meta Information is new, has all that it had, or is left out.
        verify: what was made is read and compared with what it was made of.
        strict: damaged files are refused, not repaired.
    """

    transfer_syntax_uid: str = ""
    explicit: bool = True
    transcoding: TranscodingOptions = TranscodingOptions()
    lengths: Literal["defined", "undefined"] | None = None
    group_lengths: bool | None = None
    padding: int | None = None
    utf8: bool = False
    meta: Literal["new", "kept", "none"] = "new"
    verify: bool = False
    strict: bool = False


@dataclass(slots=True)
class Converted:
    """What was made.

    Attributes:
        notes: what is worth telling, without values.
    """

    transfer_syntax_uid: str
    notes: list[str] = field(default_factory=list)


async def convert(
    source: DataSetFile, target: IO[bytes], options: ConversionOptions, pool: CodecPool
) -> Converted:
    """Write *source* to *target*, as *options* has it.

    What was forgiven is added to `DataSetFile.forgiven`.

    Raises:
        PixelError: its pixels cannot be had in that transfer syntax.
        DataSetError: it cannot be read, or makes no file.
        OSError: it cannot be written.
    """
    made = Converted(_wanted_syntax(source, options))
    tree = await trio.to_thread.run_sync(_read, source, options, made)
    with _prepared(source, tree) as data:
        work = _Work(source, data, tree, options, pool, made)
        await work.write(target)
    return made


def _wanted_syntax(source: DataSetFile, options: ConversionOptions) -> str:
    own = source.head.transfer_syntax_uid
    if options.transfer_syntax_uid:
        return options.transfer_syntax_uid
    known = PIXEL_SYNTAXES.get(own)
    is_native = known is not None and not known.is_encapsulated
    return EXPLICIT_VR_LITTLE_ENDIAN if is_native and options.explicit else own


def _read(source: DataSetFile, options: ConversionOptions, made: Converted) -> DataSetTree:
    """The data set, repaired and in UTF-8 where that is wanted."""
    forgiven: dict[str, int] = {}
    tolerance = Tolerance.STRICT if options.strict else Tolerance.USUAL
    try:
        tree = DataSetTree(source.data, source.encoding, tolerance=tolerance, forgiven=forgiven)
    except DataSetError as error:
        if options.strict or isinstance(error, DataSetLimitError):
            raise
        forgiven = {}
        tree = DataSetTree(
            source.data, source.encoding, tolerance=Tolerance.SALVAGE, forgiven=forgiven
        )
        tree.repair()
        made.notes.append("damaged: what can be read of it was written")
    source.forgiven |= forgiven
    if options.utf8:
        unknown = to_utf8(tree)
        if unknown:
            made.notes.append(f"{unknown} texts have bytes that their character set has not")
        if tree.root.is_changed and has_signatures(tree):
            made.notes.append("its digital signatures do not fit any more")
    return tree


@contextmanager
def _prepared(source: DataSetFile, tree: DataSetTree) -> Iterator[memoryview]:
    """The data set, as it is before it is converted."""
    if not tree.root.is_changed:
        yield source.data
        return
    with TemporaryFile() as file:
        tree.mend_group_lengths()
        file.writelines(tree.pieces())
        file.flush()
        with mapped(file, 0) as data:
            yield data


class _Work:
    def __init__(
        self,
        source: DataSetFile,
        data: memoryview,
        tree: DataSetTree,
        options: ConversionOptions,
        pool: CodecPool,
        made: Converted,
    ) -> None:
        self._source = source
        self._data = data
        self._options = options
        self._pool = pool
        self._made = made
        meta = source.head.meta
        self._sop_class = _uid(tree, _SOP_CLASS_UID) or (
            meta.media_storage_sop_class_uid if meta else ""
        )
        self._sop_instance = _uid(tree, _SOP_INSTANCE_UID) or (
            meta.media_storage_sop_instance_uid if meta else ""
        )
        self._is_signed = bool(tree.root.all(DIGITAL_SIGNATURES_SEQUENCE))
        self._has_pixels = any(tree.root.all(tag) for tag in _PIXELS)
        #: Of *data*: what was deflated is not any more.
        self._from = (
            EXPLICIT_VR_LITTLE_ENDIAN if source.is_inflated else source.head.transfer_syntax_uid
        )

    async def write(self, target: IO[bytes]) -> None:
        made = self._made
        known = PIXEL_SYNTAXES.get(made.transfer_syntax_uid)
        if known is not None and known.is_encapsulated and not self._has_pixels:
            made.notes.append("has no pixels: written in Explicit VR Little Endian")
            made.transfer_syntax_uid = EXPLICIT_VR_LITTLE_ENDIAN
        to = made.transfer_syntax_uid
        if encoding_of(to).deflated and to in PIXEL_SYNTAXES:
            to = EXPLICIT_VR_LITTLE_ENDIAN
        item = self._object(self._from, self._data)
        if to == self._from or (not self._has_pixels and _same_encoding(self._from, to)):
            await self._finish(target, self._data, self._from, is_new=False)
            return
        with TemporaryFile() as file:
            await self._reencode(item, to, file)
            with mapped(file, 0) as data:
                if self._options.verify:
                    await self._verify(item, self._object(to, data))
                await self._finish(target, data, to, is_new=not _same_encoding(self._from, to))

    def _object(self, transfer_syntax_uid: str, data: memoryview) -> DicomObject:
        return mapped_object(data, transfer_syntax_uid, self._sop_class, self._sop_instance)

    async def _reencode(self, item: DicomObject, to: str, file: IO[bytes]) -> None:
        own, wanted = PIXEL_SYNTAXES.get(self._from), PIXEL_SYNTAXES.get(to)
        is_plain = (
            own is not None
            and wanted is not None
            and not (own.is_encapsulated or wanted.is_encapsulated)
        )
        if is_plain or not self._has_pixels:
            parts = item.parts(to)
        else:
            transcoded = await transcode(item, to, self._pool, self._options.transcoding)
            self._sop_instance = transcoded.sop_instance_uid
            parts = transcoded.parts()
            if self._is_signed:
                self._made.notes.append(
                    "its digital signatures were left out: they do not fit other pixel data"
                )
        async for part, _ in parts:
            await trio.to_thread.run_sync(file.write, part)
        file.flush()

    async def _verify(self, before: DicomObject, after: DicomObject) -> None:
        if not self._has_pixels:
            return
        encodings = [encoding_of(each.transfer_syntax_uid) for each in (before, after)]
        if EXPLICIT_BIG in encodings and encodings[0] != encodings[1]:
            raise ImageError("big endian is not compared with others; leave out --verify")
        if is_lossless(before.transfer_syntax_uid, after.transfer_syntax_uid):
            difference = await find_difference(before, after, self._pool)
            if difference:
                raise ImageError(f"what was made is not the same: {difference}")
            return
        async with open_image(after) as image:
            for number in range(len(image)):
                await image.decode(self._pool, number)

    async def _finish(
        self, target: IO[bytes], data: memoryview, syntax: str, *, is_new: bool
    ) -> None:
        """Write the header, and the data set with the lengths and the padding that are wanted."""
        await trio.to_thread.run_sync(self._write, target, data, syntax, is_new)

    def _write(self, target: IO[bytes], data: memoryview, syntax: str, is_new: bool) -> None:
        options = self._options
        head = self._head()
        target.write(head)
        lengths = options.lengths or ("defined" if is_new else None)
        tree = DataSetTree(data, encoding_of(syntax))
        tree.pad_odd_values()
        if lengths is not None:
            tree.set_lengths(undefined=lengths == "undefined")
        if options.group_lengths is not None:
            tree.set_group_lengths(wanted=options.group_lengths)
        else:
            tree.mend_group_lengths()
        if options.padding is not None:
            tree.leave_out_padding()
            if options.padding:
                tree.pad(len(head), options.padding)
        write_tree(tree, target, deflated=encoding_of(self._made.transfer_syntax_uid).deflated)

    def _head(self) -> bytes:
        meta = self._source.head.meta
        if self._options.meta == "none":
            return b""
        for uid, name in (
            (self._sop_class, "SOP Class UID"),
            (self._sop_instance, "SOP Instance UID"),
        ):
            if not is_safe_uid(uid):
                raise DataSetError(
                    f"no {name}, which a file needs; insert it with dcmmodify, or write the data "
                    "set alone with -F",
                    0,
                )
        syntax = self._made.transfer_syntax_uid
        source = b"" if meta is None else meta.elements.get(_META_SOURCE, b"")
        if self._options.meta == "new" or meta is None:
            title = source.decode("ascii", "replace").strip(" \0")
            return write_file_meta(
                self._sop_class, self._sop_instance, syntax, title if title.isascii() else ""
            )
        elements = dict(meta.elements)
        for tag, text in (
            (_META_CLASS, self._sop_class), (_META_INSTANCE, self._sop_instance),
            (_META_SYNTAX, syntax), (_META_IMPLEMENTATION, IMPLEMENTATION_CLASS_UID),
            (_META_VERSION_NAME, IMPLEMENTATION_VERSION_NAME),
        ):  # fmt: skip
            elements[tag] = text.encode("ascii")
        elements.setdefault(0x00020001, b"\0\1")
        return written_head(b"", elements)


def _same_encoding(one: str, other: str) -> bool:
    return encoding_of(one) == encoding_of(other)


def _uid(tree: DataSetTree, tag: int) -> str:
    nodes = tree.root.all(tag)
    text = tree.value(nodes[-1]).decode("ascii", "replace").strip(" \0") if nodes else ""
    return text if is_safe_uid(text) else ""
