"""Rules about a whole object: UIDs, orientation, attributes of no module."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from isocenter.services.dicom.iod.items import Item
from isocenter.services.dicom.iod.table import Iod

if TYPE_CHECKING:
    from isocenter.services.dicom.iod.attributes import Judge

#: Study, series, instance, frame of reference: no two are the same (PS3.5 9).
_IDENTITIES: Final = (0x0020000D, 0x0020000E, 0x00080018, 0x00200052)
_ORIENTATIONS: Final = (0x00200037, 0x00480102)
_PIXEL_DATA: Final = 0x7FE00010
_ROWS: Final = 0x00280010
_COLUMNS: Final = 0x00280011
_SAMPLES: Final = 0x00280002
_FRAMES: Final = 0x00280008
_BITS_ALLOCATED: Final = 0x00280100
_PHOTOMETRIC: Final = 0x00280004
#: Of which every second column alone has colours (PS3.3 C.7.6.3.1.2).
_HALVED: Final = frozenset(("YBR_FULL_422", "YBR_PARTIAL_422"))
_MOST_DIGITS: Final = 10
#: How far the direction cosines may be from a unit vector, and two of them from a right angle.
_TOLERANCE: Final = 0.01
#: May be in every data set (PS3.3 C.12.1.4 …): command, digital signatures, padding.
_ANYWHERE: Final = frozenset((0x00080001, 0x4FFE0001, 0xFFFAFFFA, 0xFFFCFFFC))
_REPEATING_GROUPS: Final = range(0x5000, 0x6100)


def judge_object(judge: Judge, root: Item, iod: Iod | None, *, pixel_data: bool = True) -> None:
    """Judge what no module says of one attribute alone."""
    if pixel_data:
        _judge_pixel_length(judge, root)
    _judge_identities(judge, root)
    for tag in _ORIENTATIONS:
        _judge_orientation(judge, root, tag)
    if iod is not None:
        _judge_strays(judge, root, iod)


def _judge_identities(judge: Judge, root: Item) -> None:
    seen: dict[str, int] = {}
    for tag in _IDENTITIES:
        uid = root.text(tag)
        if not uid:
            continue
        if uid in seen:
            judge.add(
                "error", "UID-TWICE", "is the UID of another entity as well", item=root, tag=tag,
                source="PS3.5 9",
            )  # fmt: skip
        seen.setdefault(uid, tag)


def _judge_orientation(judge: Judge, root: Item, tag: int) -> None:
    element = root.elements.get(tag)
    if element is None or len(element.values) != 6:
        return
    try:
        x1, y1, z1, x2, y2, z2 = map(float, element.values)
    except ValueError:
        return
    lengths = (x1 * x1 + y1 * y1 + z1 * z1, x2 * x2 + y2 * y2 + z2 * z2)
    if any(abs(length - 1) > _TOLERANCE for length in lengths):
        judge.add(
            "error", "ORIENTATION", "has a direction that is no unit vector", item=root, tag=tag,
            source="PS3.3 C.7.6.2.1.1",
        )  # fmt: skip
    elif abs(x1 * x2 + y1 * y2 + z1 * z2) > _TOLERANCE:
        judge.add(
            "error", "ORIENTATION", "has two directions that are not at a right angle", item=root,
            tag=tag, source="PS3.3 C.7.6.2.1.1",
        )  # fmt: skip


def _judge_pixel_length(judge: Judge, root: Item) -> None:
    element = root.elements.get(_PIXEL_DATA)
    if element is None or element.is_encapsulated or element.is_cut or element.items is not None:
        return
    samples = "2" if root.text(_PHOTOMETRIC) in _HALVED else root.text(_SAMPLES)
    factors = [root.text(tag) for tag in (_ROWS, _COLUMNS, _BITS_ALLOCATED)]
    factors += [samples, root.text(_FRAMES) or "1"]
    if not all(text.isdecimal() and len(text) <= _MOST_DIGITS for text in factors):
        return
    bits = 1
    for text in factors:
        bits *= int(text)
    wanted = -(-bits // 8)
    if element.length != wanted + (wanted & 1):
        judge.add(
            "error", "PIXEL-LENGTH",
            f"has {element.length:,} bytes, and rows, columns, samples, frames and bits say "
            f"{wanted + (wanted & 1):,}",
            item=root, tag=_PIXEL_DATA, source="PS3.5 8.1.1",
        )  # fmt: skip


def _judge_strays(judge: Judge, root: Item, iod: Iod) -> None:
    known = {row.tag for module in iod.modules for row in module.rows}
    for tag in root.elements:
        group = tag >> 16
        if tag in known or tag in _ANYWHERE or group & 1 or not tag & 0xFFFF:
            continue
        if group in _REPEATING_GROUPS or group < 8:
            continue
        judge.add(
            "info", "NOT-IN-IOD", "is in no module of this IOD", item=root, tag=tag,
            source="PS3.3 A",
        )  # fmt: skip
