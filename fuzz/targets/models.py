"""Invariant: any bytes become JSON and XML that others can read, or a data set, or are refused.

Input: a byte for what it is, the data set or the text.
"""

from __future__ import annotations

import json
from typing import Final
from xml.etree import ElementTree as ET

from wording import check_fault

from isocenter.engine.dataset import (
    EXPLICIT_BIG,
    EXPLICIT_LITTLE,
    IMPLICIT_LITTLE,
    Encoding,
    write_data_set,
)
from isocenter.engine.dataset.walker import Tolerance
from isocenter.services.dicom.json_reader import read_json
from isocenter.services.dicom.json_writer import json_of
from isocenter.services.dicom.model_file import writable_item
from isocenter.services.dicom.model_reader import Model, ModelError, encode_texts, read_model
from isocenter.services.dicom.xml_reader import read_xml
from isocenter.services.dicom.xml_writer import xml_of

_ENCODINGS: Final = (EXPLICIT_LITTLE, IMPLICIT_LITTLE, EXPLICIT_BIG)


def run(data: bytes) -> None:
    if not data:
        return
    kind = data[0] % 5
    if kind == 3:
        _read_text(read_json, data[1:])
    elif kind == 4:
        _read_text(read_xml, data[1:])
    else:
        _write_text(data[1:], _ENCODINGS[kind])


def _read_text(read: object, text: bytes) -> None:
    assert callable(read)
    try:
        models = read(text)
    except ModelError as fault:
        check_fault(fault)
        return
    for model in models:
        written = _written(model)
        if written is not None:
            # Without the blanks that count for nothing it says the same for good.
            again = _written(read_json(json_of(written, EXPLICIT_LITTLE))[0])
            assert again is not None
            assert _written(read_json(json_of(again, EXPLICIT_LITTLE))[0]) == again


def _written(model: Model) -> bytes | None:
    try:
        read = read_model(model)
        encode_texts(read)
        return write_data_set(writable_item(read.elements), EXPLICIT_LITTLE)
    except ModelError as fault:
        check_fault(fault)
        return None


def _write_text(data: bytes, encoding: Encoding) -> None:
    text = json_of(data, encoding, tolerance=Tolerance.SALVAGE)
    found = json.loads(text)
    assert all(len(key) == 8 for key in found)
    assert list(found) == sorted(found)
    pretty = json_of(data, encoding, tolerance=Tolerance.SALVAGE, is_pretty=True)
    assert json.loads(pretty) == found
    xml = xml_of(data, encoding, tolerance=Tolerance.SALVAGE)
    ET.fromstring(xml)
    for model in (read_json(text)[0], read_xml(xml)[0]):
        _written(model)
