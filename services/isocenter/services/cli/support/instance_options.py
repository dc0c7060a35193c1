"""Options of retrieval by instance, of frames, and without bulk data (PS3.4 Y, Z)."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial

from isocenter.services.archive.index.attributes import UNIQUE_KEY, Level
from isocenter.services.cli.support.options import UsageError
from isocenter.services.cli.support.query_options import Request
from isocenter.services.dicom.uid_registry import (
    COMPOSITE_INSTANCE_GET,
    COMPOSITE_INSTANCE_GET_WITHOUT_BULK_DATA,
)
from isocenter.services.service_classes.query_retrieve.identifier_builder import build_identifier

_MOST_FRAMES = 16_383


def frame_list(text: str) -> tuple[int, ...]:
    """``1,3,5-9`` as frames from 1 on, in their order."""
    frames: set[int] = set()
    for part in text.split(","):
        first, sign, last = part.partition("-")
        ends = (first, last or first) if sign else (first, first)
        if not all(end.isascii() and end.isdecimal() and int(end) > 0 for end in ends):
            raise argparse.ArgumentTypeError(f"{text!r} is no list of frames, like 1,3,5-9")
        if int(ends[1]) - int(ends[0]) >= _MOST_FRAMES:
            raise argparse.ArgumentTypeError(f"a list has {_MOST_FRAMES} frames at most")
        frames.update(range(int(ends[0]), int(ends[1]) + 1))
    if len(frames) > _MOST_FRAMES:
        raise argparse.ArgumentTypeError(f"a list has {_MOST_FRAMES} frames at most")
    return tuple(sorted(frames))


def request_by_instance(
    arguments: argparse.Namespace, request: Request
) -> tuple[str, Callable[[str], bytes]] | None:
    """SOP class and identifier of what *arguments* want so; None: they want nothing of it.

    Raises:
        UsageError: the instance is not named, or options exclude each other.
    """
    frames = arguments.frames
    if not (arguments.by_instance or frames or arguments.without_bulk_data):
        return None
    if frames and arguments.without_bulk_data:
        raise UsageError("--frames and --without-bulk-data exclude each other")
    uid = request.top_level.get(UNIQUE_KEY[Level.IMAGE], "")
    if not uid:
        raise UsageError("name the instance with --sop-instance-uid")
    keys = [("SOPInstanceUID", uid)]
    if frames:
        keys += [
            ("QueryRetrieveLevel", "FRAME"),
            ("SimpleFrameList", "\\".join(map(str, frames))),
        ]
    level = None if frames else Level.IMAGE
    sop_class_uid = (
        COMPOSITE_INSTANCE_GET_WITHOUT_BULK_DATA
        if arguments.without_bulk_data
        else COMPOSITE_INSTANCE_GET
    )
    return sop_class_uid, partial(build_identifier, keys, level)
