"""Instances that requests name by their UID alone."""

from __future__ import annotations

from typing import Final

from isocenter.engine.dataset import DataSetError
from isocenter.services.archive.archive import Archive
from isocenter.services.archive.ports import Index, StoredInstance
from isocenter.services.net.http.messages import HttpError, Request
from isocenter.services.net.http.routing import Answer, Parameter
from isocenter.services.viewing.attribute_view import AttributeView
from isocenter.services.viewing.stored_images import read_attributes

#: What whoever asks for an instance may be answered.
OF_INSTANCE: Final = (
    Answer(404, "The archive has it not."),
    Answer(406, "The object cannot be read."),
    Answer(410, "The object is not there any more."),
)
FRAME: Final = Parameter(name="frame", text="The frame, from 1 on.", pattern="[1-9][0-9]{0,8}")


async def instance_named(index: Index, request: Request) -> StoredInstance:
    """The instance in the path of a request.

    Raises:
        HttpError: the archive has it not (404).
    """
    uid = request.arguments["instance"]
    stored = (await index.get([uid])).get(uid)
    if stored is None:
        raise HttpError(404, "NOT_FOUND", "the archive has no such instance")
    return stored


async def attributes_of(archive: Archive, stored: StoredInstance) -> AttributeView:
    """Its data set.

    Raises:
        HttpError: it is gone (410), or cannot be read (406).
    """
    try:
        return await read_attributes(archive, stored)
    except KeyError:
        raise HttpError(410, "GONE", "the object is not there any more") from None
    except DataSetError as error:
        raise HttpError(406, "UNREADABLE", f"the data set cannot be read: {error}") from error


def frame_of(request: Request, frames: int) -> int:
    """The frame that a request names, of so many; the first one if it names none.

    Raises:
        HttpError: there is no such frame (404), or it is no number (400).
    """
    text = request.parameter("frame") or "1"
    if not (text.isascii() and text.isdecimal() and len(text) < 10 and int(text)):
        raise HttpError(400, "INVALID_REQUEST", "frame is a number from 1 on")
    if int(text) > frames:
        raise HttpError(404, "NO_FRAME", f"the image has {frames} frames")
    return int(text)
