"""The walk over a whole data set: it finds what the reader reads, and says what it forgave."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest

from isocenter.engine.dataset import (
    EXPLICIT_BIG,
    EXPLICIT_LITTLE,
    IMPLICIT_LITTLE,
    DataSetError,
    DataSetLimitError,
    Element,
    Encoding,
    Fragments,
    Item,
    encoding_of,
    read_data_set,
    read_file_head,
    write_data_set,
)
from isocenter.engine.dataset.walker import (
    END,
    FRAGMENTS,
    ITEM,
    NOT_ITEMS,
    NULS,
    ODD_LENGTH,
    OUT_OF_ORDER,
    PADDING,
    SEQUENCE,
    VALUE,
    Found,
    Tolerance,
    fragments_of,
    walk,
)
from isocenter.engine.dataset.writer import WritableElement
from isocenter.engine.limits import Limits

DATA = Path(pydicom.__file__).parent / "data"
ROOMY = Limits(identifier=1 << 22)
SEQUENCE_TAG = 0x00400275
#: (0008,0018) UI of four bytes.
UID = b"\x08\0\x18\0UI\x04\x001.2\0"
ITEM_OPEN = b"\xfe\xff\x00\xe0\xff\xff\xff\xff"
ITEM_END = b"\xfe\xff\x0d\xe0\0\0\0\0"
SEQUENCE_OPEN = b"\x40\0\x75\x02SQ\0\0\xff\xff\xff\xff"
SEQUENCE_END = b"\xfe\xff\xdd\xe0\0\0\0\0"


def tree(data: bytes, found: Iterator[Found]) -> Item:
    """What `read_data_set` would give."""
    item: Item = {}
    for one in found:
        kind, tag, vr, start, end, _ = one
        if kind == END:
            break
        if kind == VALUE:
            item[tag] = Element(tag, vr, data[start:end])
        elif kind == FRAGMENTS:
            parts = Fragments(data[start:end] for start, end in fragments_of(data, one))
            item[tag] = Element(tag, vr, parts)
        elif kind == SEQUENCE:
            items = []
            for inner in found:
                if inner[0] == END:
                    break
                items.append(tree(data, found))
            item[tag] = Element(tag, "SQ", tuple(items))
    return item


def seeds() -> list[tuple[bytes, Encoding]]:
    found = []
    for path in sorted(DATA.rglob("*")):
        if path.is_file() and path.stat().st_size < 60_000:
            content = path.read_bytes()
            try:
                head = read_file_head(content)
            except DataSetError:
                continue
            encoding = encoding_of(head.transfer_syntax_uid)
            if not encoding.deflated:
                found.append((content[head.data_set_offset :], encoding))
    return found


def test_it_finds_what_the_reader_reads() -> None:
    compared = 0
    for data, encoding in seeds():
        try:
            expected = read_data_set(data, encoding, ROOMY)
        except DataSetError:
            continue
        assert tree(data, walk(data, encoding)) == expected
        compared += 1
    assert compared > 20


def test_of_damaged_ones_something_is_found() -> None:
    """In salvage none is refused; what was opened is closed, and nothing lies outside."""
    source = random.Random(1)
    originals = seeds()
    marks = [ITEM_OPEN, ITEM_END, SEQUENCE_END, bytes(8), b"  ", b"\xff"]
    refused: list[bool] = []
    for _ in range(3_000):
        data, encoding = source.choice(originals)
        damaged = bytearray(data[: source.choice((300, 1_000, 5_000))])
        for _ in range(source.randint(1, 4)):
            at = source.randrange(len(damaged) + 1)
            damaged[at : at + source.randint(0, 4)] = source.choice(marks)
        changed = bytes(damaged)
        open_ones: list[int] = []
        forgiven: dict[str, int] = {}
        for kind, _, _, start, end, _ in walk(
            changed, encoding, tolerance=Tolerance.SALVAGE, forgiven=forgiven
        ):
            assert 0 <= start <= end <= len(changed)
            if kind == END:
                open_ones.pop()
            elif kind in (SEQUENCE, ITEM):
                assert kind == ITEM or not open_ones or open_ones[-1] == ITEM
                open_ones.append(kind)
        assert not open_ones
        try:
            list(walk(changed, encoding))
        except DataSetError as error:
            refused.append(error.fault in forgiven)
    assert len(refused) > 1_000
    assert all(refused)


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"\x08\0\x18\0UI\x03\x001.2", ODD_LENGTH),
        (UID + b"\x08\0\x16\0UI\0\0", OUT_OF_ORDER),
        (UID + UID, OUT_OF_ORDER),
        (UID + b"   ", PADDING),
        (UID + bytes(24), NULS),
        (UID + b"\x40\0\x75\x02SQ\0\0\x08\0\0\x00garbage!", NOT_ITEMS),
        (UID + ITEM_END, "a delimitation item where nothing ends (PS3.5 7.5)"),
        (UID + SEQUENCE_OPEN, "a sequence without its delimitation (PS3.5 7.5)"),
        (UID + SEQUENCE_OPEN + ITEM_OPEN + SEQUENCE_END, "an item without its delimitation"),
        (UID + b"\x10\0\x10\0??\x04\0ABCD", "an element without a VR of PS3.5 6.2"),
    ],
)
def test_what_is_forgiven_is_said_and_strict_refuses_it(data: bytes, what: str) -> None:
    forgiven: dict[str, int] = {}
    list(walk(data, EXPLICIT_LITTLE, forgiven=forgiven))
    assert any(one.startswith(what) for one in forgiven)
    with pytest.raises(DataSetError, match=what.replace("(", r"\(").replace("?", ".")[:30]):
        list(walk(data, EXPLICIT_LITTLE, tolerance=Tolerance.STRICT))


def test_strict_takes_what_is_as_it_should_be() -> None:
    elements: list[WritableElement] = [
        (0x00080018, "UI", b"1.2\0"),
        (SEQUENCE_TAG, "SQ", [[(0x00080050, "SH", b"A1")], []]),
        (0x7FE00010, "OB", Fragments((b"", b"ab"))),
    ]
    for encoding in (EXPLICIT_LITTLE, EXPLICIT_BIG):
        data = write_data_set(elements, encoding)
        found = walk(data, encoding, tolerance=Tolerance.STRICT)
        assert tree(data, found) == read_data_set(data, encoding)


@pytest.mark.parametrize("cut", range(1, 60))
def test_a_truncated_data_set_is_kept_as_far_as_it_goes(cut: int) -> None:
    item = [(0x00080050, "SH", b"A1"), (0x00080060, "CS", b"CT")]
    whole = UID + write_data_set([(SEQUENCE_TAG, "SQ", [item, item])], EXPLICIT_LITTLE)
    data = whole[:-cut]
    forgiven: dict[str, int] = {}
    found = tree(data, walk(data, EXPLICIT_LITTLE, forgiven=forgiven, tolerance=Tolerance.SALVAGE))
    if len(data) >= len(UID):
        assert found[0x00080018].value == b"1.2\0"
    if len(data) not in (0, len(UID)):
        assert forgiven
        with pytest.raises(DataSetError):
            list(walk(data, EXPLICIT_LITTLE))


def test_what_stands_behind_a_damaged_sequence_goes_on() -> None:
    damaged = (
        b"\x40\0\x75\x02SQ\0\0\x10\0\0\0\xfe\xff\x00\xe0\x08\0\0\0\xff\xfe\xfd\xfc\xfb\xfa\xf9\xf8"
    )
    data = UID + damaged + b"\x40\0\x08\x10SH\x02\0AB"
    found = tree(data, walk(data, EXPLICIT_LITTLE, tolerance=Tolerance.SALVAGE))
    assert found[0x00401008].value == b"AB"


def test_un_of_undefined_length_is_read_as_implicit_vr() -> None:
    inner = write_data_set([(0x00080050, None, b"A1")], IMPLICIT_LITTLE)
    data = UID + b"\x41\0\x10\x10UN\0\0\xff\xff\xff\xff" + ITEM_OPEN + inner + ITEM_END
    data += SEQUENCE_END + b"\x42\0\x10\0ST\x02\0OK"
    found = tree(data, walk(data, EXPLICIT_LITTLE, tolerance=Tolerance.STRICT))
    assert found[0x00411010].value == ({0x00080050: Element(0x00080050, None, b"A1")},)
    assert found[0x00420010] == Element(0x00420010, "ST", b"OK")


def test_a_un_is_a_sequence_where_it_is_known_as_one_and_is_one() -> None:
    item = write_data_set([(SEQUENCE_TAG, None, [[(0x00080050, None, b"A1")]])], IMPLICIT_LITTLE)
    content = item[8:]
    for value, is_sequence in ((content, True), (content[:-2], False), (b"no items", False)):
        head = b"\x40\0\x75\x02UN\0\0" + len(value).to_bytes(4, "little")
        found = list(walk(UID + head + value, EXPLICIT_LITTLE, sequences={SEQUENCE_TAG}))
        assert (found[1][0] == SEQUENCE) is is_sequence


def test_nesting_has_a_bound() -> None:
    data = b""
    for _ in range(70):
        data = b"\x40\0\x75\x02SQ\0\0\xff\xff\xff\xff" + ITEM_OPEN + data + ITEM_END + SEQUENCE_END
    with pytest.raises(DataSetLimitError):
        list(walk(data, EXPLICIT_LITTLE))
    forgiven: dict[str, int] = {}
    list(walk(data, EXPLICIT_LITTLE, forgiven=forgiven, tolerance=Tolerance.SALVAGE))
    assert "sequences nested deeper than 64" in forgiven


def test_long_values_are_not_touched() -> None:
    """A bytearray that is walked may not be copied: its parts are not even asked for."""

    class Watched(bytearray):
        def __getitem__(self, place: object) -> object:  # type: ignore[override]
            if isinstance(place, slice) and place.stop - place.start > 64:
                raise AssertionError("a long value was read")
            return super().__getitem__(place)  # type: ignore[call-overload]

    data = write_data_set(
        [(0x00080018, "UI", b"1.2\0"), (0x7FE00010, "OW", bytes(1 << 20))], EXPLICIT_LITTLE
    )
    assert len(list(walk(Watched(data), EXPLICIT_LITTLE))) == 2


@pytest.mark.parametrize("encoding", [EXPLICIT_LITTLE, IMPLICIT_LITTLE, EXPLICIT_BIG])
def test_many_nuls_are_passed_over_at_once(encoding: Encoding) -> None:
    uid = write_data_set([(0x00080018, "UI", b"1.2\0")], encoding)
    data = uid + bytes(40 << 20) + uid
    assert len(list(walk(data, encoding))) == 2
    assert len(list(walk(uid + bytes((1 << 20) + 3), encoding))) == 1
