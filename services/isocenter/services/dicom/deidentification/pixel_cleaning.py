"""Cleaning of pixels: every frame decoded, blackened where it names somebody, encoded again.

What is blackened, rules of devices and the regions of ultrasound images say first; texts that are
recognized in what remains decide about the rest.  Pixels stay in the syntax that they have; of one
that loses something they go to the lossless one of the same kind, so that nothing more is lost.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import Enum
from tempfile import TemporaryFile
from typing import IO, Final, Literal

import trio

from isocenter.engine.dataset import encoding_of
from isocenter.engine.fast_init import dataclass
from isocenter.engine.uid import EXPLICIT_VR_LITTLE_ENDIAN
from isocenter.services.dicom.data_set_file import DataSetFile, mapped
from isocenter.services.dicom.data_set_tree import DataSetTree
from isocenter.services.dicom.deidentification.deidentifier import DeidentificationError
from isocenter.services.dicom.deidentification.device_rules import (
    DeviceRule,
    known_devices,
    regions_of,
    values_of,
)
from isocenter.services.dicom.deidentification.graphics import has_overlay_in_pixels
from isocenter.services.dicom.deidentification.regions import PixelMask, Region, ultrasound_regions
from isocenter.services.dicom.deidentification.text_recognition import (
    TextPolicy,
    boxes_of_text,
)
from isocenter.services.dicom.element_values import decode_text
from isocenter.services.dicom.mapped_object import mapped_object
from isocenter.services.dicom.objects import DicomObject
from isocenter.services.dicom.pixels.errors import PixelError
from isocenter.services.dicom.pixels.frames import open_image
from isocenter.services.dicom.pixels.pool import CodecPool
from isocenter.services.dicom.pixels.transcoding import TranscodedObject, transcode
from isocenter.services.dicom.pixels.transfer_syntaxes import (
    HTJ2K,
    HTJ2K_LOSSLESS,
    JPEG_2000,
    JPEG_2000_LOSSLESS,
    JPEG_BASELINE,
    JPEG_EXTENDED,
    JPEG_LOSSLESS_SV1,
    JPEG_LS_LOSSLESS,
    JPEG_LS_NEAR_LOSSLESS,
    JPEG_XL,
    JPEG_XL_LOSSLESS,
    JPEG_XL_RECOMPRESSION,
)

_PIXELS: Final = (0x7FE00008, 0x7FE00009, 0x7FE00010)
_IMAGE_TYPE: Final = 0x00080008
_SOP_CLASS_UID: Final = 0x00080016
_SOP_INSTANCE_UID: Final = 0x00080018
_MODALITY: Final = 0x00080060
_ROWS, _COLUMNS = 0x00280010, 0x00280011
_BURNED_IN_ANNOTATION: Final = 0x00280301
_IMPLEMENTATION_VERSION_NAME: Final = 0x00020013
#: Modalities whose pictures often name the patient.
_OFTEN_NAMING: Final = frozenset(("DOC", "ES", "IVUS", "OT", "SC", "US", "XC"))
_SECONDARY_CAPTURE: Final = "1.2.840.10008.5.1.4.1.1.7."
#: Of a picture of a screen, or of the label of a slide, in Image Type.
_SCREENS: Final = ("SCREEN SAVE", "SCREENSAVE", "SECONDARY CAPTURE", "LABEL")
#: Lossy → lossless, in kind.
_LOSSLESS: Final = {
    HTJ2K: HTJ2K_LOSSLESS, JPEG_2000: JPEG_2000_LOSSLESS, JPEG_BASELINE: JPEG_LOSSLESS_SV1,
    JPEG_EXTENDED: JPEG_LOSSLESS_SV1, JPEG_LS_NEAR_LOSSLESS: JPEG_LS_LOSSLESS,
    JPEG_XL: JPEG_XL_LOSSLESS, JPEG_XL_RECOMPRESSION: JPEG_XL_LOSSLESS,
}  # fmt: skip


def lossless_of(transfer_syntax_uid: str) -> str:
    """The transfer syntax in which pixels of another one are kept when they were cleaned."""
    return _LOSSLESS.get(transfer_syntax_uid, transfer_syntax_uid)


class UnknownPolicy(Enum):
    """What becomes of an image that may name the patient, and for which there is no rule."""

    #: It is not given out until somebody has looked at it.
    QUARANTINE = "quarantine"
    #: It passes, and the report says so.
    ACCEPT = "accept"


@dataclass(frozen=True, slots=True, kw_only=True)
class PixelOptions:
    """How pixels are cleaned.

    Attributes:
        rules: of a site, beside those that are known.
        text: what becomes of texts that are recognized.
    """

    rules: tuple[DeviceRule, ...] = ()
    unknown: UnknownPolicy = UnknownPolicy.QUARANTINE
    text: TextPolicy = TextPolicy.OFF


class QuarantineError(DeidentificationError):
    """An image that somebody has to look at before it may leave."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CleanedPixels:
    """A data set whose pixels were cleaned.

    Attributes:
        tree: of it; of the source where nothing had to go.
        is_changed: whether pixels were changed.
        is_clean: whether nothing is known to be left; not of what was accepted as it is.
        notes: what was done, for the report.
    """

    tree: DataSetTree
    transfer_syntax_uid: str
    is_changed: bool
    is_clean: bool = True
    notes: tuple[str, ...] = ()


@asynccontextmanager
async def cleaned_pixels(
    source: DataSetFile,
    tree: DataSetTree,
    pool: CodecPool,
    options: PixelOptions,
    promised: str = "",
) -> AsyncIterator[CleanedPixels]:
    """The data set *source* with clean pixels, while the block works on it.

    Args:
        promised: the transfer syntax that it has to have; empty: as it turns out.

    Raises:
        QuarantineError: nobody can say whether they are.
        PixelError: they cannot be decoded, or encoded again.
        DataSetError: the data set cannot be read.
    """
    syntax = source.head.transfer_syntax_uid
    untouched = CleanedPixels(tree=tree, transfer_syntax_uid=syntax, is_changed=False)
    if not any(tree.root.all(tag) for tag in _PIXELS):
        yield untouched
        return
    rules = (*options.rules, *known_devices())
    meta = source.head.meta
    implementation = b"" if meta is None else meta.elements.get(_IMPLEMENTATION_VERSION_NAME, b"")
    blackened = regions_of(values_of(tree, rules, implementation.decode("latin-1").strip()), rules)
    mask = PixelMask(
        blackened=blackened,
        kept=ultrasound_regions(tree),
        clears_unused_bits=has_overlay_in_pixels(tree, tree.root),
    )
    notes: list[str] = []
    is_known, is_clean = mask.blackens_some(_short(tree, _ROWS), _short(tree, _COLUMNS)), True
    own = EXPLICIT_VR_LITTLE_ENDIAN if source.is_inflated else syntax
    item = mapped_object(source.data, own, _text(tree, _SOP_CLASS_UID), _uid(tree))
    if options.text is not TextPolicy.OFF:
        mask, is_clean = await _without_text(item, pool, mask, options.text, notes)
        is_known = is_known or is_clean
    may_name = _may_name(tree)
    if may_name and not is_known:
        if options.unknown is UnknownPolicy.QUARANTINE:
            raise QuarantineError(
                f"{may_name}, and no rule says where; look at it, and give a rule for the device, "
                "or accept such images"
            )
        notes.append(f"{may_name}, and no rule says where: accepted as it is")
        is_clean = False
    if not mask and promised in ("", syntax):
        yield CleanedPixels(
            tree=tree,
            transfer_syntax_uid=syntax,
            is_changed=False,
            is_clean=is_clean,
            notes=tuple(notes),
        )
        return
    with TemporaryFile() as file:
        made = await _written(item, pool, mask, file, notes, is_promised=bool(promised))
        with mapped(file, 0) as data:
            cleaned = await trio.to_thread.run_sync(DataSetTree, data, encoding_of(made))
            yield CleanedPixels(
                tree=cleaned,
                transfer_syntax_uid=syntax if made == own else made,
                is_changed=bool(mask),
                is_clean=is_clean,
                notes=tuple(notes),
            )


async def _written(
    item: DicomObject,
    pool: CodecPool,
    mask: PixelMask,
    file: IO[bytes],
    notes: list[str],
    *,
    is_promised: bool,
) -> str:
    """The transfer syntax in which the data set with the masked pixels was written."""
    made = await _transcoded(item, pool, mask, notes, is_promised=is_promised)
    async for part, _ in made.parts():
        await trio.to_thread.run_sync(file.write, part)
    file.flush()
    return made.transfer_syntax_uid


async def _transcoded(
    item: DicomObject,
    pool: CodecPool,
    mask: PixelMask,
    notes: list[str],
    *,
    is_promised: bool,
) -> TranscodedObject:
    source = item.transfer_syntax_uid
    wanted = lossless_of(source)
    try:
        return await transcode(item, wanted, pool, edit=mask.apply)
    except PixelError:
        if is_promised or wanted == EXPLICIT_VR_LITTLE_ENDIAN:
            raise
        made = await transcode(item, EXPLICIT_VR_LITTLE_ENDIAN, pool, edit=mask.apply)
        notes.append("its pixels have no place in their syntax any more: they are uncompressed")
        return made


async def _without_text(
    item: DicomObject, pool: CodecPool, mask: PixelMask, policy: TextPolicy, notes: list[str]
) -> tuple[PixelMask, bool]:
    """The mask with what texts add to it, and whether every text is gone."""
    boxes: list[Region] = []
    async with open_image(item) as image:
        for number in range(len(image)):
            frame = await image.decode(pool, number)
            if mask:
                frame = await trio.to_thread.run_sync(mask.apply, frame)
            boxes += [box for box in await boxes_of_text(pool, frame) if box not in boxes]
    if not boxes:
        return mask, True
    if policy is TextPolicy.QUARANTINE:
        raise QuarantineError(
            f"shows text in {len(boxes)} places where no rule takes it away; look at it, and give "
            "a rule for the device, or have text removed"
        )
    if policy is TextPolicy.WARN:
        notes.append(f"shows text in {len(boxes)} places")
        return mask, False
    notes.append(f"text was removed in {len(boxes)} places")
    return PixelMask(
        blackened=(*mask.blackened, *boxes),
        kept=mask.kept,
        clears_unused_bits=mask.clears_unused_bits,
    ), True


def _may_name(tree: DataSetTree) -> str:
    """Why an image may name the patient; empty: nothing says so."""
    said = _text(tree, _BURNED_IN_ANNOTATION).upper()
    if said == "YES":
        return "says that it has burned in annotation"
    if said == "NO":
        return ""
    modality = _text(tree, _MODALITY)
    if modality in _OFTEN_NAMING:
        return f"is of modality {modality}, whose pictures often name the patient"
    kinds = _text(tree, _IMAGE_TYPE).upper()
    is_screen = any(kind in kinds for kind in _SCREENS)
    sop_class = f"{_text(tree, _SOP_CLASS_UID)}."
    if is_screen or sop_class.startswith(_SECONDARY_CAPTURE):
        return "is a picture of a screen, or of paper"
    return ""


def _text(tree: DataSetTree, tag: int) -> str:
    nodes = [node for node in tree.root.all(tag) if node.items is None]
    return decode_text(tree.value(nodes[-1]), "CS") if nodes else ""


def _short(tree: DataSetTree, tag: int) -> int:
    for node in tree.root.all(tag):
        if node.items is None:
            order: Literal["big", "little"] = "big" if node.codec.big_endian else "little"
            return int.from_bytes(tree.value(node)[:2], order)
    return 0


def _uid(tree: DataSetTree) -> str:
    return _text(tree, _SOP_INSTANCE_UID)
