"""Deck of synthetic patients: what is planted where, in categories, to be found again or not.

What is planted is a word that stands nowhere else, so an answer needs no reader: it is in the bytes
of what was made, or it is not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydicom.datadict import DicomDictionary, dictionary_VR
from pydicom.dataset import Dataset

from isocenter.services.dicom.deidentification.rules import attribute_rows
from support.deidentification import patient

#: Family name, given name, Patient ID, date of birth.
IDENTITIES: Final = (
    ("Quixotebaum", "Zenobia", "ZQ-471100", "19430912"),
    ("Müller", "Jörg", "4711-08-15", "19991231"),
    ("山田", "太郎", "K0099887", "19600229"),
    ("Overby-Roe", "Aeneas", "X/77/123456", "20010101"),
)
_TEXTS: Final = ("LO", "LT", "PN", "SH", "ST", "UC", "UT")
_UID: Final = "1.2.99.4711.8"


@dataclass(frozen=True, slots=True)
class Planted:
    """An object, and the words that must not be in what is made of it."""

    category: str
    data_set: Dataset
    words: tuple[bytes, ...]


def _object(identity: tuple[str, str, str, str], **values: Any) -> Dataset:
    family, given, patient_id, birth = identity
    return patient(
        SpecificCharacterSet="ISO_IR 192", PatientName=f"{family}^{given}", PatientID=patient_id,
        PatientBirthDate=birth, **values,
    )  # fmt: skip


def _words(identity: tuple[str, str, str, str]) -> tuple[bytes, ...]:
    return tuple(text.encode() for text in identity)


def _listed() -> Iterator[tuple[int, str]]:
    for text in attribute_rows():
        if text.isalnum() and "X" not in text and text != "PRIVATE" and int(text[:4], 16) >= 8:
            tag = int(text, 16)
            if tag in DicomDictionary and tag != 0x00420011:
                yield tag, dictionary_VR(tag).split(" or ")[0]


def _with_text(into: Dataset, identity: tuple[str, str, str, str], only: set[str]) -> Dataset:
    """Names in each attribute of Table E.1-1 that can hold them."""
    family, given, *_ = identity
    for tag, vr in _listed():
        if vr in only and tag not in (0x00100010, 0x00100020):
            into.add_new(tag, vr, f"{family}^{given}" if vr == "PN" else given)
    return into


def deck() -> Iterator[Planted]:
    """All of it."""
    for identity in IDENTITIES:
        family, given, *_ = identity
        words = _words(identity)
        yield Planted("table", _with_text(_object(identity), identity, set(_TEXTS)), words)
        inner = _with_text(Dataset(), identity, set(_TEXTS))
        middle = Dataset()
        middle.DerivationCodeSequence = [inner]
        nested = _object(identity)
        nested.ReferencedInstanceSequence = [middle]
        yield Planted("table, nested", nested, words)
        dates = _object(identity)
        for tag, vr in _listed():
            if vr in ("DA", "DT"):
                dates.add_new(tag, vr, "20110315" + "101112" * (vr == "DT"))
        yield Planted("dates", dates, (b"20110315",))
        uids = _object(identity)
        for tag, vr in _listed():
            if vr == "UI":
                uids.add_new(tag, vr, _UID)
        uids.SOPInstanceUID, uids.ImageComments = "1.2.3.4.5", f"see {_UID}"
        reference = Dataset()
        reference.ReferencedSOPClassUID = uids.SOPClassUID
        reference.ReferencedSOPInstanceUID = _UID
        uids.ReferencedImageSequence = [reference]
        yield Planted("UIDs", uids, (_UID.encode(), b"1.2.3.4.5"))
        private = _object(identity)
        block = private.private_block(0x0029, "ACME CSA", create=True)
        block.add_new(0x10, "OB", given.encode() + b"\0" * (len(given.encode()) % 2))
        block.add_new(0x11, "LO", family)
        private.private_block(0x0031, "ACME 2", create=True).add_new(1, "SQ", [inner])
        yield Planted("private", private, words)
        for vr in (*_TEXTS, "CS", "OB"):
            if vr == "CS" and not family.isascii():
                continue
            yield Planted(f"not listed, {vr}", _not_listed(identity, vr), words)
        yield Planted("header of the file", _object(identity), (b"QUIXOTEBAUM", b"ZENOBIA_CT"))
    for text, hidden in SPELLINGS.items():
        one = _object(IDENTITIES[0], ReferringPhysicianName="Overby^Aeneas^^Dr.",
                      AccessionNumber="ACC998877")  # fmt: skip
        one.StudyDescription = one.SeriesDescription = text[:64]
        one.DerivationDescription = text
        yield Planted("spellings", one, (hidden.encode(),))


#: Free text, and what of it must not stay.
SPELLINGS: Final[Mapping[str, str]] = {
    "knee of ZENOBIA QUIXOTEBAUM": "ZENOBIA",
    "Quixotebaum, Z., left knee": "Quixotebaum",
    "zenobia's knee": "zenobia",
    "QuixoteBaum^Zenobia": "QuixoteBaum",
    "ID ZQ 471100 thorax": "471100",
    "zq471100": "zq471100",
    "born 12.09.1943, thorax": "12.09",
    "DOB 1943-09-12": "09-12",
    "acc ACC 998877": "998877",
    "for Dr. Overby": "Overby",
    "sent by Prof Smith": "Smith",
    "tel +49 89 123456": "123456",
    "mail z.quix@example.org": "example",
    "81 y/o female": "81 y",
    "55F Dr. Jones": "55F",
    "CT 03/15/2011 follow up": "03/15",
    "MRN12345678": "12345678",
    "Zénobia": "nobia",
    "patient of Mrs Taylor": "Taylor",
    "Quixote-baum": "baum",
    "Z.Q. knee": "Z.Q.",
    "neighbour Smithers said so": "Smithers",
}


def _not_listed(identity: tuple[str, str, str, str], vr: str) -> Dataset:
    listed = {tag for tag, _ in _listed()}
    found = [
        tag for tag, entry in DicomDictionary.items()
        if entry[0] == vr and tag not in listed and 0x00080000 < tag < 0x50000000
        and tag not in (0x00080005, 0x00080008, 0x00080060)
    ][40:60]  # fmt: skip
    made = _object(identity)
    family, given, *_ = identity
    for tag in found:
        if vr == "OB":
            made.add_new(tag, vr, given.encode() + b"\0" * (len(given.encode()) % 2))
        elif vr == "CS":
            made.add_new(tag, vr, given.upper()[:16])
        else:
            made.add_new(tag, vr, f"{family}^{given}" if vr == "PN" else given)
    return made


def is_hidden(content: bytes, words: tuple[bytes, ...]) -> bool:
    """Whether none of *words* is in *content*, in upper or lower case."""
    lower = content.lower()
    return not any(word in content or word.lower() in lower for word in words)
