"""XML in the Native DICOM Model, written and read; and what no reader of XML should do."""

from __future__ import annotations

import subprocess
from pathlib import Path
from shutil import which
from typing import Any
from xml.etree import ElementTree as ET

import pydicom
import pytest

from isocenter.engine.dataset import (
    EXPLICIT_BIG,
    EXPLICIT_LITTLE,
    IMPLICIT_LITTLE,
    DataSetError,
    Encoding,
    encoding_of,
    read_file_head,
    write_data_set,
)
from isocenter.engine.dataset.walker import Tolerance
from isocenter.engine.dataset.writer import WritableElement
from isocenter.services.dicom.bulk_data import left_out
from isocenter.services.dicom.json_reader import read_json
from isocenter.services.dicom.json_writer import json_of
from isocenter.services.dicom.model_reader import ModelError, ModelItem, encode_texts, read_model
from isocenter.services.dicom.xml_reader import read_xml
from isocenter.services.dicom.xml_writer import NAMESPACE, XmlWriter, xml_of

DATA = Path(pydicom.__file__).parent / "data" / "test_files"
NS = {"n": NAMESPACE}


def written(
    elements: list[WritableElement], encoding: Encoding = EXPLICIT_LITTLE, **options: Any
) -> ET.Element:
    return ET.fromstring(xml_of(write_data_set(elements, encoding), encoding, **options))


def only(elements: list[WritableElement], encoding: Encoding = EXPLICIT_LITTLE) -> str:
    """The one attribute, without the document around it."""
    text = xml_of(write_data_set(elements, encoding), encoding).decode()
    return text[text.index("<DicomAttribute") : text.index("</NativeDicomModel>")]


def read(body: str) -> ModelItem:
    text = f"<NativeDicomModel>{body}</NativeDicomModel>"
    found = read_model(read_xml(text.encode())[0])
    encode_texts(found)
    return found.elements


# -- Written -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tag", "vr", "raw", "expected"),
    [
        (0x00080060, "CS", b"CT", '<Value number="1">CT</Value>'),
        (0x00080008, "CS", b"A\\\\B", ('<Value number="1">A</Value><Value number="2"/>'
                                      '<Value number="3">B</Value>')),
        (0x00104000, "LT", b"a<b>&\\\r\n", ('<Value number="1">a&lt;b&gt;&amp;\\&#13;'
         "\n</Value>")),
        (0x00180050, "DS", b"1.000000\\5.e-2",
         '<Value number="1">1.000000</Value><Value number="2">5.e-2</Value>'),
        (0x00280010, "US", b"\1\0\2\0", '<Value number="1">1</Value><Value number="2">2</Value>'),
        (0x00280009, "AT", b"\x54\0\x10\0", '<Value number="1">00540010</Value>'),
        (0x00189073, "FD", b"\0\0\0\0\0\0\xf0\x7f", '<Value number="1">INF</Value>'),
        (0x00100010, "PN", b"Doe^John^^Dr",
         ('<PersonName number="1"><Alphabetic><FamilyName>Doe</FamilyName>'
         "<GivenName>John</GivenName><NamePrefix>Dr</NamePrefix></Alphabetic></PersonName>")),
        (0x00100010, "PN", b"=B^C", ('<PersonName number="1"><Ideographic>'
         "<FamilyName>B</FamilyName><GivenName>C</GivenName></Ideographic></PersonName>")),
        (0x7FE00010, "OW", b"\1\0", "<InlineBinary>AQA=</InlineBinary>"),
    ],
)  # fmt: skip
def test_values(tag: int, vr: str, raw: bytes, expected: str) -> None:
    text = only([(tag, vr, raw)])
    head, _, content = text.removesuffix("</DicomAttribute>").partition(">")
    assert content == expected
    assert head.startswith(f'<DicomAttribute tag="{tag:08X}" vr="{vr}" keyword="')


def test_no_value() -> None:
    assert only([(0x00080060, "CS", b"")]) == (
        '<DicomAttribute tag="00080060" vr="CS" keyword="Modality"/>'
    )
    assert only([(0x00100010, "PN", b"==")]).endswith("/>")
    assert only([(0x00081140, "SQ", [[]])]).endswith('<Item number="1"></Item></DicomAttribute>')


def test_private_elements_name_their_creator() -> None:
    text = only(
        [
            (0x00090010, "LO", b"ONE & <TWO>"),
            (0x00090011, "LO", b"OTHER"),
            (0x00090012, "LO", b"OTHER"),
            (0x00091001, "SH", b"a"),
            (0x00091101, "SH", b"b"),
            (0x00091201, "SH", b"c"),
            (0x00091301, "SH", b"d"),
        ]
    )
    assert '<DicomAttribute tag="00090010" vr="LO">' in text
    assert 'tag="00090001" vr="SH" privateCreator="ONE &amp; &lt;TWO&gt;"' in text
    assert 'tag="00090001" vr="SH" privateCreator="OTHER"' in text
    assert 'tag="00091201" vr="SH" privateCreator="OTHER"' in text
    assert 'tag="00091301" vr="SH">' in text
    found = read(text)
    assert [(element.tag, element.value) for element in found.values()] == [
        (0x00090010, b"ONE & <TWO>"), (0x00090011, b"OTHER"), (0x00090012, b"OTHER"),
        (0x00091001, b"a"), (0x00091101, b"b"), (0x00091201, b"c"), (0x00091301, b"d"),
    ]  # fmt: skip


def test_what_xml_cannot_hold_is_replaced_and_said() -> None:
    parts: list[str] = []
    writer = XmlWriter(parts.append)
    data = write_data_set([(0x00104000, "LT", b"a\x0cb\x1b")], EXPLICIT_LITTLE)
    writer.data_set(data, EXPLICIT_LITTLE)
    assert "a?b" in "".join(parts)
    ET.fromstring("".join(parts).encode())
    assert any("XML does not have" in what for what in writer.forgiven)


def test_bulk_data_has_a_uri_or_is_left_out() -> None:
    elements: list[WritableElement] = [(0x7FE00010, "OW", b"\1\0")]
    assert (
        '<BulkData uri="x?a&amp;b"/>'
        in xml_of(
            write_data_set(elements, EXPLICIT_LITTLE), EXPLICIT_LITTLE, bulk=lambda value: "x?a&b"
        ).decode()
    )
    assert len(written(elements, bulk=left_out)) == 0


@pytest.mark.parametrize("encoding", [EXPLICIT_LITTLE, EXPLICIT_BIG, IMPLICIT_LITTLE])
@pytest.mark.parametrize("is_pretty", [False, True])
def test_it_is_read_back(encoding: Encoding, is_pretty: bool) -> None:
    elements: list[WritableElement] = [
        (0x00080005, "CS", b"ISO_IR 192"),
        (0x00100010, "PN", "Müller^Ä=山^田".encode()),
        (0x00104000, "LT", b" leading\n\tand\r\n trailing"),
        (0x00400275, "SQ", [[], [(0x00080050, "SH", b"A1")]]),
        (0x00401008, "LO", b"x"),
    ]
    data = write_data_set(elements, encoding)
    found = read_model(read_xml(xml_of(data, encoding, is_pretty=is_pretty))[0])
    encode_texts(found)
    assert found.elements[0x00100010].value == "Müller^Ä=山^田".encode()
    assert found.elements[0x00104000].value == b" leading\n\tand\r\n trailing"
    items = found.elements[0x00400275].value
    assert isinstance(items, list)
    assert [len(item) for item in items] == [0, 1]


def plain(item: ModelItem) -> dict[int, Any]:
    def value_of(value: object) -> object:
        return [plain(one) for one in value] if isinstance(value, list) else value

    return {tag: (one.vr, value_of(one.value)) for tag, one in item.items()}


@pytest.mark.parametrize(
    "path", [one for one in sorted(DATA.glob("*.dcm")) if one.stat().st_size < 200_000],
    ids=lambda path: path.name,
)  # fmt: skip
def test_it_says_what_json_says(path: Path) -> None:
    content = path.read_bytes()
    try:
        head = read_file_head(content)
        encoding = encoding_of(head.transfer_syntax_uid)
        data = content[head.data_set_offset :]
        text = json_of(data, encoding, tolerance=Tolerance.SALVAGE)
        in_json = read_model(read_json(text)[0])
    except (DataSetError, ModelError):
        pytest.skip("not for JSON, either")
    xml = xml_of(data, encoding, tolerance=Tolerance.SALVAGE)
    in_xml = read_model(read_xml(xml)[0])
    encode_texts(in_json)
    encode_texts(in_xml)
    ours, theirs = plain(in_xml.elements), plain(in_json.elements)
    for tag, (vr, value) in theirs.items():
        if vr == "PN":
            assert ours[tag][1].rstrip(b"^") == value.rstrip(b"^")
        elif not isinstance(value, list):
            assert ours[tag] == (vr, value)
    assert ours.keys() == theirs.keys()


@pytest.mark.skipif(which("dcm2xml") is None, reason="needs DCMTK")
@pytest.mark.parametrize("name", ["CT_small.dcm", "MR_small.dcm", "rtplan.dcm", "reportsi.dcm"])
def test_beside_dcm2xml(name: str) -> None:
    """What DCMTK writes is read, and is what we write."""
    if not (DATA / name).exists():
        pytest.skip(f"pydicom does not bring {name}")
    done = subprocess.run(
        ["dcm2xml", "-nat", str(DATA / name)], check=False, capture_output=True, timeout=60
    )
    if not done.stdout:
        pytest.skip("dcm2xml cannot write it")
    content = (DATA / name).read_bytes()
    head = read_file_head(content)
    ours_text = xml_of(content[head.data_set_offset :], encoding_of(head.transfer_syntax_uid))
    ours, theirs = read_xml(ours_text)[0], read_xml(done.stdout)[0]
    compared = 0
    for tag, attribute in theirs.items():
        if "Value" in attribute and attribute["vr"] not in ("SQ", "FL", "FD"):
            assert ours[tag]["Value"] == attribute["Value"], tag
            compared += 1
    assert compared > 10


# -- Read --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        (
            '<DicomAttribute tag="00100010" vr="PN"><PersonName number="1"><Alphabetic>'
            "<FamilyName>A</FamilyName><GivenName>B</GivenName></Alphabetic></PersonName>"
            "</DicomAttribute>"
        ),
        (
            '<DicomAttribute tag="00100010" vr="pn"><PersonName><Alphabetic><FamilyName>A^B'
            "</FamilyName></Alphabetic></PersonName></DicomAttribute>"
        ),
        '<DicomAttribute tag="00100010" keyword="PatientName"><Value>A^B</Value></DicomAttribute>',
    ],
)
def test_what_is_meant_is_taken(body: str) -> None:
    assert read(body)[0x00100010].value == b"A^B"


def test_numbers_of_values_count() -> None:
    body = (
        '<DicomAttribute tag="00080008" vr="CS"><Value number="3">C</Value>'
        '<Value number="1">A</Value></DicomAttribute>'
    )
    assert read(body)[0x00080008].value == b"A\\\\C"


def test_values_that_are_left_out_are_counted_over_all_attributes() -> None:
    def far(count: int, number: int) -> str:
        return "".join(
            f'<DicomAttribute tag="0009{n:04x}" vr="CS"><Value number="{number}">x</Value>'
            "</DicomAttribute>"
            for n in range(count)
        )

    (model,) = read_xml(f"<NativeDicomModel>{far(3, 1_000)}</NativeDicomModel>".encode())
    assert [len(one["Value"]) for one in model.values()] == [1_000] * 3
    with pytest.raises(ModelError, match="left out"):
        read_xml(f"<NativeDicomModel>{far(3, 1 << 19)}</NativeDicomModel>".encode())


def test_a_creator_without_a_block_gets_one() -> None:
    body = (
        '<DicomAttribute tag="00090010" vr="LO"><Value number="1">X</Value></DicomAttribute>'
        '<DicomAttribute tag="00090001" vr="SH" privateCreator="NEW"><Value>a</Value>'
        "</DicomAttribute>"
    )
    assert [(one.tag, one.value) for one in read(body).values()] == [
        (0x00090010, b"X"), (0x00090011, b"NEW"), (0x00091101, b"a"),
    ]  # fmt: skip


BOMB = "".join(f'<!ENTITY e{n + 1} "{f"&e{n};" * 10}">' for n in range(9))


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (f'<!DOCTYPE x [<!ENTITY e0 "lol">{BOMB}]><NativeDicomModel>&e9;</NativeDicomModel>',
         "DOCTYPE"),
        ('<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><NativeDicomModel/>', "DOCTYPE"),
        ('<!DOCTYPE x SYSTEM "http://127.0.0.1:1/x.dtd"><NativeDicomModel/>', "DOCTYPE"),
        ("<!DOCTYPE NativeDicomModel><NativeDicomModel/>", "DOCTYPE"),
        ("<NativeDicomModel>&nbsp;</NativeDicomModel>", "no XML"),
        ("", "no XML"), ("<NativeDicomModel>", "no XML"), ("{}", "no XML"),
        ('<?xml version="1.0" encoding="no-such"?><NativeDicomModel/>', "no XML"),
        ("<html/>", "<html>"), ('<NativeDicomModel xmlns="urn:x"/>', "NativeDicomModel"),
        ("<NativeDicomModel><Item/></NativeDicomModel>", "<Item>"),
        ("<NativeDicomModel>text</NativeDicomModel>", "text in"),
        (('<NativeDicomModel><DicomAttribute tag="00080008" vr="CS"><Value number="0">x</Value>'
         "</DicomAttribute></NativeDicomModel>"), "number"),
        (('<NativeDicomModel><DicomAttribute tag="00080008" vr="CS"><Value number="99999999">x'
         "</Value></DicomAttribute></NativeDicomModel>"), "number"),
        (('<NativeDicomModel><DicomAttribute tag="00080008" vr="CS"><Value number="1">x</Value>'
         '<Value number="1">y</Value></DicomAttribute></NativeDicomModel>'), "number 1"),
        (('<NativeDicomModel><DicomAttribute tag="00080008" vr="CS"/>'
         '<DicomAttribute tag="00080008" vr="CS"/></NativeDicomModel>'), "twice"),
        ('<NativeDicomModel><DicomAttribute vr="CS"/></NativeDicomModel>', "no tag"),
        ("<NativeDicomModel>" + '<DicomAttribute tag="00400275" vr="SQ"><Item>' * 100_000,
         "deeper"),
    ],
)  # fmt: skip
def test_what_is_refused(text: str, what: str) -> None:
    with pytest.raises(ModelError, match=what):
        read_model(read_xml(text.encode())[0])


def test_nesting_of_64_is_read() -> None:
    body = ""
    for _ in range(64):
        body = (
            f'<DicomAttribute tag="00400275" vr="SQ"><Item number="1">{body}</Item>'
            "</DicomAttribute>"
        )
    read(body)
    with pytest.raises(ModelError, match="deeper"):
        read(f'<DicomAttribute tag="00400275" vr="SQ"><Item>{body}</Item></DicomAttribute>')


def test_messages_show_no_value() -> None:
    with pytest.raises(ModelError) as raised:
        read('<DicomAttribute tag="00280010" vr="US"><Value>SECRET</Value></DicomAttribute>')
    assert "SECRET" not in str(raised.value)
