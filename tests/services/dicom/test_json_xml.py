"""DICOM JSON as Native DICOM Model: the same as of the bytes that the JSON was written from."""

from __future__ import annotations

import math
from xml.etree import ElementTree as ET

import orjson
import pytest
from pydicom.data import get_testdata_file

from isocenter.engine.dataset import encoding_of, read_file_meta
from isocenter.engine.dataset.walker import Tolerance
from isocenter.services.dicom.json_writer import json_of
from isocenter.services.dicom.json_xml import xml_of_json
from isocenter.services.dicom.xml_writer import xml_of

FILES = [
    "CT_small.dcm", "rtplan.dcm", "waveform_ecg.dcm", "reportsi.dcm", "nested_priv_SQ.dcm",
    "priv_SQ.dcm", "UN_sequence.dcm", "badVR.dcm", "test-SR.dcm",
]  # fmt: skip


def flat(document: bytes) -> list[tuple[str, dict[str, str], str]]:
    return [
        (one.tag, dict(one.attrib), number(one.text or ""))
        for one in ET.fromstring(document).iter()
    ]


def number(text: str) -> str:
    """Numbers that differ in how they are written, as one."""
    try:
        value = float(text)
    except ValueError:
        return text
    return repr(value) if math.isfinite(value) else text


@pytest.mark.parametrize("name", FILES)
def test_objects(name: str) -> None:
    path = get_testdata_file(name)
    assert isinstance(path, str)
    with open(path, "rb") as file:
        content = file.read()
    head = read_file_meta(content)
    data, encoding = content[head.data_set_offset :], encoding_of(head.transfer_syntax_uid)

    def bulk(value: object) -> str:
        return 'http://archive.example/bulk?a=1&b="2"'

    options = {"bulk": bulk, "tolerance": Tolerance.SALVAGE}
    json = orjson.loads(json_of(data, encoding, **options))
    assert flat(xml_of_json(json)) == flat(xml_of(data, encoding, **options))


def test_odd_values() -> None:
    document = xml_of_json(
        {
            "00080005": {"vr": "CS", "Value": ["ISO_IR 192"]},
            "00081140": {"vr": "SQ", "Value": [{}, None, {"00080016": {"vr": "UI"}}]},
            "00100010": {"vr": "PN", "Value": [{"Ideographic": "山田^太郎"}, None]},
            "00181316": {"vr": "DS", "Value": ["high", None, 1.5, "<&\r\x01"]},
            "00189073": {"vr": "FD", "Value": ["NaN", "-Infinity", 2]},
            "00280010": {"vr": "US", "Value": ["many"]},
        }
    )
    found = ET.fromstring(document)
    texts = [one.text for one in found.iter() if one.tag.endswith("}Value")]
    assert texts == [
        "ISO_IR 192", "high", None, "1.5", "<&\r?", "NaN", "-INF", "2", "many"
    ]  # fmt: skip
    names = [one.text for one in found.iter() if one.tag.endswith("Name")]
    assert names == [None, "山田", "太郎", None]
    assert len([one for one in found.iter() if one.tag.endswith("}Item")]) == 3
