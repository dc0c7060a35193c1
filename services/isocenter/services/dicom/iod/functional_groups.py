"""Functional groups of enhanced multi-frame objects (PS3.3 C.7.6.16)."""

from __future__ import annotations

from typing import Final

from isocenter.services.dicom.iod.attributes import Judge, condition_text
from isocenter.services.dicom.iod.conditions import PER_FRAME_GROUPS, SHARED_GROUPS, is_true
from isocenter.services.dicom.iod.items import Item
from isocenter.services.dicom.iod.table import GroupUse, Iod

_SOURCE: Final = "PS3.3 C.7.6.16"
_NUMBER_OF_FRAMES: Final = 0x00280008
#: Of an IS (PS3.5 6.2).
_MOST_DIGITS: Final = 12
#: Frames that are judged: each is held against every functional group, also one that is empty.
MAX_FRAMES: Final = 20_000


def judge_functional_groups(judge: Judge, root: Item, iod: Iod) -> None:
    """Judge which functional groups there are, where, and what is in them."""
    if not iod.groups:
        return
    shared = root.items(SHARED_GROUPS)
    frames = root.items(PER_FRAME_GROUPS)
    if not shared and not frames:
        return  # that they are missing, the module says
    if len(shared) > 1:
        judge.add(
            "error", "FG-SHARED-ITEMS", "has more than one item", item=root, tag=SHARED_GROUPS,
            source=_SOURCE,
        )  # fmt: skip
    number = root.text(_NUMBER_OF_FRAMES)
    is_number = number.isdecimal() and len(number) <= _MOST_DIGITS
    if frames and is_number and int(number) != len(frames):
        judge.add(
            "error", "FG-FRAMES", "has another number of items than Number of Frames says",
            item=root, tag=PER_FRAME_GROUPS, source=_SOURCE,
        )  # fmt: skip
    if len(frames) > MAX_FRAMES:
        judge.add(
            "warning", "NOT-WHOLE", f"of its frames the first {MAX_FRAMES:,} alone were judged",
            item=root, tag=PER_FRAME_GROUPS, source=_SOURCE,
        )  # fmt: skip
        frames = frames[:MAX_FRAMES]
    for use in iod.groups:
        _judge_use(judge, root, use, shared[:1], frames)
    known = {use.sequence for use in iod.groups}
    for item in (*shared[:1], *frames):
        for tag in item.elements:
            if tag not in known and not tag >> 16 & 1 and tag & 0xFFFF:
                judge.add(
                    "info", "FG-UNKNOWN", "is no functional group of this IOD", item=item,
                    tag=tag, source=_SOURCE,
                )  # fmt: skip


def _judge_use(
    judge: Judge, root: Item, use: GroupUse, shared: list[Item], frames: list[Item]
) -> None:
    tag = use.sequence
    is_shared = any(tag in item.elements for item in shared)
    having = [item for item in frames if tag in item.elements]
    source = f"functional group {use.name}"
    if is_shared and having:
        judge.add(
            "error", "FG-TWICE", "is in the shared and in the per-frame functional groups",
            item=having[0], tag=tag, source=source,
        )  # fmt: skip
    if not is_shared:
        _judge_absence(judge, root, use, frames, having, source)
    for item in (*shared, *having):
        element = item.elements.get(tag)
        if element is None or use.row is None:
            continue
        if element.is_empty and use.row.type == "1":
            judge.add(
                "error", "FG-EMPTY", "has no item", item=item, tag=tag, source=source,
                edition=use.row.edition,
            )  # fmt: skip
        judge.rows((use.row,), item, source)


def _judge_absence(
    judge: Judge, root: Item, use: GroupUse, frames: list[Item], having: list[Item], source: str
) -> None:
    tag = use.sequence
    if use.usage == "U" or "C" not in judge.takes:
        if having and len(having) < len(frames) and use.usage != "U":
            _say_missing(judge, frames, tag, source, "")
        return
    if use.usage == "M":
        if frames:
            _say_missing(judge, frames, tag, source, "")
        else:
            _say_missing(judge, root.items(SHARED_GROUPS), tag, source, "")
        return
    if use.condition is None:
        if not having:
            judge.result.leave_open(root.path(tag), f"{source}, usage C")
        return
    why = f": {condition_text(use.condition.required)}"
    for item in frames or root.items(SHARED_GROUPS)[:1]:
        if tag not in item.elements and is_true(use.condition.required, item):
            _say_missing(judge, [item], tag, source, why)


def _say_missing(judge: Judge, items: list[Item], tag: int, source: str, why: str) -> None:
    for item in items:
        if tag not in item.elements:
            judge.add(
                "error", "FG-MISSING",
                f"is missing, in the shared and in the per-frame functional groups{why}",
                item=item, tag=tag, source=source,
            )  # fmt: skip
