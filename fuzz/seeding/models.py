"""Seeds that are DICOM JSON and XML, and data sets to become such."""

from __future__ import annotations

from corpora import Seeds

from isocenter.engine.dataset import (
    EXPLICIT_BIG,
    EXPLICIT_LITTLE,
    IMPLICIT_LITTLE,
    Fragments,
    write_data_set,
)
from isocenter.engine.dataset.writer import WritableElement
from isocenter.services.dicom.json_writer import json_of
from isocenter.services.dicom.xml_writer import xml_of


def models() -> Seeds:
    elements: list[WritableElement] = [
        (0x00080005, "CS", b"ISO_IR 192"),
        (0x00080018, "UI", b"1.2"),
        (0x00090010, "LO", b"ACME"),
        (0x00091001, "UN", b"ab"),
        (0x00100010, "PN", "A^B=山=や".encode()),
        (0x00181041, "DS", b"1.0\\\\.5"),
        (0x00280009, "AT", b"\x18\0\x63\x10"),
        (0x00280010, "US", b"\1\0"),
        (0x00400275, "SQ", [[(0x00400009, "SH", b"S1")], []]),
        (0x00720076, "FL", b"\0\0\xc0\x7f"),
    ]
    data = write_data_set(elements, EXPLICIT_LITTLE)
    pixels = write_data_set([(0x7FE00010, "OB", Fragments((b"", b"ab")))], EXPLICIT_LITTLE)
    return {
        "explicit": b"\0" + data,
        "fragments": b"\0" + pixels,
        "twice": b"\0" + data + data,
        "implicit": b"\1" + write_data_set(elements, IMPLICIT_LITTLE),
        "big": b"\2" + write_data_set(elements, EXPLICIT_BIG),
        "json": b"\3" + json_of(data, EXPLICIT_LITTLE),
        "json-array": b'\3[{"00280010":{"vr":"US","Value":["1",2]}},{}]',
        "xml": b"\4" + xml_of(data, EXPLICIT_LITTLE),
        "doctype": b'\4<!DOCTYPE a [<!ENTITY e "x">]><NativeDicomModel>&e;</NativeDicomModel>',
    }
