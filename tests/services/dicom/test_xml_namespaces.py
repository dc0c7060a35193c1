"""Namespaces of XML that is read: as expat would say them, and in no more memory than they take."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from isocenter.engine.errors import IsocenterError
from isocenter.services.dicom.creation.documents import document_kind
from isocenter.services.dicom.xml_namespaces import XmlNamespaces
from isocenter.services.dicom.xml_reader import read_xml
from isocenter.services.integration.sharing.xml_text import read_xml_document

LONG = "urn:" + "x" * 60_000
#: Names of their own, each with a prefix of that namespace.
ELEMENTS = "".join(f"<p:a{n}/>" for n in range(1_000))
ATTRIBUTES = " ".join(f'p:a{n}=""' for n in range(1_000))


def test_a_prefix_is_that_of_the_nearest_element_around() -> None:
    found = XmlNamespaces()
    assert found.opened("a", {}) == ("", "a")
    assert found.opened("p:b", {"xmlns:p": "urn:1", "xmlns": "urn:2"}) == ("urn:1", "b")
    assert found.opened("c", {}) == ("urn:2", "c")
    assert found.opened("p:d", {"xmlns:p": "urn:3"}) == ("urn:3", "d")
    found.closed()
    assert found.opened("p:e", {"xmlns": ""}) == ("urn:1", "e")
    assert found.opened("f", {}) == ("", "f")
    for _ in range(4):
        found.closed()
    with pytest.raises(ValueError, match="prefix"):
        found.opened("p:g", {})


def as_cda(text: bytes) -> object:
    return document_kind(Path("a.xml"), text, len(text))


@pytest.mark.parametrize("read", [read_xml_document, read_xml, as_cda])
@pytest.mark.parametrize(
    "text",
    [
        f'<a xmlns:p="{LONG}">{ELEMENTS}</a>',
        f'<a xmlns:p="{LONG}" {ATTRIBUTES}/>',
        f'<a xmlns:p="{LONG}"><b {ATTRIBUTES}/></a>',
        f'<NativeDicomModel xmlns:p="{LONG}" {ATTRIBUTES}/>',
        f'<ClinicalDocument xmlns="urn:hl7-org:v3" xmlns:p="{LONG}">{ELEMENTS}</ClinicalDocument>',
    ],
)
def test_a_long_namespace_is_not_repeated(read: Callable[[bytes], object], text: str) -> None:
    raw = text.encode()
    tracemalloc.start()
    try:
        try:
            read(raw)
        except IsocenterError:
            pass
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 10 << 20, "expat would have it 1,000 times"
