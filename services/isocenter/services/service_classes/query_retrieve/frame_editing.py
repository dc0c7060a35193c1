"""Attributes of an object of some frames of another one (PS3.4 Y.3.3, PS3.3 C.12.3)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise
from typing import Final

from isocenter.engine.uid import IMPLEMENTATION_VERSION_NAME
from isocenter.services.dicom.data_set_edits import Editor, Kind, parse_edit
from isocenter.services.dicom.data_set_tree import DataSetTree
from isocenter.services.service_classes.query_retrieve.frame_request import (
    CALCULATED_FRAME_LIST,
    SIMPLE_FRAME_LIST,
    FrameRequest,
)
from isocenter.services.service_classes.query_retrieve.frame_times import (
    FRAME_DELAY,
    FRAME_TIME,
    FRAME_TIME_VECTOR,
    PER_FRAME,
    numbers_of,
)

_EXTRACTION: Final = "(0008,1164)"
_EQUIPMENT: Final = "(0018,A001)"
_POINTER: Final = 0x00280009
#: What is not so of the new object: who provides pixels elsewhere, tables of fragments, what a
#: concatenation is, signatures, frames by their numbers, trailing padding.
_ERASED: Final = frozenset(
    {
        0x00287FE0, 0x7FE00001, 0x7FE00002, 0x7FE00008, 0x7FE00009, 0x7FE00010,
        0x00209161, 0x00209162, 0x00209163, 0x00209228, 0x00200242,
        0xFFFAFFFA, 0x4FFE0001,
        0x00286010, 0x00286020, 0x00286022, 0x00082142, 0x00082143, 0x0008113A,
        0xFFFCFFFC,
    }
)  # fmt: skip
#: Overlays of several frames: Number of Frames in Overlay, Image Frame Origin.
_OF_FRAMES: Final = frozenset({0x0015, 0x0051})
#: VRs of vectors with a value for each frame, and how long their values are.
_LENGTHS: Final = {"US": 2, "SS": 2, "UL": 4, "SL": 4, "FL": 4, "FD": 8, "AT": 4}
_TEXTS: Final = frozenset({"DS", "IS", "CS", "SH", "LO", "TM", "DA", "DT", "UI"})
_GRID_OFFSETS: Final = 0x3004000C


def edit_for_frames(
    tree: DataSetTree,
    frames: Sequence[int],
    times: Sequence[float] | None,
    request: FrameRequest,
    *,
    sop_instance_uid: str,
    source_uid: str,
    station: str,
    now: datetime,
) -> None:
    """Let *tree* say what is so of an object of these frames; Pixel Data follows by itself.

    Private attributes are left out, for nobody knows what of them speaks of frames.
    """
    root = tree.root
    count = _count_of(tree)
    for node in list(root.elements):
        group = node.tag >> 16
        if node.tag in _ERASED or group & 1 or _is_of_frames(tree, group):
            root.erase(node)
    for tag in {*_pointed_at(tree), _GRID_OFFSETS} - {FRAME_TIME, FRAME_TIME_VECTOR}:
        _take_from_vector(tree, tag, frames, count)
    if times is not None:
        _set_times(tree, frames, times)
    for sequence in root.all(PER_FRAME):
        wanted = set(frames)
        for number, item in enumerate(sequence.items or ()):
            if number not in wanted:
                item.is_erased = True
                item.touch()
                root.touch()
                sequence.is_changed = True
    editor = Editor(check_creators=False)

    def insert(name: str, value: object) -> None:
        editor.apply(tree, parse_edit(Kind.INSERT, f"{name}={value}"))

    insert("(0008,0018)", sop_instance_uid)
    insert("(0028,0008)", len(frames))
    at = f"{_EXTRACTION}[{_items(tree, 0x00081164)}]."
    insert(f"{at}(0008,1167)", source_uid)
    if request.seconds is not None:
        insert(f"{at}(0008,1163)", "\\".join(map(repr, request.seconds)))
    else:
        name = {SIMPLE_FRAME_LIST: "(0008,1161)", CALCULATED_FRAME_LIST: "(0008,1162)"}
        insert(f"{at}{name[request.tag]}", "\\".join(map(str, request.numbers)))
    at = f"{_EQUIPMENT}[{_items(tree, 0x0018A001)}]."
    insert(f"{at}(0008,0070)", "Isocenter")
    insert(f"{at}(0008,1010)", station)
    insert(f"{at}(0018,1020)", IMPLEMENTATION_VERSION_NAME)
    insert(f"{at}(0018,A002)", f"{now:%Y%m%d%H%M%S.%f%z}")
    insert(f"{at}(0040,A170)[0].(0008,0100)", "109105")
    insert(f"{at}(0040,A170)[0].(0008,0102)", "DCM")
    insert(f"{at}(0040,A170)[0].(0008,0104)", "Frame Extracting Equipment")
    tree.mend_group_lengths()


def _count_of(tree: DataSetTree) -> int:
    (node,) = tree.root.all(0x00280008)
    return int(tree.value(node).strip(b" \0"))


def _items(tree: DataSetTree, tag: int) -> int:
    return sum(len(node.items or ()) for node in tree.root.all(tag))


def _is_of_frames(tree: DataSetTree, group: int) -> bool:
    return group & 0xFF01 == 0x6000 and any(
        node.tag >> 16 == group and node.tag & 0xFFFF in _OF_FRAMES for node in tree.root.elements
    )


def _pointed_at(tree: DataSetTree) -> list[int]:
    """The tags in Frame Increment Pointer."""
    found = []
    for node in tree.root.all(_POINTER):
        value = tree.value(node)
        for place in range(0, len(value) - 3, 4):
            group, element = value[place : place + 2], value[place + 2 : place + 4]
            found.append(int.from_bytes(group, "little") << 16 | int.from_bytes(element, "little"))
    return found


def _take_from_vector(tree: DataSetTree, tag: int, frames: Sequence[int], count: int) -> None:
    for node in tree.root.all(tag):
        if node.items is not None:
            continue
        value = tree.value(node)
        length = _LENGTHS.get(node.vr)
        if length is not None and len(value) == count * length:
            taken = b"".join(value[n * length : (n + 1) * length] for n in frames)
        else:
            values = value.rstrip(b" \0").split(b"\\")
            if node.vr not in _TEXTS or len(values) != count:
                continue
            taken = b"\\".join(values[n] for n in frames)
        tree.set_value(tree.root, node, node.vr, taken)


def _set_times(tree: DataSetTree, frames: Sequence[int], times: Sequence[float]) -> None:
    """Frame times of the frames that are left, by the way they were given."""
    root = tree.root
    vector, constant = root.all(FRAME_TIME_VECTOR), root.all(FRAME_TIME)
    if not vector and not constant:
        return
    steps = [round((times[b] - times[a]) * 1000, 6) for a, b in pairwise(frames)]
    delay = round(times[frames[0]] * 1000, 6)
    editor = Editor(check_creators=False)
    if constant and len(set(steps)) <= 1:
        before = numbers_of(tree, root, FRAME_TIME)[0]
        editor.apply(
            tree, parse_edit(Kind.INSERT, f"(0018,1063)={_decimal(steps[0] if steps else before)}")
        )
    else:
        for node in constant:
            root.erase(node)
        text = "\\".join(map(_decimal, [0.0, *steps]))
        editor.apply(tree, parse_edit(Kind.INSERT, f"(0018,1065)={text}"))
        editor.apply(tree, parse_edit(Kind.INSERT, "(0028,0009)=(0018,1065)"))
    if delay or root.all(FRAME_DELAY):
        editor.apply(tree, parse_edit(Kind.INSERT, f"(0018,1066)={_decimal(delay)}"))


def _decimal(number: float) -> str:
    return f"{number:.10g}"
