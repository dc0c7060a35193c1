"""Data sets in answers: DICOM JSON, or XML from servers without it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from isocenter.engine.dataset import EXPLICIT_LITTLE, write_data_set
from isocenter.engine.uid import EXPLICIT_VR_LITTLE_ENDIAN
from isocenter.services.dicom.model_file import writable_item
from isocenter.services.dicom.model_reader import (
    ModelElement,
    ModelError,
    ModelItem,
    encode_texts,
    read_model,
)
from isocenter.services.dicom.pydicom_datasets import read_identifier
from isocenter.services.dicom.xml_reader import read_xml
from isocenter.services.net.http.client import HttpResponse
from isocenter.services.net.http.client_errors import HttpClientError
from isocenter.services.web.client.parts import parts_of

if TYPE_CHECKING:
    import pydicom

#: A data set as DICOM JSON has it (PS3.18 F.2): tags, and of each ``vr`` and its values.
Model = Mapping[str, Any]

DICOM_JSON: Final = "application/dicom+json"
DICOM_XML: Final = "application/dicom+xml"
#: Bytes of one answer; ten times as much is held while it is read.
MOST_JSON_BYTES: Final = 256 << 20


async def models_of(response: HttpResponse) -> list[Model]:
    """The data sets of an answer.

    Raises:
        HttpClientError: they cannot be read.
    """
    if response.status in (204, 205):
        return []
    media_type = response.media_type
    name = media_type.name if media_type is not None else ""
    try:
        if name.startswith("multipart/"):
            found: list[Model] = []
            async with parts_of(response) as parts:
                async for part in parts:
                    found += read_xml(await part.read(MOST_JSON_BYTES))
            return found
        body = await response.body(MOST_JSON_BYTES)
        if name.endswith("xml"):
            return list(read_xml(body))
    except ModelError as error:
        raise HttpClientError(f"the answer is no data set: {error}") from error
    return _read_json(body)


async def text_of(response: HttpResponse) -> bytes:
    """DICOM JSON as it came, and checked: `models_of` would read it."""
    if response.status in (204, 205):
        return b"[]"
    found = await response.body(MOST_JSON_BYTES)
    _read_json(found)
    return found


def _read_json(body: bytes) -> list[Model]:
    if not body.strip():
        return []
    try:
        found = json.loads(body, parse_constant=str)
    except (ValueError, RecursionError):
        raise HttpClientError("the answer is no JSON; is this the address of DICOMweb?") from None
    models = found if isinstance(found, list) else [found]
    if not all(isinstance(model, dict) for model in models):
        raise HttpClientError("the answer is no list of data sets (DICOM JSON)")
    return models


def encoded(model: Model) -> bytes:
    """A data set in explicit VR little endian; values that are elsewhere (BulkDataURI) are empty.

    Raises:
        ModelError: it is none; the message names the place, and no value.
    """
    read = read_model(model, keeps_uris=True)
    encode_texts(read)
    _emptied(read.elements)
    return write_data_set(writable_item(read.elements), EXPLICIT_LITTLE)


def dataset_of(model: Model) -> pydicom.Dataset:
    """The same as pydicom has it.

    Raises:
        ModelError: as of `encoded`.
    """
    return read_identifier(encoded(model), EXPLICIT_VR_LITTLE_ENDIAN)


def _emptied(item: ModelItem) -> None:
    for tag, element in item.items():
        if element.uri:
            item[tag] = ModelElement(tag, element.vr)
        elif isinstance(element.value, list):
            for inner in element.value:
                _emptied(inner)


def value_of(model: Model, tag: str) -> str:
    """The first value of an attribute, as text; empty: it has none."""
    attribute = model.get(tag)
    values = attribute.get("Value") if isinstance(attribute, Mapping) else None
    if isinstance(values, list) and values and values[0] is not None:
        return str(values[0]).strip(" \0")
    return ""


def number_of(model: Model, tag: str) -> int | None:
    """The same as a whole number; None: it is none."""
    text = value_of(model, tag)
    return int(text) if text.isdecimal() and len(text) < 10 else None


def items_of(model: Model, tag: str) -> list[Model]:
    """The items of a sequence."""
    attribute = model.get(tag)
    values = attribute.get("Value") if isinstance(attribute, Mapping) else None
    return [one for one in values if isinstance(one, dict)] if isinstance(values, list) else []


def bulk_uri_of(model: Model, tag: str) -> str:
    """Where the value of an attribute is; empty: not elsewhere."""
    attribute = model.get(tag)
    uri = attribute.get("BulkDataURI") if isinstance(attribute, Mapping) else None
    return uri if isinstance(uri, str) else ""
