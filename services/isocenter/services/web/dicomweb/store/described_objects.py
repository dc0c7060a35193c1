"""Objects that come as metadata and bulk data (PS3.18 10.5.1.2, 8.6.1.2).

Metadata come first, of one object or many, and then the parts that their BulkDataURIs name.  An
object is made as soon as all that it needs is there.  What is in no part of the request is fetched
from nowhere.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Final, Self

import trio

from isocenter.engine.dataset import DataSetError
from isocenter.engine.dataset.errors import tag_text
from isocenter.engine.dataset.vr import PIXEL_DATA
from isocenter.engine.dimse.status import Status
from isocenter.engine.errors import LocalProtocolError
from isocenter.engine.fast_init import dataclass
from isocenter.engine.uid import UNCOMPRESSED
from isocenter.services.dicom.creation.completion import MissingAttributesError, complete
from isocenter.services.dicom.creation.errors import SourceError
from isocenter.services.dicom.creation.payloads import (
    BulkPart,
    Payload,
    PayloadTypeError,
    document_payload,
    pixel_payload,
)
from isocenter.services.dicom.json_reader import read_json
from isocenter.services.dicom.long_values import FileRange
from isocenter.services.dicom.model_file import ModelFile
from isocenter.services.dicom.model_reader import Model, ModelError, ReadModel, read_model
from isocenter.services.dicom.pixels.errors import PixelError
from isocenter.services.dicom.xml_reader import read_xml
from isocenter.services.net.http.messages import HttpError
from isocenter.services.web.dicomweb.representations import DICOM_XML
from isocenter.services.web.dicomweb.store.bulk_spool import BulkSpool
from isocenter.services.web.dicomweb.store.incoming import Incoming
from isocenter.services.web.dicomweb.store.outcomes import NOT_OF_CLASS, SYNTAX_NOT_SUPPORTED

log = logging.getLogger("isocenter.http")

#: Bytes of all metadata of a request, and of all requests at once; ten times as much is held.
MOST_METADATA: Final = 32 << 20
MOST_METADATA_OF_ALL: Final = 64 << 20
#: Objects that are made at once, of all requests: a picture may take twice what `MOST_HELD` says.
_MOST_MADE: Final = 2
RETRY_SECONDS: Final = 10
_DOCUMENT: Final = 0x00420011
_SOP_CLASS_UID: Final = 0x00080016
_SOP_INSTANCE_UID: Final = 0x00080018
_NUMBER_OF_FRAMES: Final = 0x00280008
_TRANSFER_SYNTAX: Final = 0x00020010
_AVAILABLE_TRANSFER_SYNTAX: Final = 0x00083002
#: What answers of searches and retrieves have beside the attributes of an object.
_OF_ANSWERS: Final = frozenset(
    (0x00080052, 0x00080054, 0x00080056, 0x00081190, _AVAILABLE_TRANSFER_SYNTAX)
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Described:
    """Metadata of an object, and the bulk data that it waits for."""

    model: Model
    wants: frozenset[str]
    transfer_syntax_uid: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Refusal:
    status: int
    comment: str
    sop_class_uid: str
    sop_instance_uid: str


class Workshop:
    """What all requests share that make objects: room for metadata, and for those being made."""

    def __init__(self) -> None:
        self.held = 0
        self.limiter = trio.CapacityLimiter(_MOST_MADE)


class DescribedObjects:
    """Makes objects of metadata and bulk data, and hands them to *incoming*.  A context manager.

    Attributes:
        unreadable: why metadata could not be read; empty: they could.
    """

    def __init__(self, workshop: Workshop, incoming: Incoming, spool: BulkSpool) -> None:
        self._workshop = workshop
        self._incoming = incoming
        self._spool = spool
        self._waiting: dict[int, _Described] = {}
        #: Key → objects that wait for it; and those that may be complete.
        self._wanted: dict[str, set[int]] = {}
        self._candidates: dict[int, None] = {}
        self._made = 0
        self._text = bytearray()
        self._length = 0
        self._is_xml = False
        self._syntax = ""
        self.unreadable = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._workshop.held -= self._length
        self._length = 0

    # Metadata.

    def begin_metadata(self, media_type: str, transfer_syntax_uid: str) -> None:
        """A part with metadata begins.

        Args:
            transfer_syntax_uid: what it says of the objects; empty: nothing.
        """
        self._text = bytearray()
        self._is_xml = media_type == DICOM_XML
        self._syntax = transfer_syntax_uid

    def write_metadata(self, data: bytes | bytearray | memoryview) -> None:
        """Some of it.

        Raises:
            HttpError: metadata are too long (413), or others have too many as well (503).
        """
        self._length += len(data)
        self._workshop.held += len(data)
        if self._length > MOST_METADATA:
            raise HttpError(
                413, "TOO_LARGE",
                f"metadata are longer than {MOST_METADATA >> 20} MiB; send fewer objects at once, "
                "and long values as bulk data",
            )  # fmt: skip
        if self._workshop.held > MOST_METADATA_OF_ALL:
            raise HttpError(
                503, "BUSY", "other requests bring metadata; try again in a moment",
                [("retry-after", str(RETRY_SECONDS))],
            )  # fmt: skip
        self._text += data

    async def end_metadata(self) -> None:
        """They are here as a whole."""
        text, self._text = bytes(self._text), bytearray()
        read = read_xml if self._is_xml else read_json
        try:
            models = await trio.to_thread.run_sync(read, text, limiter=self._workshop.limiter)
        except ModelError as error:
            self.unreadable = str(error)
            self._incoming.refuse(Status.CANNOT_UNDERSTAND, f"metadata: {error}")
            return
        for model in models:
            wants = frozenset(map(self._spool.key, _uris_of(model)))
            number = self._made = self._made + 1
            self._waiting[number] = _Described(
                model=model, wants=wants, transfer_syntax_uid=self._syntax
            )
            for key in wants:
                self._wanted.setdefault(key, set()).add(number)
            if all(key in self._spool for key in wants):
                self._candidates[number] = None

    # Bulk data.

    async def before_part(self, key: str) -> None:
        """A part with bulk data begins; more of the same key belong to one value."""
        for number in list(self._candidates):
            described = self._waiting[number]
            if key in described.wants:
                continue
            del self._candidates[number]
            if all(one in self._spool for one in described.wants):
                await self._make(number)

    def after_part(self, key: str) -> None:
        """A part is here as a whole."""
        self._candidates.update(dict.fromkeys(sorted(self._wanted.get(key, ()))))

    async def finish(self) -> None:
        """The request is here as a whole: what is not there will not come."""
        for number in list(self._waiting):
            await self._make(number)
        unused = len(self._spool.keys)
        if unused:
            log.info("a request has %d values that no metadata names; they are left out", unused)

    async def _make(self, number: int) -> None:
        described = self._waiting.pop(number)
        made = await trio.to_thread.run_sync(
            _made, described, self._spool, limiter=self._workshop.limiter
        )
        if isinstance(made, _Refusal):
            self._incoming.refuse(
                made.status,
                made.comment,
                sop_class_uid=made.sop_class_uid,
                sop_instance_uid=made.sop_instance_uid,
            )
        else:
            file, corrected = made
            comment = f"corrected by the bulk data: {', '.join(corrected)}" if corrected else ""
            if comment:
                log.info("instance %s: %s", file.sop_instance_uid, comment)
            warning = Status.COERCION_OF_DATA_ELEMENTS if corrected else 0
            await self._incoming.add(file, warning=warning, comment=comment)
        unused = []
        for key in described.wants:
            self._wanted[key].discard(number)
            if not self._wanted[key]:
                del self._wanted[key]
                unused.append(key)
        self._spool.forget(unused)


def _uris_of(model: Model) -> list[str]:
    """Each BulkDataURI of a data set, at any depth."""
    found: list[str] = []
    todo: list[object] = [model]
    while todo:
        value = todo.pop()
        if isinstance(value, Mapping):
            uri = value.get("BulkDataURI")
            if isinstance(uri, str):
                found.append(uri)
            todo += value.values()
        elif isinstance(value, list):
            todo += value
    return found


def _made(described: _Described, spool: BulkSpool) -> tuple[ModelFile, list[str]] | _Refusal:
    """The object, and what its payload corrected."""
    read: ReadModel | None = None
    try:
        fetched: dict[FileRange, list[BulkPart]] = {}
        read = read_model(described.model, fetch=lambda uri: _fetch(uri, spool, fetched))
        corrected = _complete(read, fetched, described.transfer_syntax_uid)
        return ModelFile(read), corrected
    except PayloadTypeError as error:
        return _refusal(SYNTAX_NOT_SUPPORTED, str(error), read, described.model)
    except (SourceError, PixelError) as error:
        return _refusal(NOT_OF_CLASS, f"bulk data: {error}", read, described.model)
    except MissingAttributesError as error:
        return _refusal(NOT_OF_CLASS, str(error), read, described.model)
    except (ModelError, DataSetError, LocalProtocolError) as error:
        return _refusal(Status.CANNOT_UNDERSTAND, str(error), read, described.model)
    except OSError:
        return _refusal(
            Status.PROCESSING_FAILURE, "bulk data cannot be read", read, described.model
        )


def _fetch(uri: str, spool: BulkSpool, fetched: dict[FileRange, list[BulkPart]]) -> FileRange:
    parts = spool.get(spool.key(uri))
    if not parts:
        raise ModelError("no part has its BulkDataURI, and nothing is fetched")
    value = parts[0].value
    fetched[value] = parts
    return value


def _complete(read: ReadModel, fetched: Mapping[FileRange, list[BulkPart]], said: str) -> list[str]:
    """Give an object its pixels or document, as they came."""
    elements = read.elements
    available = elements.get(_AVAILABLE_TRANSFER_SYNTAX)
    syntax = said or read.meta.get(_TRANSFER_SYNTAX, "") or _text(available)
    for tag in _OF_ANSWERS:
        elements.pop(tag, None)
    read.meta.pop(_TRANSFER_SYNTAX, None)
    sop_class_uid = _text(elements.get(_SOP_CLASS_UID))
    corrected: list[str] = []
    special: set[FileRange] = set()
    for tag in (PIXEL_DATA, _DOCUMENT):
        element = elements.get(tag)
        if element is None or not isinstance(element.value, FileRange):
            continue
        parts = fetched[element.value]
        special.add(element.value)
        payload: Payload
        if tag == PIXEL_DATA:
            payload = pixel_payload(
                parts,
                sop_class_uid=sop_class_uid,
                transfer_syntax_uid=syntax,
                frames=_number(_text(elements.get(_NUMBER_OF_FRAMES))),
            )
        else:
            payload = document_payload(parts, sop_class_uid=sop_class_uid)
        for note in payload.notes:
            log.info("%s of a request %s", tag_text(tag), note)
        corrected += complete(read, tag, payload, sop_class_uid=sop_class_uid)
    for value, parts in fetched.items():
        if len(parts) > 1 and value not in special:
            raise ModelError("a value comes in several parts, and only Pixel Data may")
    if PIXEL_DATA in elements and not special and syntax and syntax not in UNCOMPRESSED:
        read.meta[_TRANSFER_SYNTAX] = syntax  # fragments inline
    return corrected


def _text(element: Any) -> str:
    value = b"" if element is None else element.value
    return value.decode("ascii", "replace").strip(" \0") if isinstance(value, bytes) else ""


def _number(text: str) -> int:
    return int(text) if text.isdecimal() and len(text) < 12 else 0


def _refusal(status: int, comment: str, read: ReadModel | None, model: Model) -> _Refusal:
    """With the UIDs, as far as they are there."""
    if read is None:  # the fault is somewhere: what names the object may be right all the same
        names = {
            f"{tag:08X}": model.get(f"{tag:08X}") for tag in (_SOP_CLASS_UID, _SOP_INSTANCE_UID)
        }
        try:
            read = read_model({name: value for name, value in names.items() if value is not None})
        except ModelError:
            read = ReadModel()
    return _Refusal(
        status=status,
        comment=comment,
        sop_class_uid=_text(read.elements.get(_SOP_CLASS_UID)),
        sop_instance_uid=_text(read.elements.get(_SOP_INSTANCE_UID)),
    )
