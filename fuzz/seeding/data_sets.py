"""Seeds that are data sets: objects, identifiers, the heads of files."""

from __future__ import annotations

import struct
import zlib
from dataclasses import replace
from typing import Final

from corpora import Seeds

from isocenter.engine.dataset import (
    DEFLATED_LITTLE,
    EXPLICIT_BIG,
    EXPLICIT_LITTLE,
    IMPLICIT_LITTLE,
    Encoding,
    Fragments,
    WritableElement,
    write_data_set,
    write_file_meta,
)
from isocenter.engine.dataset.inflate import RAW_DEFLATE
from isocenter.engine.dataset.vr import ITEM, ITEM_DELIMITATION, SEQUENCE_DELIMITATION, SHORT_VRS
from isocenter.engine.uid import (
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
)
from isocenter.services.archive.index.attributes import Level
from isocenter.services.service_classes.query_retrieve.identifier import InformationModel
from isocenter.services.service_classes.query_retrieve.identifier_builder import build_identifier

_SYNTAXES: Final = (
    IMPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
)
#: In the order in which the targets choose them.
_ENCODINGS: Final = {
    "implicit": IMPLICIT_LITTLE,
    "explicit": EXPLICIT_LITTLE,
    "big-endian": EXPLICIT_BIG,
    "deflated": DEFLATED_LITTLE,
}
_END: Final = SEQUENCE_DELIMITATION


def _number(value: int, width: int, encoding: Encoding) -> bytes:
    return value.to_bytes(width, "big" if encoding.big_endian else "little")


def _elements(encoding: Encoding) -> list[WritableElement]:
    """A data set with elements of most kinds; nobody's."""
    us = _number(512, 2, encoding)
    item: list[WritableElement] = [
        (0x0008_0050, "SH", b"ACC1"),
        (0x0040_0007, "LO", b"\xe9 "),
        (0x0040_1001, "SH", b"RP"),
    ]
    elements: list[WritableElement] = [
        (0x0008_0005, "CS", b"ISO_IR 100"),
        (0x0008_0008, "CS", b"ORIGINAL\\PRIMARY "),
        (0x0008_0016, "UI", b"1.2.840.10008.5.1.4.1.1.2\0"),
        (0x0008_0018, "UI", b"1.2.3\0"),
        (0x0008_0020, "DA", b"20240229"),
        (0x0008_0030, "TM", b"115959.5"),
        (0x0008_0060, "CS", b"CT"),
        (0x0008_1140, "SQ", [[(0x0008_1155, "UI", b"1.2.4\0")], []]),
        (0x0009_0010, "LO", b"ISOCENTER "),
        (0x0009_1001, "FD", bytes(8)),
        (0x0010_0010, "PN", b"SEED^ONE=\xe9^X=Y "),
        (0x0010_0020, "LO", b"ID\\ID2"),
        (0x0010_1030, "DS", b"70.5"),
        (0x0020_000D, "UI", b"1.2.5\0"),
        (0x0020_000E, "UI", b"1.2.6\0"),
        (0x0020_0013, "IS", b"+01 "),
        (0x0028_0010, "US", us),
        (0x0028_0011, "US", us),
        (0x0028_0103, "US", us),
        (0x0028_0106, "US", us),
        (0x0040_0275, "SQ", [item]),
        (0x0040_9210, "UN", bytes(6)),
        (0x7FE0_0010, "OW", us * 4),
    ]
    return elements


def _undefined_lengths(encoding: Encoding) -> bytes:
    """Sequences, items and a UN of undefined length, nested, with a group length."""
    sign = ">" if encoding.big_endian else "<"

    def mark(tag: int, length: int) -> bytes:
        return struct.pack(sign + "HHI", tag >> 16, tag & 0xFFFF, length)

    def sequence(tag: int, vr: bytes) -> bytes:
        if encoding.implicit_vr:
            return mark(tag, 0xFFFF_FFFF)
        return struct.pack(sign + "HH2sHI", tag >> 16, tag & 0xFFFF, vr, 0, 0xFFFF_FFFF)

    inner = write_data_set([(0x0040_0000, "UL", bytes(4)), (0x0040_1001, "SH", b"RP")], encoding)
    item = mark(0xFFFE_E000, 0xFFFF_FFFF) + inner
    ends = mark(0xFFFE_E00D, 0) + mark(0xFFFE_E0DD, 0)
    unknown = struct.pack("<HHIHHI2s", 0xFFFE, 0xE000, 10, 0x0010, 0x0010, 2, b"A ")
    return (
        sequence(0x0008_1140, b"SQ")
        + mark(0xFFFE_E000, 0xFFFF_FFFF)
        + sequence(0x0040_0275, b"SQ")
        + item
        + ends
        + ends
        + sequence(0x0009_1001, b"UN")
        + unknown
        + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    )


_META: Final[list[WritableElement]] = [
    (0x0002_0000, "UL", b"\x1a\0\0\0"),
    (0x0002_0001, "OB", b"\0\1"),
    (0x0002_0010, "UI", b"1.2.840.10008.1.2\0"),
]


def _broken(encoding: Encoding) -> dict[str, bytes]:
    """Data sets with one fault each (PS3.5 7.5), and some that are only unusual."""
    sign = ">" if encoding.big_endian else "<"
    undefined = 0xFFFF_FFFF

    def mark(tag: int, length: int) -> bytes:
        return struct.pack(sign + "HHI", tag >> 16, tag & 0xFFFF, length)

    def header(tag: int, vr: bytes, length: int) -> bytes:
        if encoding.implicit_vr:
            return mark(tag, length)
        if vr.decode() in SHORT_VRS:
            return struct.pack(sign + "HH2sH", tag >> 16, tag & 0xFFFF, vr, length)
        return struct.pack(sign + "HH2sHI", tag >> 16, tag & 0xFFFF, vr, 0, length)

    name = header(0x0010_0010, b"PN", 2) + b"A "
    sequence = header(0x0040_0275, b"SQ", undefined)
    item, end_of_item, end = mark(ITEM, undefined), mark(ITEM_DELIMITATION, 0), mark(_END, 0)
    creator = header(0x0009_0010, b"LO", 10) + b"ISOCENTER "
    signed = header(0x0028_0103, b"US", 2) + struct.pack(sign + "H", 1)
    tail = header(0x7FE0_0010, b"OW", 2) + b"xx"

    def odd_vr(vr: bytes, length: bytes) -> bytes:
        return mark(0x0010_0010, 0)[:4] + vr + length + b"A " + tail

    short, long = struct.pack(sign + "H", 2), struct.pack(sign + "HI", 0, 2)
    in_implicit = replace(encoding, implicit_vr=True)
    return {
        "item-outside-with-value": name + mark(ITEM, 2) + b"xx" + tail,
        "open-item-outside": name + item + name + end_of_item + end + tail,
        "end-of-item-with-length": sequence + item + name + mark(ITEM_DELIMITATION, 2) + end + tail,
        "item-not-ended": sequence + item + name + end + tail,
        "items-not-ended": sequence + item + name + item + name + end_of_item + end + tail,
        "end-of-item-in-sequence": sequence + mark(ITEM, 0) + end_of_item + end + tail,
        "end-of-item-for-sequence": sequence + mark(ITEM, 0) + end_of_item + tail,
        "sequence-not-ended": sequence + mark(ITEM, 0) + tail,
        "end-in-defined": header(0x0040_0275, b"SQ", 16) + mark(ITEM, 0) + end + tail,
        "end-in-defined-item": header(0x0040_0275, b"SQ", 16) + mark(ITEM, 8) + end_of_item + tail,
        "no-sequence": header(0x0040_0275, b"SQ", 6) + b"no-sq " + tail,
        "bad-item-in-undefined": sequence + mark(ITEM, 8) + mark(0x0010_0010, 20) + end + tail,
        "items-in-private": creator + header(0x0009_1001, b"OB", undefined) + item + name
        + end_of_item + mark(ITEM, 2) + b"xx" + end + tail,
        "native-fragments": header(0x7FE0_0010, b"OW", undefined) + mark(ITEM, 4) + bytes(4)
        + mark(ITEM, 3) + b"abc" + mark(ITEM, 0) + end + header(0xFFFC_FFFC, b"OB", 2) + b"xx",
        "fragments-not-ended": header(0x7FE0_0010, b"OB", undefined) + mark(ITEM, 2) + b"xx",
        "questions": odd_vr(b"??", short),
        "spaces": odd_vr(b"  ", short),
        "nuls": odd_vr(b"\0\0", short),
        "lower-case": odd_vr(b"pn", short),
        "lower-case-long": odd_vr(b"ob", long),
        "unknown-short": odd_vr(b"UN", short),
        "new-vr-short": odd_vr(b"ZZ", short),
        "padded": name + bytes(21),
        "padded-with-spaces": name + b" " * 21,
        "padded-with-ones": name + b"\xff" * 21,
        "odd-length": header(0x0010_0010, b"PN", 1) + b"A" + tail,
        "vendor-group": write_data_set([(0x0005_0005, "CS", b"VENDOR")], encoding) + name,
        "meta": write_data_set(_META, encoding) + name,
        "meta-little": write_data_set(_META, EXPLICIT_LITTLE) + name,
        "meta-implicit": write_data_set(_META, in_implicit if sign == "<" else encoding) + name,
        "end-of-item-outside": name + end_of_item,
        "end-of-sequence-outside": name + end,
        "item-outside": name + item,
        "element-in-sequence": sequence + name,
        "end-with-length": sequence + mark(_END, 2) + b"xx",
        "item-too-long": header(0x0040_0275, b"SQ", 16) + mark(ITEM, 20) + name,
        "element-too-long": header(0x0040_0275, b"SQ", 16) + mark(ITEM, 8) + mark(0x0010_0010, 20),
        "nested": (sequence + item) * 3 + (end_of_item + end) * 3,
        "nested-defined": sequence + mark(ITEM, len(name)) + name + end,
        "undefined-text": header(0x0040_A160, b"UT", undefined) + end,
        "unknown-items": header(0x0040_0275, b"UN", undefined) + struct.pack(
            "<HHIHHI2sHHIHHI", 0xFFFE, 0xE000, undefined, 0x0010, 0x0010, 2, b"A ",
            0xFFFE, 0xE00D, 0, 0xFFFE, 0xE0DD, 0),
        "no-items-in-unknown": header(0x0040_0275, b"UN", 6) + b"no-sq ",
        "fragments": header(0x7FE0_0010, b"OW", undefined) + mark(ITEM, 2) + b"xx" + end,
        "no-fragments": header(0x7FE0_0010, b"OW", undefined) + name,
        "no-vr": mark(0x0010_0010, 2) + b"A ",
        "new-vr": struct.pack(sign + "HH2sHI", 0x0010, 0x0010, b"ZZ", 0, 2) + b"A ",
        "private": creator + header(0x0009_1001, b"FD", 8) + bytes(range(8)) + name,
        "private-without-creator": header(0x0009_1001, b"FD", 8) + bytes(range(8)),
        "signed": signed + header(0x0028_0106, b"SS", 2) + b"\xff\0" + sequence + item
        + header(0x0028_0106, b"SS", 2) + b"\xff\0" + end_of_item + end,
        "odd-numbers": header(0x7FE0_0009, b"OD", 9) + bytes(range(9)),
        "widths": header(0x0009_1001, b"FD", 8) + bytes(range(8))
        + header(0x7FE0_0008, b"OF", 8) + bytes(range(8)),
        "long-value": header(0x0010_0010, b"PN", 30) + bytes(30),
        "cut-in-header": name + name[:5],
        "cut-in-value": name[:-1],
        "cut-in-sequence": sequence + item,
    }  # fmt: skip


def _deflate(data: bytes) -> bytes:
    deflater = zlib.compressobj(wbits=RAW_DEFLATE)
    return deflater.compress(data) + deflater.flush()


def _data_sets() -> dict[str, tuple[int, bytes]]:
    """By name: number of the encoding, data set."""
    sets = {}
    for number, (name, encoding) in enumerate(_ENCODINGS.items()):
        plain = replace(encoding, deflated=False)
        compress = _deflate if encoding.deflated else bytes
        sets[name] = number, compress(write_data_set(_elements(plain), plain))
        sets[f"{name}-undefined-lengths"] = number, compress(_undefined_lengths(plain))
        sets[f"{name}-short"] = number, compress(write_data_set(_elements(plain)[:3], plain))
    for number, (name, encoding) in enumerate(list(_ENCODINGS.items())[:3]):
        for fault, data in _broken(encoding).items():
            sets[f"{name}-{fault}"] = number, data
    for fault in ("meta", "items-in-private", "no-sequence", "native-fragments", "padded"):
        sets[f"deflated-{fault}"] = 3, _deflate(_broken(EXPLICIT_LITTLE)[fault])
    sets["deflated-garbage"] = 3, b"\xff\xff\xff"
    sets["deflated-cut-short"] = 3, sets["deflated"][1][:-9]
    sets["deflated-with-more-behind"] = 3, sets["deflated"][1] + bytes(20)
    pixels: list[WritableElement] = [
        (0x7FE0_0010, "OB", Fragments((b"", b"\xff\xd8", b"\xff\xd9")))
    ]
    sets["encapsulated"] = 1, write_data_set(pixels, EXPLICIT_LITTLE)
    texts: list[WritableElement] = [
        (0x0008_0005, "CS", b"\\ISO 2022 IR 87\\ISO 2022 IR 149 "),
        (0x0010_0010, "PN", b"A=\x1b$B;3ED\x1b(B^\x1b$)C\xb1\xe8"),
    ]
    escapes: list[WritableElement] = [
        (0x0008_0005, "CS", b"\\ISO 2022 IR 87"),
        (0x0010_0010, "PN", b"A\x1b\xff\xe9=\x1b$B\xff\x1b(J\xe9=\x1b"),
    ]
    sets["broken-escapes"] = 0, write_data_set(escapes, IMPLICIT_LITTLE)
    sets["code-extensions"] = 0, write_data_set(texts, IMPLICIT_LITTLE)
    return sets


def scanner() -> Seeds:
    seeds = {}
    for cut, (name, (number, data)) in enumerate(_data_sets().items()):
        seeds[name] = bytes((cut, number | 8)) + data
        seeds[f"{name}-limits"] = bytes((cut, number | 4)) + data
    return seeds


def reader() -> Seeds:
    seeds = {}
    for name, (number, data) in _data_sets().items():
        seeds[name] = bytes((number | 8,)) + data
        seeds[f"{name}-limits"] = bytes((number | 4,)) + data
    return seeds


def reencoder() -> Seeds:
    return {
        f"{name}-to-{target}": bytes(((cut * 4 + number) % 256, source | number << 2)) + data
        for cut, (name, (source, data)) in enumerate(_data_sets().items())
        for number, target in enumerate(_ENCODINGS)
        # What is special is so in one direction as in the other.
        if name in _ENCODINGS or number == (source + 1 + cut % 2) % 3
    }


def stray_meta() -> Seeds:
    return {
        name: bytes((cut, number)) + data
        for cut, (name, (number, data)) in enumerate(_data_sets().items())
        if "-" not in name or "meta" in name or "vendor" in name
    }


def frames() -> Seeds:
    """Encapsulated images, whose fragments are told apart in each way that there is."""
    jpeg = [b"\xff\xd8\xff" + bytes([letter]) * 5 + b"\xff\xd9" for letter in b"abc"]
    pieces = [half for each in jpeg for half in (each[:4], each[4:])]
    offsets = [sum(8 + len(each) for each in pieces[:index]) for index in (0, 2, 4)]
    table = struct.pack("<3I", *offsets)
    extended: list[WritableElement] = [
        (0x7FE0_0001, "OV", struct.pack("<3Q", *offsets)),
        (0x7FE0_0002, "OV", struct.pack("<3Q", *(9, 9, 9))),
    ]
    head: list[WritableElement] = [(0x0028_0008, "IS", b"3 "), (0x0028_0010, "US", b"\1\0")]
    images = {
        "one-each": (head, [b"", *jpeg]),
        "basic-table": (head, [table, *pieces]),
        "extended-table": (head + extended, [b"", *pieces]),
        "wrong-table": (head, [struct.pack("<3I", 0, 5, 9), *pieces]),
        "marks": (head, [b"", *pieces]),
        "odd": (head, [b"", b"12345", *jpeg]),
    }
    number = 1 | 3 << 2  # explicit little endian, three frames
    made = {
        name: bytes((cut, number))
        + write_data_set([*elements, (0x7FE0_0010, "OB", Fragments(values))], EXPLICIT_LITTLE)
        for cut, (name, (elements, values)) in enumerate(images.items())
    }
    native = write_data_set([*head, (0x7FE0_0010, "OW", bytes(36))], EXPLICIT_LITTLE)
    return made | {
        "not-delimited": made["marks"][:-8],
        "cut": made["marks"][:-14],
        "native": bytes((3, number | 1 << 6)) + native,
        "bits": bytes((3, number)) + native,
    }


def records() -> Seeds:
    return {name: bytes((number,)) + data for name, (number, data) in _data_sets().items()}


_QUERIES: Final[dict[str, tuple[Level, dict[str, str]]]] = {
    "patients": (Level.PATIENT, {"PatientName": "SEED*", "PatientID": "", "PatientSex": "F"}),
    "studies": (
        Level.STUDY,
        {
            "StudyDate": "20240101-20240229",
            "StudyTime": "-1159",
            "ModalitiesInStudy": "CT\\MR",
            "PatientName": "S?ED^*=*",
            "StudyDescription": '""',
            "NumberOfStudyRelatedSeries": "",
        },
    ),
    "series": (
        Level.SERIES,
        {
            "PatientID": "ID",
            "StudyInstanceUID": "1.2.5",
            "SeriesNumber": "+01",
            "SeriesDate": "2024.02.29",
            "0040,0275[0].0040,1001": "RP*",
            "0040,0275[0].0040,0555": "",
            "0009,1001": "",
        },
    ),
    "images": (
        Level.IMAGE,
        {
            "PatientID": "ID",
            "StudyInstanceUID": "1.2.5",
            "SeriesInstanceUID": "1.2.6",
            "SOPInstanceUID": "1.2.3\\1.2.4",
            "Rows": "512",
        },
    ),
    "names": (Level.STUDY, {"PatientName": "\u5c71\u7530^\u592a\u90ce*", "PatientSize": "1.70"}),
}


def identifiers() -> Seeds:
    seeds = {}
    for name, (level, keys) in _QUERIES.items():
        root = InformationModel.STUDY if level is Level.STUDY else InformationModel.PATIENT
        for number, syntax in enumerate(_SYNTAXES):
            head = number | list(InformationModel).index(root) << 2
            if syntax == DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN:
                data = _deflate(build_identifier(keys.items(), level, EXPLICIT_VR_LITTLE_ENDIAN))
            else:
                data = build_identifier(keys.items(), level, syntax)
            for flags in (0, 3, 4, 8):
                if number == flags % 3 or not flags:
                    ending = list(_ENCODINGS)[number]
                    seeds[f"{name}-{ending}-{flags}"] = bytes((head, flags)) + data
    japanese = build_identifier(
        [("PatientName", "\u5c71\u7530^\u592a\u90ce")],
        Level.STUDY,
        IMPLICIT_VR_LITTLE_ENDIAN,
        character_set=("", "ISO 2022 IR 87"),
    )
    at_studies: WritableElement = (0x0008_0052, "CS", b"STUDY ")
    wrong: dict[str, list[WritableElement]] = {
        "sequence-for-a-name": [at_studies, (0x0010_0010, "SQ", [[(0x0010_0020, "LO", b"ID")]])],
        "name-for-a-sequence": [at_studies, (0x0040_0275, "PN", b"A ")],
        "two-items": [at_studies, (0x0040_0275, "SQ", [[], []])],
        "no-range": [(0x0008_0020, "DA", b"2024-1"), at_studies],
        "many-stars": [at_studies, (0x0010_0010, "PN", b"*a" * 20)],
        "long-key": [at_studies, (0x0010_0010, "PN", b"a" * 1_030)],
        "list-with-wild-card": [at_studies, (0x0010_0010, "PN", b"a*\\b")],
        "uid-with-star": [at_studies, (0x0020_000D, "UI", b"1.*\0")],
    }
    return (
        seeds
        | {"code-extensions": b"\0\1" + japanese}
        | {name: b"\5\0" + write_data_set(keys, EXPLICIT_LITTLE) for name, keys in wrong.items()}
    )


def file_meta() -> Seeds:
    whole = write_file_meta("1.2", "1.3", EXPLICIT_VR_LITTLE_ENDIAN, "SEED")
    group = whole[132:]
    data = {name: write_data_set(_elements(e)[:4], e) for name, e in list(_ENCODINGS.items())[:3]}
    implicit = struct.pack("<HHI", 2, 0x0010, 18) + b"1.2.840.10008.1.2\0"
    private = struct.pack("<HH2sHI", 2, 0x0102, b"OB", 0, 4) + bytes(4)
    leftover = write_data_set(
        [(0x0002_0002, "UI", b"1.9\0"), (0x0002_0010, "UI", b"1.2.840.10008.1.2\0")],
        EXPLICIT_LITTLE,
    )
    big = write_data_set([(0x0002_0010, "UI", b"1.2.840.10008.1.2.2\0")], EXPLICIT_BIG)
    header = bytes(128) + b"DICM"
    wrong = bytearray(group)
    wrong[8:12] = struct.pack("<I", 40)
    return {
        "whole": b"\1" + group + data["explicit"],
        "private": b"\1" + group + private + data["explicit"],
        "without-length": b"\1" + group[12:] + data["explicit"],
        "without-preamble": b"\0" + group + data["explicit"],
        "with-preamble": b"\0" + whole,
        "implicit-group": b"\1" + group[:12] + implicit + data["implicit"],
        "cut-short": b"\1" + group[:-3],
        "leftover": b"\1" + group + leftover + data["explicit"],
        "leftover-no-length": b"\1" + group[12:] + leftover + data["explicit"],
        "wrong-length": b"\1" + bytes(wrong) + data["explicit"],
        "big-endian-group": b"\1" + big + data["big-endian"],
        "two-preambles": b"\1" + header + group + data["explicit"],
        "within-a-file": b"\1" + group + header + group + data["explicit"],
        "nuls": b"\1" + group + bytes(40) + data["explicit"],
        "contradicts": b"\1" + group + data["implicit"],
        "no-syntax": b"\1" + leftover[:12] + data["big-endian"],
        "leftover-alone": b"\0" + leftover + data["explicit"],
        "leftover-in-front": leftover + data["explicit"],
    } | {f"bare-{name}": b"\0" + each for name, each in data.items()}


def validation() -> Seeds:
    """A data set in each encoding; the same as another kind of object; a report; nested deeply."""
    seeds: Seeds = {}
    for number, name in enumerate(("implicit", "explicit", "big-endian")):
        encoding = _ENCODINGS[name]
        seeds[name] = bytes((number, 255)) + write_data_set(_elements(encoding), encoding)
    for kind in (1, 4, 8, 13, 16):
        seeds[f"kind-{kind}"] = bytes((1, kind)) + write_data_set(
            _elements(EXPLICIT_LITTLE), EXPLICIT_LITTLE
        )
    code: list[WritableElement] = [
        (0x0008_0100, "SH", b"1 "), (0x0008_0102, "SH", b"DCM "), (0x0008_0104, "LO", b"x "),
    ]  # fmt: skip
    item: list[WritableElement] = [
        (0x0040_A010, "CS", b"CONTAINS"), (0x0040_A040, "CS", b"TEXT"),
        (0x0040_A043, "SQ", [code]), (0x0040_A160, "UT", b"t "),
    ]  # fmt: skip
    report: list[WritableElement] = [
        (0x0008_0016, "UI", b"1.2.840.10008.5.1.4.1.1.88.33\0"), (0x0008_0060, "CS", b"SR"),
        (0x0040_A040, "CS", b"CONTAINER "), (0x0040_A730, "SQ", [item, item]),
    ]  # fmt: skip
    seeds["report"] = b"\1\xff" + write_data_set(report, EXPLICIT_LITTLE)
    deep: list[WritableElement] = item
    for _ in range(60):
        deep = [(0x0040_A040, "CS", b"CONTAINER "), (0x0040_A730, "SQ", [deep])]
    seeds["deep"] = b"\1\xff" + write_data_set(deep, EXPLICIT_LITTLE)
    return seeds
