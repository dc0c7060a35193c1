"""Data sets in memory, as JSON or XML (PS3.18 8.7.3.2)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

import trio

from isocenter.engine.dataset import (
    EXPLICIT_LITTLE,
    DataSetError,
    DataSetLimitError,
    write_data_set,
)
from isocenter.engine.limits import Limits
from isocenter.engine.uid import EXPLICIT_VR_LITTLE_ENDIAN
from isocenter.services.dicom.attribute_list import AttributeList
from isocenter.services.dicom.element_values import UTF_8
from isocenter.services.dicom.json_reader import read_json
from isocenter.services.dicom.json_writer import json_of
from isocenter.services.dicom.model_file import writable_item
from isocenter.services.dicom.model_reader import Model, ModelError, encode_texts, read_model
from isocenter.services.dicom.xml_reader import read_xml
from isocenter.services.dicom.xml_writer import xml_of
from isocenter.services.net.http.media_types import MediaType, MediaTypeError, parse_media_type
from isocenter.services.net.http.messages import Headers, HttpError, Request, Response
from isocenter.services.net.http.multipart import (
    MultipartError,
    MultipartParser,
    PartData,
    PartStarted,
    boundary_of,
)
from isocenter.services.web.dicomweb.multipart_responses import (
    WORTH_GZIP,
    gzipped,
    multipart_response,
)
from isocenter.services.web.dicomweb.representations import (
    DICOM_JSON,
    DICOM_XML,
    MULTIPART,
    Offer,
)

_JSON: Final = Offer(media_type=DICOM_JSON, is_multipart=False)
_XML: Final = Offer(media_type=DICOM_XML, is_multipart=False)
_FRAMED: Final = (
    Offer(media_type=DICOM_XML, is_multipart=True),
    Offer(media_type=DICOM_JSON, is_multipart=True),
)
#: Of one data set, and of any number: XML has no array.
ONE: Final = (_JSON, _XML, *_FRAMED)
MANY: Final = (_JSON, *_FRAMED)
#: Media types of requests and of answers.
MEDIA_TYPES: Final = (DICOM_JSON, DICOM_XML, MULTIPART)
_READERS: Final[dict[str, Callable[[bytes], list[Model]]]] = {
    DICOM_JSON: read_json,
    "application/json": read_json,
    DICOM_XML: read_xml,
    "application/xml": read_xml,
    "text/xml": read_xml,
}
#: A text has so many times the bytes of its data set, and is rarely longer.
_TEXT_FACTOR: Final = 8


async def read_data_set(request: Request, limits: Limits) -> AttributeList:
    """The one data set that a request brings.

    Raises:
        HttpError: it brings something else (415), what is none (400), or too much (413).
    """
    content = _content_type(request.header("content-type"))
    body = await request.body(_TEXT_FACTOR * limits.identifier)
    if content.name == MULTIPART:
        content, body = _only_part(content, body)
    read = _READERS.get(content.name)
    if read is None:
        raise _unsupported()
    try:
        return await trio.to_thread.run_sync(_attributes, read, body, limits)
    except ModelError as error:
        raise HttpError(400, "BAD_DATA_SET", f"the data set cannot be read: {error}") from error
    except DataSetLimitError as error:
        raise HttpError(413, "TOO_LARGE", "the data set is over a limit of this server") from error
    except DataSetError as error:
        raise HttpError(400, "BAD_DATA_SET", f"the data set cannot be read: {error}") from error


def _attributes(read: Callable[[bytes], list[Model]], body: bytes, limits: Limits) -> AttributeList:
    models = read(body)
    if len(models) != 1:
        raise ModelError("one is expected, and no list of several")
    model = read_model(models[0])
    encode_texts(model, UTF_8)
    data = write_data_set(writable_item(model.elements), EXPLICIT_LITTLE)
    return AttributeList.read(data, EXPLICIT_VR_LITTLE_ENDIAN, limits)


def _only_part(content: MediaType, body: bytes) -> tuple[MediaType, bytes]:
    found: MediaType | None = None
    pieces: list[bytes] = []
    try:
        parser = MultipartParser(boundary_of(content), most_parts=1)
        for event in parser.feed(body):
            match event:
                case PartStarted():
                    found = event.media_type
                case PartData():
                    pieces.append(bytes(event.data))
                case _:
                    pass
        parser.close()
        kind = found or parse_media_type(content.parameter("type") or "")
    except (MultipartError, MediaTypeError) as error:
        raise HttpError(400, "BAD_MULTIPART", f"{error}; one part is expected") from error
    return kind, b"".join(pieces)


def _content_type(said: str | None) -> MediaType:
    try:
        return parse_media_type(said or "")
    except MediaTypeError:
        raise _unsupported() from None


def _unsupported() -> HttpError:
    taken = f"{DICOM_JSON}, {DICOM_XML}"
    return HttpError(415, "UNSUPPORTED_MEDIA_TYPE", f"send a data set as {taken}")


def data_set_response(
    form: Offer, attributes: AttributeList, *, status: int = 200, headers: Headers = ()
) -> Response:
    """One data set, in one of the forms of `ONE`."""
    (text,) = _texts(form, [attributes])
    return _response(form, [text], text, status, headers)


def data_sets_response(
    form: Offer,
    several: Sequence[AttributeList],
    *,
    headers: Headers = (),
    may_gzip: bool = False,
) -> Response:
    """Any number of data sets, in one of the forms of `MANY`."""
    texts = list(_texts(form, several))
    whole = b"[" + b",".join(texts) + b"]"
    if may_gzip and not form.is_multipart and len(texts) >= WORTH_GZIP:
        headers = [*headers, ("content-encoding", "gzip")]
        whole = gzipped(whole)
    return _response(form, texts, whole, 200, headers)


def _texts(form: Offer, several: Sequence[AttributeList]) -> Iterator[bytes]:
    write = xml_of if form.media_type == DICOM_XML else json_of
    for attributes in several:
        data = attributes.in_character_set(UTF_8).encode(EXPLICIT_VR_LITTLE_ENDIAN)
        yield write(data, EXPLICIT_LITTLE)


def _response(
    form: Offer, texts: Sequence[bytes], alone: bytes, status: int, headers: Headers
) -> Response:
    if form.is_multipart:
        made = multipart_response(form.media_type, texts, headers)
        return Response(status=status, headers=made.headers, body=made.body)
    content = ("content-type", form.media_type)
    return Response(status=status, headers=[*headers, content], body=alone)
