"""Attributes changed on arrival: what changes, and that nothing else does."""

from __future__ import annotations

import struct
import subprocess
import zlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta, timezone
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.data import get_testdata_files
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset

from isocenter.engine.dataset import (
    EXPLICIT_LITTLE,
    IMPLICIT_LITTLE,
    DataSetError,
    Encoding,
    Fragments,
    Inflater,
    WritableElement,
    encoding_of,
    read_data_set,
    read_file_meta,
    write_data_set,
    write_file_meta,
)
from isocenter.engine.limits import Limits
from isocenter.services.archive.coercion import head as coercion_head
from isocenter.services.archive.coercion.coercer import (
    MAX_HEAD,
    Coercer,
    CoercionError,
    Edit,
    MapValue,
    RemoveAttribute,
    SetValue,
    check_edit,
)
from isocenter.services.archive.index.extraction import MAX_TEXT_LENGTH

# What pydicom has to say of its own test files.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")

IMPLICIT, EXPLICIT, BIG = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"
DEFLATED, JPEG = "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.4.70"
SYNTAXES = [IMPLICIT, EXPLICIT, BIG, DEFLATED, JPEG]

CHARACTER_SET, ACCESSION, MODALITY, INSTITUTION = 0x00080005, 0x00080050, 0x00080060, 0x00080080
NAME, PATIENT_ID, ROWS, ORIGINAL, PIXELS = (
    0x00100010,
    0x00100020,
    0x00280010,
    0x04000561,
    0x7FE00010,
)
NOW = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=timezone(timedelta(hours=1)))
#: The deflated bundled file has a nearly empty image.
ROOMY = Limits()


def coerce(
    data: bytes,
    syntax: str,
    edits: Sequence[Edit],
    *,
    cuts: Iterable[int] = (),
    now: datetime = NOW,
    system: str = "ARCHIVE",
    source: str = "CT1",
    limits: Limits = ROOMY,
) -> tuple[bytes, tuple[int, ...]]:
    """What *data*, cut into pieces, becomes, and what the coercer says was changed."""
    coercer = Coercer(
        syntax,
        lambda _: edits,
        frozenset(),
        system=system,
        source=source,
        now=lambda: now,
        limits=limits,
    )
    out = []
    start = 0
    for cut in [*sorted(cuts), len(data)]:
        piece = bytearray(data[start:cut])
        out += [bytes(buffer) for buffer in coercer.feed(piece)]
        # The caller uses its memory again.
        piece[:] = b"\xaa" * len(piece)
        start = cut
    out += [bytes(buffer) for buffer in coercer.finish()]
    return b"".join(out), coercer.changed


def texts_seen(data: bytes, syntax: str, wanted: Iterable[int]) -> Mapping[int, str]:
    """What the rules are told of *data*."""
    seen: list[Mapping[int, str]] = []

    def decide(texts: Mapping[int, str]) -> Sequence[Edit]:
        seen.append(texts)
        return ()

    coercer = Coercer(syntax, decide, frozenset(wanted), system="A", source="", now=lambda: NOW)
    coercer.feed(data)
    coercer.finish()
    (texts,) = seen
    return texts


def order(syntax: str) -> str:
    return ">" if syntax == BIG else "<"


def pixels(syntax: str) -> WritableElement:
    if syntax == JPEG:
        return (PIXELS, "OB", Fragments([b"", b"\xff\xd8" + bytes(200)]))
    return (PIXELS, "OW", bytes(range(256)) * 2)


def image(syntax: str, *, elements: Mapping[int, tuple[str, Any]] | None = None) -> bytes:
    """A data set of that syntax; *elements* are added, or replace others."""
    number = order(syntax) + "H"
    all_of_it: dict[int, tuple[str, Any]] = {
        0x00080000: ("UL", struct.pack(order(syntax) + "L", 999)),
        CHARACTER_SET: ("CS", b"ISO_IR 100"),
        0x00080018: ("UI", b"1.2.3"),
        ACCESSION: ("SH", b"A-1"),
        INSTITUTION: ("LO", b" Sankt J\xfcrgen"),
        0x00081115: ("SQ", [[(0x00081199, "SQ", [[]]), (0x0020000E, "UI", b"1.2")]]),
        0x00090010: ("LO", b"MAKER"),
        0x00091001: ("OB", b"odd things"),
        0x00100000: ("UL", struct.pack(order(syntax) + "L", 888)),
        NAME: ("PN", b"Doe^John"),
        PATIENT_ID: ("LO", b"P1"),
        ROWS: ("US", struct.pack(number, 16)),
    }
    all_of_it |= elements or {}
    return write_data_set(
        [
            *((tag, vr, value) for tag, (vr, value) in sorted(all_of_it.items())),
            pixels(syntax),
        ],
        encoding_of(syntax),
    )


def item_of(
    values: list[WritableElement], *, moment: bytes = b"20260102030405.000006+0100"
) -> list[WritableElement]:
    """An item of (0400,0561) as `coerce` makes it."""
    return [
        (0x04000550, "SQ", [values]),
        (0x04000562, "DT", moment),
        (0x04000563, "LO", b"ARCHIVE"),
        (0x04000564, "LO", b"CT1"),
        (0x04000565, "CS", b"COERCE"),
    ]


def inflated(data: bytes, syntax: str) -> bytes:
    if not encoding_of(syntax).deflated:
        return data
    inflater = Inflater(ROOMY)
    plain = b"".join(inflater.feed(data))
    inflater.finish()
    return plain


def read(data: bytes, syntax: str) -> Dataset:
    encoding = encoding_of(syntax)
    file = BytesIO(inflated(data, syntax))
    return read_dataset(file, encoding.implicit_vr, not encoding.big_endian)


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_every_byte_of_what_is_written(syntax: str) -> None:
    """Set, add, remove; groups that change lose their group length, others keep it."""
    rows = struct.pack(order(syntax) + "H", 16)
    before = image(syntax, elements={0x00280000: ("UL", struct.pack(order(syntax) + "L", 7))})
    after, changed = coerce(
        before,
        syntax,
        [
            SetValue(PATIENT_ID, "P-22"),
            RemoveAttribute(INSTITUTION),
            SetValue(MODALITY, "CT"),
            SetValue(ROWS, "512"),
            RemoveAttribute(0x00081115),
        ],
    )
    assert changed == (MODALITY, INSTITUTION, 0x00081115, PATIENT_ID, ROWS)
    expected = write_data_set(
        [
            (CHARACTER_SET, "CS", b"ISO_IR 100"),
            (0x00080018, "UI", b"1.2.3"),
            (ACCESSION, "SH", b"A-1"),
            (MODALITY, "CS", b"CT"),
            (0x00090010, "LO", b"MAKER"),
            (0x00091001, "OB", b"odd things"),
            (NAME, "PN", b"Doe^John"),
            (PATIENT_ID, "LO", b"P-22"),
            # As long as before.
            (0x00280000, "UL", struct.pack(order(syntax) + "L", 7)),
            (ROWS, "US", struct.pack(order(syntax) + "H", 512)),
            (
                ORIGINAL,
                "SQ",
                [
                    item_of(
                        [
                            (MODALITY, "CS", b""),
                            (INSTITUTION, "LO", b" Sankt J\xfcrgen"),
                            (
                                0x00081115,
                                "SQ",
                                [[(0x00081199, "SQ", [[]]), (0x0020000E, "UI", b"1.2")]],
                            ),
                            (PATIENT_ID, "LO", b"P1"),
                            (ROWS, "US", rows),
                        ]
                    )
                ],
            ),
            pixels(syntax),
        ],
        encoding_of(syntax),
    )
    assert inflated(after, syntax) == inflated(expected, syntax)
    assert len(after) % 2 == 0


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize(
    "edits",
    [
        (),
        (SetValue(PATIENT_ID, "P1"),),
        (SetValue(PATIENT_ID, "P1  "), SetValue(ROWS, "16"), SetValue(NAME, "Doe^John")),
        (SetValue(INSTITUTION, "Sankt Jürgen"),),
        (RemoveAttribute(MODALITY), RemoveAttribute(0x00091002)),
        (MapValue(PATIENT_ID, {"P2": "X"}, None), MapValue(MODALITY, {"CT": "MR"}, "MR")),
        (MapValue(PATIENT_ID, {"P1": "P1"}, "X"),),
        (SetValue(PATIENT_ID, "X"), SetValue(PATIENT_ID, "P1")),
        (SetValue(MODALITY, "CT"), RemoveAttribute(MODALITY)),
    ],
    ids=str,
)
def test_where_nothing_changes_the_bytes_are_the_same(syntax: str, edits: Sequence[Edit]) -> None:
    data = image(syntax)
    for cuts in ((), (3, 100, 101, len(data) - 1), range(1, len(data))):
        assert coerce(data, syntax, edits, cuts=cuts) == (data, ())


EDITS: list[Edit] = [
    SetValue(PATIENT_ID, "a longer ID"),
    SetValue(MODALITY, "CT"),
    RemoveAttribute(NAME),
    RemoveAttribute(0x00081115),
    MapValue(ACCESSION, {"A-1": "B-1"}, None),
]


@given(
    st.sampled_from(SYNTAXES),
    st.lists(st.sampled_from(EDITS), unique_by=str),
    st.lists(st.integers(0, 1_000), max_size=12),
)
def test_any_chunking_gives_the_same(syntax: str, edits: list[Edit], cuts: list[int]) -> None:
    data = undefined_lengths(syntax)
    whole, changed = coerce(data, syntax, edits)
    pieces, changed_in_pieces = coerce(
        data, syntax, edits, cuts=[min(cut, len(data)) for cut in cuts]
    )
    assert inflated(pieces, syntax) == inflated(whole, syntax)
    assert changed == changed_in_pieces
    if not changed:
        assert pieces == data


def test_byte_by_byte() -> None:
    for syntax in SYNTAXES:
        data = undefined_lengths(syntax)
        whole, _ = coerce(data, syntax, EDITS)
        pieces, _ = coerce(data, syntax, EDITS, cuts=range(1, len(data)))
        assert inflated(pieces, syntax) == inflated(whole, syntax)


def undefined_lengths(syntax: str) -> bytes:
    """`image` with a sequence of undefined length that has all kinds of items in it."""
    encoding = encoding_of(syntax)
    plain = Encoding(encoding.implicit_vr, encoding.big_endian)
    data = inflated(image(syntax), syntax)
    sign = order(syntax)
    group = struct.pack(sign + "HH", 0x0009, 0x0010)
    at = data.index(group)
    forever = 0xFFFFFFFF

    def mark(element: int, length: int) -> bytes:
        return struct.pack(sign + "HHL", 0xFFFE, element, length)

    def sequence(group: int, element: int) -> bytes:
        if plain.implicit_vr:
            return struct.pack(sign + "HHL", group, element, forever)
        return struct.pack(sign + "HH2sHL", group, element, b"SQ", 0, forever)

    inner = write_data_set([(PATIENT_ID, "LO", b"inner"), (0x00400555, "SQ", [[]])], plain)
    odd = (
        sequence(0x0008, 0x2112)
        + mark(0xE000, len(inner))
        + inner
        + mark(0xE000, forever)
        + inner
        + sequence(0x0040, 0xA730)
        + mark(0xE000, 0)
        + mark(0xE0DD, 0)
        + mark(0xE00D, 0)
        + mark(0xE0DD, 0)
    )
    whole = data[:at] + odd + data[at:]
    if not encoding.deflated:
        return whole
    deflater = zlib.compressobj(wbits=-15)
    deflated = deflater.compress(whole) + deflater.flush()
    return deflated + b"\0" * (len(deflated) & 1)


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_undefined_lengths_survive(syntax: str) -> None:
    data = undefined_lengths(syntax)
    after, changed = coerce(data, syntax, [SetValue(PATIENT_ID, "P2")])
    assert changed == (PATIENT_ID,)
    old, new = inflated(data, syntax), inflated(after, syntax)
    at = old.index(b"MAKER")
    assert new[:at] == old[:at]
    assert new.endswith(old[old.index(struct.pack(order(syntax) + "HH", 0x7FE0, 0x0010)) :])
    dataset = read(after, syntax)
    assert dataset.PatientID == "P2"
    (item,) = dataset.OriginalAttributesSequence
    assert list(raw_values(item.ModifiedAttributesSequence[0])) == [PATIENT_ID]
    # A sequence of undefined length is kept as it was when it is removed.
    removed, _ = coerce(data, syntax, [RemoveAttribute(0x00082112)])
    (item,) = read(removed, syntax).OriginalAttributesSequence
    kept = item.ModifiedAttributesSequence[0].SourceImageSequence
    assert [i.PatientID for i in kept] == ["inner", "inner"]


@cache
def bundled() -> tuple[tuple[str, str, bytes], ...]:
    """Name, transfer syntax and data set of every Part 10 file that pydicom has and can read."""
    found = []
    for path in sorted(path for path in map(Path, get_testdata_files()) if path.is_file()):
        content = path.read_bytes()
        if content[128:132] != b"DICM":
            continue
        try:
            meta = read_file_meta(content)
            syntax = meta.transfer_syntax_uid
            data = content[meta.data_set_offset :]
            read(data, syntax)
        except Exception:  # whatever pydicom raises: it cannot read it
            continue
        if int.from_bytes(inflated(data, syntax)[:2], "big" if syntax == BIG else "little") >= 8:
            found.append((str(path), syntax, data))
    return tuple(found)


#: Files that end in the middle, or announce more than there is, on purpose.
MALFORMED = {"MR_truncated.dcm", "rtplan_truncated.dcm"}


def raw_values(dataset: Dataset) -> dict[int, tuple[Any, ...]]:
    """What pydicom read before it decodes anything; group lengths left out."""
    found: dict[int, tuple[Any, ...]] = {}
    for tag in list(dataset.keys()):
        if tag.element:
            raw = dataset.get_item(tag)
            found[int(tag)] = (
                (raw.VR, raw.value) if hasattr(raw, "value_tell") else (raw.VR, str(raw.value))
            )
    return found


def test_pydicom_sees_exactly_the_change_in_all_its_files() -> None:
    edits: list[Edit] = [
        SetValue(PATIENT_ID, "coerced ID"),
        SetValue(ACCESSION, "coerced"),
        RemoveAttribute(0x00080070),
        MapValue(MODALITY, {"CT": "MR", "MR": "CT"}, "OT"),
        RemoveAttribute(NAME),
    ]
    tried = 0
    for name, syntax, data in bundled():
        if Path(name).name in MALFORMED:
            continue
        old = read(data, syntax)
        after, changed = coerce(data, syntax, edits, cuts=range(1_000, len(data), 10_007))
        new = read(after, syntax)
        before_values, after_values = raw_values(old), raw_values(new)
        items = new.OriginalAttributesSequence
        originals = raw_values(items[-1].ModifiedAttributesSequence[0])
        assert set(originals) == set(changed), name
        for tag in set(before_values) | set(after_values):
            if tag in changed:
                assert after_values.get(tag) != before_values.get(tag), name
                if tag in before_values:
                    assert originals[tag] == before_values[tag], name
                else:
                    assert not originals[tag][1], name
            elif tag != ORIGINAL:
                assert after_values[tag] == before_values[tag], (name, hex(tag))
        assert new.PatientID == "coerced ID"
        assert new.AccessionNumber == "coerced"
        assert "PatientName" not in new
        assert "Manufacturer" not in new
        modality = old.get("Modality") or ""
        expected = {"": "", "CT": "MR", "MR": "CT"}.get(modality, "OT")
        assert (new.get("Modality") or "") == expected, name
        assert items[-1].ReasonForTheAttributeModification == "COERCE"
        assert len(items) == len(old.get("OriginalAttributesSequence", [])) + 1
        tried += 1
    assert tried > 80


def test_all_bundled_files_pass_unchanged() -> None:
    for name, syntax, data in bundled():
        if Path(name).name in MALFORMED:
            continue
        edits: list[Edit] = [
            RemoveAttribute(0x00190099),
            SetValue(ACCESSION, "x"),
            RemoveAttribute(ACCESSION),
        ]
        if ACCESSION in read(data, syntax):
            edits = edits[:1]
        assert coerce(data, syntax, edits) == (data, ()), name
        assert coerce(data, syntax, [], cuts=(10, 1_000)) == (data, ()), name


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, BIG, DEFLATED])
def test_a_sequence_that_is_there_keeps_its_items(syntax: str) -> None:
    first = item_of([(NAME, "PN", b"First^One")], moment=b"20200101")
    data = image(syntax, elements={ORIGINAL: ("SQ", [first])})
    after, changed = coerce(data, syntax, [SetValue(PATIENT_ID, "P2")])
    second = item_of([(PATIENT_ID, "LO", b"P1")])
    expected = image(
        syntax, elements={ORIGINAL: ("SQ", [first, second]), PATIENT_ID: ("LO", b"P2")}
    )
    assert inflated(after, syntax) == inflated(expected, syntax)
    assert changed == (PATIENT_ID,)


def splice(data: bytes, element: bytes, syntax: str) -> bytes:
    """*data* with *element* before the pixels."""
    at = data.index(struct.pack(order(syntax) + "HH", 0x7FE0, 0x0010))
    return data[:at] + element + data[at:]


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, BIG])
@pytest.mark.parametrize("vr", [b"SQ", b"UN"])
@pytest.mark.parametrize("is_undefined", [False, True])
def test_other_ways_to_write_that_sequence(syntax: str, vr: bytes, is_undefined: bool) -> None:
    """UN holds implicit VR little endian, whatever is around it (PS3.5 6.2.2)."""
    sign = order(syntax)
    inside = sign if vr == b"SQ" else "<"
    encoding = encoding_of(syntax) if vr == b"SQ" else IMPLICIT_LITTLE
    item = write_data_set(item_of([(NAME, "PN", b"First^One")]), encoding)
    value = struct.pack(inside + "HHL", 0xFFFE, 0xE000, len(item)) + item
    if is_undefined:
        value += struct.pack(inside + "HHL", 0xFFFE, 0xE0DD, 0)
    length = 0xFFFFFFFF if is_undefined else len(value)
    if syntax == IMPLICIT:
        header = struct.pack(sign + "HHL", 0x0400, 0x0561, length)
    else:
        header = struct.pack(sign + "HH2sHL", 0x0400, 0x0561, vr, 0, length)
    data = splice(image(syntax), header + value, syntax)
    after, _ = coerce(data, syntax, [SetValue(ROWS, "513"), RemoveAttribute(0x00081115)])
    if syntax == BIG and vr == b"UN":
        # pydicom reads it in the byte order of the data set.
        before, both = (
            read_data_set(bytes_, encoding_of(syntax), sequences=frozenset([ORIGINAL, 0x04000550]))[
                ORIGINAL
            ].value
            for bytes_ in (data, after)
        )
        assert isinstance(before, tuple)
        assert isinstance(both, tuple)
        first, second = both
        assert (first,) == before
        assert isinstance(first, dict)
        assert isinstance(second, dict)
        values = second[0x04000550].value
        assert isinstance(values, tuple)
        (kept,) = values
        assert isinstance(kept, dict)
        assert kept[ROWS].value == struct.pack("<H", 16)
        assert second[0x04000563].value == b"ARCHIVE "
        return
    old, new = read(data, syntax), read(after, syntax)
    assert len(old.OriginalAttributesSequence) == 1
    first, second = new.OriginalAttributesSequence
    assert first == old.OriginalAttributesSequence[0]
    modified = second.ModifiedAttributesSequence[0]
    assert modified.Rows == 16
    assert modified.ReferencedSeriesSequence[0].SeriesInstanceUID == "1.2"
    assert second.ModifyingSystem == "ARCHIVE"
    assert second.SourceOfPreviousValues == "CT1"
    assert second.AttributeModificationDateTime == "20260102030405.000006+0100"


@pytest.mark.parametrize(
    ("vr", "value"), [("LO", b"words"), ("UN", b"neither is this"), ("SQ", b"nor this")]
)
def test_no_sequence_where_one_should_be(vr: str, value: bytes) -> None:
    data = image(EXPLICIT, elements={ORIGINAL: (vr, value)})
    with pytest.raises(CoercionError, match=r"\(0400,0561\) is no sequence"):
        coerce(data, EXPLICIT, [SetValue(PATIENT_ID, "P2")])
    assert coerce(data, EXPLICIT, [SetValue(PATIENT_ID, "P1")]) == (data, ())


def test_time_without_offset_and_source_unknown() -> None:
    after, _ = coerce(
        image(EXPLICIT),
        EXPLICIT,
        [SetValue(PATIENT_ID, "P2")],
        now=datetime(2026, 1, 2, 3, 4, 5),  # noqa: DTZ001
        source="",
    )
    (item,) = read(after, EXPLICIT).OriginalAttributesSequence
    assert item.AttributeModificationDateTime == "20260102030405.000000"
    assert item.SourceOfPreviousValues in ("", None)
    after, _ = coerce(
        image(EXPLICIT), EXPLICIT, [SetValue(PATIENT_ID, "P2")], now=NOW.astimezone(UTC)
    )
    (item,) = read(after, EXPLICIT).OriginalAttributesSequence
    assert item.AttributeModificationDateTime == "20260102020405.000006+0000"


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_what_the_rules_are_told(syntax: str) -> None:
    data = image(
        syntax,
        elements={MODALITY: ("CS", b""), 0x00104000: ("LT", b"x" * (MAX_TEXT_LENGTH + 10))},
    )
    wanted = [0x00080018, INSTITUTION, MODALITY, ROWS, NAME, 0x00081115, 0x00091001, 0x00104000]
    assert texts_seen(data, syntax, wanted) == {
        0x00080018: "1.2.3",
        INSTITUTION: "Sankt Jürgen",
        ROWS: "16",
        NAME: "Doe^John",
        0x00104000: "x" * MAX_TEXT_LENGTH,
    }
    assert texts_seen(data, syntax, ()) == {}
    assert texts_seen(b"", EXPLICIT, wanted) == {}


def test_the_rules_are_asked_once_when_the_head_is_there() -> None:
    data = image(EXPLICIT)
    end = data.index(struct.pack("<HH", 0x7FE0, 0x0010))
    asked = 0

    def decide(_: Mapping[int, str]) -> Sequence[Edit]:
        nonlocal asked
        asked += 1
        return [SetValue(PATIENT_ID, "P2")]

    coercer = Coercer(EXPLICIT, decide, frozenset(), system="A", source="", now=lambda: NOW)
    for start in range(end + 7):
        assert not coercer.feed(data[start : start + 1])
        assert not asked
    assert coercer.feed(data[end + 7 : end + 8])
    assert asked == 1
    tail = data[end + 8 :]
    # From here on what comes is what goes.
    (passed,) = coercer.feed(tail)
    assert passed is tail
    assert not coercer.finish()
    assert asked == 1


def test_a_head_in_the_first_piece_is_not_copied_when_it_stays() -> None:
    data = image(EXPLICIT)
    coercer = Coercer(EXPLICIT, lambda _: (), frozenset(), system="A", source="", now=lambda: NOW)
    (passed,) = coercer.feed(data)
    assert passed is data


def test_a_data_set_that_is_all_head() -> None:
    data = write_data_set([(PATIENT_ID, "LO", b"P1")], EXPLICIT_LITTLE)
    after, changed = coerce(data, EXPLICIT, [RemoveAttribute(PATIENT_ID)], cuts=(3, 9))
    assert changed == (PATIENT_ID,)
    assert list(read(after, EXPLICIT).keys()) == [ORIGINAL]
    after, changed = coerce(b"", EXPLICIT, [SetValue(PATIENT_ID, "P1")])
    assert read(after, EXPLICIT).PatientID == "P1"
    assert coerce(b"", EXPLICIT, []) == (b"", ())


@pytest.mark.parametrize(
    ("edits", "expected"),
    [
        ([MapValue(PATIENT_ID, {"P1": "one"}, None)], "one"),
        ([MapValue(PATIENT_ID, {"P2": "two"}, "other")], "other"),
        ([MapValue(PATIENT_ID, {"P1": ""}, "other")], None),
        ([SetValue(PATIENT_ID, "x"), MapValue(PATIENT_ID, {"x": "y"}, None)], "y"),
        ([RemoveAttribute(PATIENT_ID), SetValue(PATIENT_ID, "again")], "again"),
        ([RemoveAttribute(PATIENT_ID), MapValue(PATIENT_ID, {}, "default")], "absent"),
        ([SetValue(PATIENT_ID, "")], None),
        ([SetValue(PATIENT_ID, "a\\b")], ["a", "b"]),
    ],
    ids=str,
)
def test_edits_one_after_the_other(edits: list[Edit], expected: object) -> None:
    after, changed = coerce(image(EXPLICIT), EXPLICIT, edits)
    assert changed == (PATIENT_ID,)
    assert read(after, EXPLICIT).get("PatientID", "absent") in (expected, expected or "")


def test_values_without_content_are_not_mapped() -> None:
    data = image(EXPLICIT, elements={MODALITY: ("CS", b"  ")})
    assert coerce(data, EXPLICIT, [MapValue(MODALITY, {"": "CT"}, "MR")]) == (data, ())


@pytest.mark.parametrize(
    ("terms", "text", "raw"),
    [
        (b"ISO_IR 100", "Jürgen", b"J\xfcrgen"),
        (b"ISO_IR 192", "Jürgen", "Jürgen".encode()),
        (b"ISO_IR 144", "Юрий", b"\xce\xe0\xd8\xd9"),
        (b"GB18030", "王", "王".encode("gb18030")),
        (b"\\ISO 2022 IR 149", "홍", b"\x1b$)C\xc8\xab"),
        (b"", "Juergen", b"Juergen"),
        (b"no such set", "Juergen", b"Juergen"),
    ],
)
def test_text_is_written_in_the_character_set_of_the_data_set(
    terms: bytes, text: str, raw: bytes
) -> None:
    data = image(EXPLICIT, elements={CHARACTER_SET: ("CS", terms)})
    after, changed = coerce(data, EXPLICIT, [SetValue(NAME, text)])
    assert changed == (NAME,)
    assert read(after, EXPLICIT).get_item(NAME).value.rstrip() == raw
    assert coerce(after, EXPLICIT, [SetValue(NAME, text)]) == (after, ())


@pytest.mark.parametrize(
    ("terms", "text"),
    [(b"ISO_IR 100", "Юрий"), (b"", "Jürgen"), (b"no such set", "Jürgen"), (b"ISO_IR 144", "ü")],
)
def test_text_that_does_not_fit_is_refused(terms: bytes, text: str) -> None:
    data = image(EXPLICIT, elements={CHARACTER_SET: ("CS", terms)})
    for edit in (SetValue(NAME, text), MapValue(NAME, {"Doe^John": text}, None)):
        with pytest.raises(CoercionError, match=r"\(0010,0010\): a character is not in") as caught:
            coerce(data, EXPLICIT, [edit])
        assert text not in str(caught.value)
    with pytest.raises(CoercionError, match="modifying system"):
        coerce(data, EXPLICIT, [RemoveAttribute(NAME)], system=text)


def test_the_vr_of_the_data_set_is_kept() -> None:
    elements = {
        ACCESSION: ("LO", b"A-1"),  # SH in the dictionary
        0x00280106: ("SS", struct.pack("<h", -5)),  # US or SS
        PATIENT_ID: ("UN", b"P1"),
        0x00091002: ("DS", b"1.5"),
        0x00280011: ("UN", struct.pack("<H", 16)),
    }
    data = image(EXPLICIT, elements=elements)
    after, changed = coerce(
        data,
        EXPLICIT,
        [
            SetValue(ACCESSION, "B-1"),
            SetValue(0x00280106, "-7"),
            SetValue(PATIENT_ID, "P2"),
            MapValue(0x00091002, {"1.5": "2.5"}, None),
            MapValue(0x00280011, {"16": "512"}, None),
        ],
    )
    assert changed == tuple(sorted(elements))
    new = raw_values(read(after, EXPLICIT))
    assert new[ACCESSION] == ("LO", b"B-1 ")
    assert new[0x00280106] == ("SS", struct.pack("<h", -7))
    assert new[PATIENT_ID] == ("UN", b"P2")
    assert new[0x00091002] == ("DS", b"2.5 ")
    assert new[0x00280011] == ("UN", struct.pack("<H", 512))


def test_an_unknown_is_little_endian_also_in_big_endian() -> None:
    data = image(BIG, elements={0x00280011: ("UN", struct.pack("<H", 16))})
    assert texts_seen(data, BIG, [0x00280011]) == {0x00280011: "16"}
    after, _ = coerce(data, BIG, [SetValue(0x00280011, "512")])
    assert raw_values(read(after, BIG))[0x00280011] == ("UN", struct.pack("<H", 512))


def test_private_elements_keep_their_creator_in_the_copy() -> None:
    data = image(EXPLICIT)
    after, changed = coerce(data, EXPLICIT, [RemoveAttribute(0x00091001)])
    assert changed == (0x00091001,)
    (item,) = read(after, EXPLICIT).OriginalAttributesSequence
    kept = item.ModifiedAttributesSequence[0]
    assert kept.private_block(0x0009, "MAKER", create=False)[0x01].value == b"odd things"
    with pytest.raises(CoercionError, match=r"\(0009,1001\) with VR OB"):
        coerce(data, EXPLICIT, [SetValue(0x00091001, "text")])
    with pytest.raises(CoercionError, match=r"\(0009,1005\) with VR UN"):
        coerce(data, EXPLICIT, [SetValue(0x00091005, "text")])


def test_an_element_without_vr_amid_explicit_ones() -> None:
    stray = struct.pack("<HHL", 0x0010, 0x1000, 4) + b"OLD1"
    data = image(EXPLICIT)
    at = data.index(struct.pack("<HH2s", 0x0028, 0x0010, b"US"))
    data = data[:at] + stray + data[at:]
    assert texts_seen(data, EXPLICIT, [0x00101000]) == {0x00101000: "OLD1"}
    assert coerce(data, EXPLICIT, [SetValue(0x00101000, "OLD1")]) == (data, ())
    after, _ = coerce(data, EXPLICIT, [SetValue(NAME, "x")])
    assert stray in after
    after, _ = coerce(data, EXPLICIT, [SetValue(0x00101000, "NEW")])
    assert struct.pack("<HH2sH", 0x0010, 0x1000, b"LO", 4) + b"NEW " in after


def test_of_a_tag_that_comes_twice_one_is_left() -> None:
    once = write_data_set([(PATIENT_ID, "LO", b"P0")], EXPLICIT_LITTLE)
    data = once + image(EXPLICIT)
    after, changed = coerce(data, EXPLICIT, [SetValue(PATIENT_ID, "P2")])
    assert changed == (PATIENT_ID,)
    # The one that was not read is gone; the value that counted is what was kept.
    assert b"P0" not in after
    assert after.count(struct.pack("<HH", 0x0010, 0x0020)) == 2
    (item,) = read(after, EXPLICIT).OriginalAttributesSequence
    assert item.ModifiedAttributesSequence[0].PatientID == "P1"
    after, _ = coerce(data, EXPLICIT, [RemoveAttribute(PATIENT_ID)])
    assert "PatientID" not in read(after, EXPLICIT)


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT, BIG])
@pytest.mark.parametrize(
    ("late", "edits"),
    [
        ((PATIENT_ID, "LO", b"LATE"), [SetValue(PATIENT_ID, "P2")]),
        ((MODALITY, "CS", b"CT"), [RemoveAttribute(MODALITY)]),
        ((CHARACTER_SET, "CS", b"ISO_IR 192"), [SetValue(PATIENT_ID, "P2")]),
        ((ORIGINAL, "SQ", []), [SetValue(PATIENT_ID, "P2")]),
    ],
)
def test_what_comes_out_of_order_does_not_escape(
    syntax: str, late: WritableElement, edits: list[Edit]
) -> None:
    data = image(syntax) + write_data_set([late], encoding_of(syntax))
    for cuts in ((), (len(data) - 3,), range(1, len(data), 5)):
        with pytest.raises(CoercionError, match="out of order"):
            coerce(data, syntax, edits, cuts=cuts)
    assert coerce(data, syntax, [])[0] == data
    assert coerce(data, syntax, [RemoveAttribute(0x00081030)]) == (data, ())


NOT_TO_BE_EDITED = [
    CHARACTER_SET,
    0x00080016,
    0x00080018,
    0x0020000D,
    0x0020000E,
    0x00020010,
    0x00000002,
    0x00100000,
    ORIGINAL,
    0x04000562,
    PIXELS,
    0xFFFEE000,
]


@pytest.mark.parametrize("tag", NOT_TO_BE_EDITED, ids=hex)
@pytest.mark.parametrize("kind", [SetValue, RemoveAttribute, MapValue])
def test_what_may_not_be_edited(tag: int, kind: type[Edit]) -> None:
    edit: Edit
    if kind is SetValue:
        edit = SetValue(tag, "1")
    elif kind is RemoveAttribute:
        edit = RemoveAttribute(tag)
    else:
        edit = MapValue(tag, {}, None)
    with pytest.raises(ValueError, match=rf"\({tag >> 16:04X},{tag & 0xFFFF:04X}\)"):
        check_edit(edit)
    with pytest.raises(ValueError, match=rf"\({tag >> 16:04X},{tag & 0xFFFF:04X}\)"):
        coerce(image(EXPLICIT), EXPLICIT, [edit])


def test_edits_are_checked_before_there_is_an_object() -> None:
    check_edit(SetValue(NAME, "Jürgen"))
    check_edit(SetValue(NAME, "山田　太郎"))
    check_edit(SetValue(ROWS, "512"))
    check_edit(SetValue(0x00081030, ""))
    check_edit(SetValue(PATIENT_ID, "\\".join(["x" * 64] * 3)))
    check_edit(SetValue(0x00104000, "a line\r\nand a\\b"))
    check_edit(SetValue(0x00091001, "what it is only the data set knows"))
    check_edit(RemoveAttribute(0x00081115))
    check_edit(MapValue(PATIENT_ID, {"a": "b"}, None))
    faults: list[tuple[Edit, str]] = [
        (SetValue(ROWS, "many"), r"\(0028,0010\): the new value is none of VR US"),
        (SetValue(MODALITY, "ü"), r"\(0008,0060\): a CS"),
        (MapValue(ROWS, {"1": "x"}, None), r"\(0028,0010\)"),
        (MapValue(ROWS, {}, "-1"), r"\(0028,0010\)"),
        (SetValue(0x00081115, "x"), r"\(0008,1115\) has VR SQ"),
        (SetValue(PATIENT_ID, "many" * 17), r"\(0010,0020\): a new value is none of VR LO"),
        (SetValue(PATIENT_ID, "a\\many\n"), r"\(0010,0020\): a new value is none of VR LO"),
        (SetValue(0x00080020, "many"), r"\(0008,0020\): a new value is none of VR DA"),
        (MapValue(MODALITY, {"CT": "many"}, None), r"\(0008,0060\): a new value is none of VR CS"),
    ]
    for edit, fault in faults:
        with pytest.raises(ValueError, match=fault) as caught:
            check_edit(edit)
        assert "many" not in str(caught.value)


def test_values_that_the_vr_cannot_have() -> None:
    for edit in (SetValue(ROWS, "many"), SetValue(ROWS, "70000")):
        with pytest.raises(CoercionError, match=r"\(0028,0010\): the new value is none of VR US"):
            coerce(image(EXPLICIT), EXPLICIT, [edit])


def test_what_a_coercer_is_not_made_with() -> None:
    def make(wanted: int = NAME, system: str = "A") -> None:
        Coercer(
            EXPLICIT, lambda _: (), frozenset([wanted]), system=system, source="", now=lambda: NOW
        )

    make()
    with pytest.raises(ValueError, match=r"\(7FE0,0010\) comes behind"):
        make(wanted=PIXELS)
    for system in ("", "x" * 65):
        with pytest.raises(ValueError, match="modifying system"):
            make(system=system)


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_truncated_anywhere(syntax: str) -> None:
    """What passed is the beginning of what passes of the whole; the end says that it is none."""
    data = undefined_lengths(syntax)
    edits = [SetValue(PATIENT_ID, "P-2")]
    whole = inflated(coerce(data, syntax, edits)[0], syntax)
    ends = 0
    for size in range(len(data)):
        coercer = Coercer(
            syntax, lambda _: edits, frozenset(), system="ARCHIVE", source="CT1", now=lambda: NOW
        )
        passed = b"".join(bytes(buffer) for buffer in coercer.feed(data[:size]))
        if syntax != DEFLATED:
            assert whole.startswith(passed)
        try:
            rest = b"".join(bytes(buffer) for buffer in coercer.finish())
        except DataSetError:
            continue
        # It happens to end between two elements, or the padding of the deflate stream is gone.
        ends += 1
        if syntax != DEFLATED:
            assert len(passed + rest) < len(whole)
    # And where an item of a sequence behind the head might be missing.
    assert ends <= 30


def test_a_data_set_that_is_none() -> None:
    opened = struct.pack("<HH2sHL", 8, 0x1115, b"SQ", 0, 0xFFFFFFFF)
    with pytest.raises(DataSetError, match=r"PS3\.5 7\.5"):
        coerce(opened + struct.pack("<HHL", 8, 8, 0), EXPLICIT, [])
    # What is open at the end would hold whatever is added behind it.
    with pytest.raises(DataSetError, match="within an element"):
        coerce(opened, EXPLICIT, [])


def test_a_head_with_delimitation_items_in_the_wrong_place() -> None:
    """Passed over, as when nothing is changed, and passed on byte for byte."""
    opened = struct.pack("<HH2sHL", 8, 0x1115, b"SQ", 0, 0xFFFFFFFF)
    item = struct.pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF)
    end_of_item = struct.pack("<HHL", 0xFFFE, 0xE00D, 0)
    end = struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)
    patient = write_data_set([(PATIENT_ID, "LO", b"P1")], EXPLICIT_LITTLE)
    for odd in (
        end,
        end_of_item,
        item + end_of_item + end,
        struct.pack("<HHL", 0xFFFE, 0xE000, 4) + bytes(4),
        opened + end_of_item + end,
        opened + item + end,
        opened + item + item + end_of_item[:4] + b"\4\0\0\0" + end,
        opened + item + end_of_item,
        b"\x08\0\x05\0UT\0\0" + struct.pack("<L", 0xFFFFFFFF) + item + end_of_item + end,
        b"\x08\0\x05\x10cs\2\0AB",
    ):
        for cuts in ((), range(1, len(odd + patient))):
            out, changed = coerce(odd + patient, EXPLICIT, [SetValue(PATIENT_ID, "P-2")], cuts=cuts)
            assert changed == (PATIENT_ID,)
            assert out.startswith(odd)
            assert read_data_set(out[len(odd) :], EXPLICIT_LITTLE)[PATIENT_ID].value == b"P-2 "


def test_what_pads_the_data_set_stays_behind_what_is_added() -> None:
    patient = write_data_set([(PATIENT_ID, "LO", b"P1")], EXPLICIT_LITTLE)
    out, _ = coerce(patient + bytes(3), EXPLICIT, [SetValue(ACCESSION, "A2")])
    assert out.endswith(bytes(3))
    assert ACCESSION in read_data_set(out, EXPLICIT_LITTLE)


def test_heads_have_a_bound() -> None:
    # At the header that announces it: nothing of the value has come.
    announced = struct.pack("<HH2sHL", 9, 0x1001, b"OB", 0, MAX_HEAD)
    with pytest.raises(CoercionError, match="take more than 8388608 bytes"):
        coerce(announced, EXPLICIT, [])
    items = struct.pack("<HH2sHL", 8, 0x1115, b"SQ", 0, 0xFFFFFFFF)
    items += (struct.pack("<HHL", 0xFFFE, 0xE000, 1 << 20) + bytes(1 << 20)) * 9
    with pytest.raises(CoercionError, match="take more than 8388608 bytes"):
        coerce(items, EXPLICIT, [], cuts=range(100_000, len(items), 100_000))
    just_fits = write_data_set([(0x00091001, "OB", bytes(MAX_HEAD - 12))], EXPLICIT_LITTLE)
    assert coerce(just_fits, EXPLICIT, [])[0] == just_fits
    # Deflate blocks without content.
    empty = b"\0\0\0\xff\xff" * (2 << 20)
    with pytest.raises(CoercionError, match="take more than"):
        coerce(empty, DEFLATED, [], cuts=range(1 << 20, len(empty), 1 << 20))


def test_counts_and_nesting_have_bounds() -> None:
    many = struct.pack("<HHL", 9, 0x1001, 0) * (coercion_head.MAX_HEAD_ELEMENTS + 1)
    with pytest.raises(CoercionError, match="more than 20000 attributes"):
        coerce(many, IMPLICIT, [])
    deep = (
        struct.pack("<HHL", 8, 0x1115, 0xFFFFFFFF) + struct.pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF)
    ) * 100
    with pytest.raises(DataSetError, match="nested deeper than 64"):
        coerce(deep, IMPLICIT, [])


def test_a_deflated_bomb_is_no_worse_than_what_it_inflates_to() -> None:
    deflater = zlib.compressobj(wbits=-15)
    bomb = deflater.compress(write_data_set([(0x00091001, "OB", bytes(9 << 20))], EXPLICIT_LITTLE))
    with pytest.raises(CoercionError, match="take more than 8388608 bytes"):
        coerce(bomb + deflater.flush(), DEFLATED, [])


def test_a_deflate_stream_without_its_end() -> None:
    """Though all that it should hold has come out of it."""
    data = inflated(image(DEFLATED), DEFLATED)
    deflater = zlib.compressobj(wbits=-15)
    stream = deflater.compress(data) + deflater.flush(zlib.Z_SYNC_FLUSH)
    for edits in ([SetValue(PATIENT_ID, "P2")], [SetValue(PATIENT_ID, "P1")]):
        with pytest.raises(DataSetError, match="truncated"):
            coerce(stream, DEFLATED, edits)
        coerce(stream + deflater.copy().flush(), DEFLATED, edits)


@pytest.mark.interop("dcmdump", "dcmftest")
@pytest.mark.parametrize("syntax", SYNTAXES)
def test_dcmtk_reads_it(syntax: str, tmp_path: Path) -> None:
    data = undefined_lengths(syntax)
    first, _ = coerce(data, syntax, [SetValue(PATIENT_ID, "P-2"), RemoveAttribute(NAME)])
    after, _ = coerce(first, syntax, [SetValue(PATIENT_ID, "P-3"), SetValue(MODALITY, "CT")])
    meta = write_file_meta(
        sop_class_uid="1.2.840.10008.5.1.4.1.1.7",
        sop_instance_uid="1.2.3",
        transfer_syntax_uid=syntax,
        source_ae_title="CT1",
    )
    path = tmp_path / "after.dcm"
    path.write_bytes(meta + after)
    tested = subprocess.run(
        ["dcmftest", str(path)], capture_output=True, text=True, check=False, timeout=60
    )
    assert tested.stdout.startswith("yes:")
    dumped = subprocess.run(
        ["dcmdump", "+P", "0010,0020", "+P", "0400,0565", "+P", "0008,0060", "+p", str(path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert dumped.returncode == 0, dumped.stderr
    assert not dumped.stderr
    lines = [line.split("#")[0].split() for line in dumped.stdout.splitlines()]
    found = [(line[0], line[-1].strip("[]")) for line in lines if line and line[0][0] == "("]
    original = "(0400,0561).(0400,0550)."
    assert [value for path, value in found if path == "(0010,0020)"] == ["P-3"]
    assert [value for path, value in found if path == "(0008,0060)"] == ["CT"]
    assert [value for path, value in found if path == original + "(0010,0020)"] == ["P1", "P-2"]
    assert [value for path, value in found if path == "(0400,0561).(0400,0565)"] == ["COERCE"] * 2
