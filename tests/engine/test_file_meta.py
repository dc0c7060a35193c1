"""File Meta Information: written, read, and where it ends in files that break PS3.10 7.1."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isocenter.engine.dataset import (
    EXPLICIT_BIG,
    EXPLICIT_LITTLE,
    FILE_HEAD_LENGTH,
    IMPLICIT_LITTLE,
    DataSetError,
    Encoding,
    FileMeta,
    read_file_meta,
    write_data_set,
    write_file_meta,
)
from isocenter.engine.dataset.file_meta import is_file_meta_of
from isocenter.engine.uid import (
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
)

# What pydicom has to say of its own test files.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")

DATA = Path(pydicom.__file__).parent / "data"


def files() -> list[Path]:
    return [
        path
        for path in sorted(DATA.rglob("*"))
        if path.is_file() and path.read_bytes()[128:132] == b"DICM"
    ]


def test_every_bundled_meta_is_what_pydicom_reads() -> None:
    for path in files():
        meta = read_file_meta(path.read_bytes())
        theirs = pydicom.dcmread(path).file_meta
        assert meta.transfer_syntax_uid == theirs.get("TransferSyntaxUID", ""), path.name
        assert meta.media_storage_sop_instance_uid == theirs.get("MediaStorageSOPInstanceUID", "")
        assert set(meta.elements) - {0x00020000} == set(map(int, theirs.keys())) - {0x00020000}


META = write_file_meta("1.2", "1.2.3", "1.2.840.10008.1.2", "AE")


@pytest.mark.parametrize(
    ("more", "text"),
    [
        (b"\x02\0", "ends within group 0002"),
        (b"\x02\0\x16\0AE\x02", "ends within group 0002"),
        (b"\x02\0\x02\x01OB\0\0", "ends within group 0002"),
        (b"\x02\0\x16\0AE\x02\0A", r"ends within \(0002,0016\)"),
        (b"\x02\0\x02\x01OB\0\0\0\0\x02\0", "longer than"),
    ],
)
def test_meta_that_is_cut_short_or_too_long(more: bytes, text: str) -> None:
    """Where its length does not say that it has ended: then these are the data set's."""
    with pytest.raises(DataSetError, match=text):
        read_file_meta(META[:132] + META[144:] + more)
    assert read_file_meta(META + more).data_set_offset == len(META)


@pytest.mark.parametrize("rest", [b"", b"\x08\0", b"\x08\0\x16\0UI\0", b"\x08\0\x16\0UI\0\0"])
def test_meta_ends_where_another_group_starts(rest: bytes) -> None:
    """However little there is of that group."""
    assert read_file_meta(META + rest).data_set_offset == len(META)


def test_a_deflated_data_set_may_begin_as_group_0002_does() -> None:
    """Its bytes are anything; behind the announced end they must at least have a VR to be of it."""
    deflated = b"\x02\0\x16\0\x9d\xff" + bytes(40)
    assert read_file_meta(META + deflated).data_set_offset == len(META)


def test_written_meta_has_its_right_length() -> None:
    meta = write_file_meta("1.2", "1.2.3", "1.2.840.10008.1.2", "AE")
    assert meta[:128] == bytes(128)
    assert meta[128:140] == b"DICM\x02\0\0\0UL\x04\0"
    (length,) = struct.unpack_from("<I", meta, 140)
    assert length == len(meta) - 144
    read = read_file_meta(meta + b"data set")
    assert read.data_set_offset == len(meta)
    assert read.elements[0x00020001] == b"\0\x01"
    assert read.elements[0x00020016] == b"AE"
    assert read.media_storage_sop_class_uid == "1.2"
    ds = pydicom.dcmread(io.BytesIO(meta))
    assert ds.file_meta.SourceApplicationEntityTitle == "AE"
    assert 0x00020016 not in read_file_meta(write_file_meta("1", "2", "3")).elements


@pytest.mark.parametrize("wrong", [0, 1, 0xFFFFFFFF, 100_000])
def test_a_wrong_group_length_is_not_believed(wrong: int) -> None:
    meta = bytearray(write_file_meta("1.2", "1.2.3", "1.2.840.10008.1.2"))
    right = read_file_meta(bytes(meta) + bytes(20))
    meta[140:144] = struct.pack("<I", wrong)
    data_set = write_data_set([(0x00080060, "CS", b"CT")], EXPLICIT_LITTLE)
    read = read_file_meta(bytes(meta) + data_set)
    assert read.transfer_syntax_uid == "1.2.840.10008.1.2"
    assert read.data_set_offset == right.data_set_offset


def test_group_0002_without_length_or_preamble() -> None:
    meta = write_file_meta("1.2", "1.2.3", "1.2.840.10008.1.2")
    assert read_file_meta(meta[:132] + meta[144:]).transfer_syntax_uid == "1.2.840.10008.1.2"
    assert read_file_meta(meta[132:]).data_set_offset == len(meta) - 132


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"GIF89a",
        bytes(200),
        bytes(128) + b"DICM\x02\0\0\0UL\x04\0\0",
        bytes(128) + b"DICM\x02\0\x02\0UI\x40\0" + b"1.2",
        bytes(128) + b"DICM\x02\0\x01\0OB\0\0\xff\xff\xff\xff",
        bytes(128) + b"DICM\x02\0\x01\0OB\0\0" + struct.pack("<I", 70_000) + bytes(70_000),
    ],
)
def test_no_part_10_file(content: bytes) -> None:
    with pytest.raises(DataSetError):
        read_file_meta(content)


# --- Where it ends ----------------------------------------------------------------------------

JPEG = "1.2.840.10008.1.2.4.70"
PRIVATE_SYNTAX = "1.2.3.4"
PREAMBLE = bytes(128) + b"DICM"
CLASS, INSTANCE = "1.2.840.10008.5.1.4.1.1.7", "1.2.3"


def element(
    number: int, value: str | bytes, vr: str = "UI", encoding: Encoding = EXPLICIT_LITTLE
) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    raw += b"\0" * (len(raw) % 2)
    return write_data_set([(0x0002_0000 + number, vr, raw)], encoding)


def group(
    syntax: str = JPEG,
    length: int | None = 0,
    encoding: Encoding = EXPLICIT_LITTLE,
    more: bytes = b"",
) -> bytes:
    """Group 0002; *length*: how much longer its group length says it is, None: it says nothing."""
    body = element(2, CLASS, encoding=encoding) + element(3, INSTANCE, encoding=encoding)
    if syntax:
        body += element(0x10, syntax, encoding=encoding)
    body += element(0x12, "1.2.826.0.1.3680043", encoding=encoding) + more
    if length is None:
        return body
    announced = (len(body) + length).to_bytes(4, "big" if encoding.big_endian else "little")
    return element(0, announced, "UL", encoding) + body


ELEMENTS = [
    (0x0008_0005, "CS", b"ISO_IR 100"),
    (0x0008_0016, "UI", CLASS.encode() + b"\0"),
    (0x0008_0018, "UI", INSTANCE.encode() + b"\0"),
    (0x0008_0020, "DA", b"20200102"),
    (0x0008_0060, "CS", b"CT"),
    (0x0010_0020, "LO", b"ID"),
    (0x0020_000D, "UI", b"1.2.4\0"),
    (0x0020_000E, "UI", b"1.2.5\0"),
]


def data_set(encoding: Encoding = EXPLICIT_LITTLE) -> bytes:
    return write_data_set(ELEMENTS, encoding)


def read(content: bytes, rest: bytes) -> FileMeta:
    """The meta of a file whose data set is *rest*."""
    meta = read_file_meta(content)
    assert content[meta.data_set_offset :] == rest, meta
    # And from as much as is read of a file.
    assert read_file_meta((content + bytes(FILE_HEAD_LENGTH))[:FILE_HEAD_LENGTH]) == meta
    return meta


LEFTOVER = element(2, "1.9") + element(3, "1.9.9") + element(0x10, EXPLICIT_VR_LITTLE_ENDIAN)


@pytest.mark.parametrize("length", [0, None], ids=["length", "no length"])
@pytest.mark.parametrize(
    "leftover",
    [
        LEFTOVER,
        element(0, b"\x60\0\0\0", "UL") + LEFTOVER,
        element(0x10, EXPLICIT_VR_LITTLE_ENDIAN),
        LEFTOVER * 3,
        element(0x10, IMPLICIT_VR_LITTLE_ENDIAN, encoding=IMPLICIT_LITTLE),
        element(0x0012, "1.2.3") + element(0x0010, EXPLICIT_VR_LITTLE_ENDIAN),
    ],
    ids=["some", "all", "syntax", "thrice", "implicit", "backwards"],
)
def test_a_second_group_0002_says_nothing(leftover: bytes, length: int | None) -> None:
    """It stands in front of the data set, and is no part of it either (PS3.5 7.1)."""
    rest = data_set()
    meta = read(PREAMBLE + group(length=length) + leftover + rest, rest)
    assert meta.transfer_syntax_uid == JPEG
    assert meta.media_storage_sop_class_uid == CLASS
    assert meta.media_storage_sop_instance_uid == INSTANCE
    assert meta.forgiven[-1].startswith("elements of group 0002 in front of the data set")
    # The same without any Transfer Syntax UID in the meta itself.
    meta = read(PREAMBLE + group("", length=length) + leftover + rest, rest)
    if length == 0:
        assert meta.transfer_syntax_uid == "" or leftover.startswith(element(0x12, "1.2.3")[:8])


def test_leftovers_in_the_byte_order_of_the_data_set() -> None:
    leftover = element(2, "1.9", encoding=EXPLICIT_BIG)
    leftover += element(0x10, EXPLICIT_VR_LITTLE_ENDIAN, encoding=EXPLICIT_BIG)
    rest = data_set(EXPLICIT_BIG)
    meta = read(PREAMBLE + group(EXPLICIT_VR_BIG_ENDIAN) + leftover + rest, rest)
    assert meta.transfer_syntax_uid == EXPLICIT_VR_BIG_ENDIAN
    # The beginning of one element that is cut is left to whoever reads the data set.
    cut = leftover[:-1]
    content = PREAMBLE + group(EXPLICIT_VR_BIG_ENDIAN) + cut
    assert read_file_meta(content).data_set_offset == len(content) - len(cut)


@pytest.mark.parametrize("length", [-1000, -80, -40, -28, -2, -1, 1, 2, 10, 500, 1 << 20])
def test_a_wrong_length_counts_for_nothing(length: int) -> None:
    rest = data_set()
    size = len(group()) - 12
    meta = read(PREAMBLE + group(length=max(length, -size)) + rest, rest)
    assert meta.transfer_syntax_uid == JPEG
    assert meta.forgiven == ("group length wrong",)
    # Also in front of leftovers; of what comes twice the first counts.
    meta = read(PREAMBLE + group(length=max(length, -size)) + LEFTOVER + rest, rest)
    assert meta.transfer_syntax_uid == JPEG


@pytest.mark.parametrize("vr", ["OB", "UN", "UL", "SL", "LO"])
def test_a_group_length_of_another_vr(vr: str) -> None:
    body = group()[12:]
    rest = data_set()
    meta = read(
        PREAMBLE + element(0, struct.pack("<I", len(body)), vr) + body + LEFTOVER + rest, rest
    )
    assert meta.transfer_syntax_uid == JPEG
    # One of two bytes is none.
    meta = read(PREAMBLE + element(0, struct.pack("<H", len(body)), "US") + body + rest, rest)
    assert meta.forgiven == ("group length missing",)


@pytest.mark.parametrize("encoding", [IMPLICIT_LITTLE, EXPLICIT_BIG], ids=["implicit", "big"])
@pytest.mark.parametrize("length", [0, None, 7])
def test_group_0002_in_another_encoding(encoding: Encoding, length: int | None) -> None:
    rest = data_set()
    for leftover in (b"", LEFTOVER if encoding.implicit_vr else b""):
        meta = read(PREAMBLE + group(length=length, encoding=encoding) + leftover + rest, rest)
        assert meta.transfer_syntax_uid == JPEG
        assert meta.media_storage_sop_instance_uid == INSTANCE
        assert "group 0002 in " in meta.forgiven[0]


def test_elements_with_a_vr_that_is_none() -> None:
    """The length behind it has 16 bits then; in implicit VR it would be longer than any file."""
    odd = element(0x16, b"AE1 ", "AE").replace(b"AE\4", b"??\4")
    rest = data_set()
    meta = read(PREAMBLE + group(more=odd) + rest, rest)
    assert meta.elements[0x0002_0016] == b"AE1 "
    future = struct.pack("<HH2sHI", 2, 0x99, b"ZZ", 0, 4) + b"abcd"
    assert read(PREAMBLE + group(more=future) + rest, rest).elements[0x0002_0099] == b"abcd"


def test_the_last_element_runs_into_the_data_set() -> None:
    """The group length, and the data set that is there, say that its own length is wrong."""
    odd = element(0x13, b"VERSION_1 ", "SH")
    rest = data_set()
    right = PREAMBLE + group(more=odd)
    for length in (12, 30, 60, 2_000, 60_000):
        at = len(right) - len(odd) + 6
        content = right[:at] + struct.pack("<H", length) + right[at + 2 :]
        meta = read(content + rest, rest)
        assert meta.elements[0x0002_0013] == b"VERSION_1 "


def test_private_information_and_elements_out_of_order() -> None:
    more = (
        element(0x0102, b"x" * 5_000, "OB") + element(0x0100, "1.2.3.4") + element(0x16, "AE", "AE")
    )
    rest = data_set()
    for length in (0, None, 3):
        meta = read(PREAMBLE + group(length=length, more=more) + rest, rest)
        assert meta.elements[0x0002_0102] == b"x" * 5_000
        assert meta.elements[0x0002_0016] == b"AE"


def test_elements_twice_within_the_meta() -> None:
    rest = data_set()
    twice = element(3, "1.9.9") + element(0x10, JPEG)
    meta = read(PREAMBLE + group(more=twice) + rest, rest)
    assert meta.media_storage_sop_instance_uid == INSTANCE  # the first one
    with pytest.raises(DataSetError, match="two Transfer Syntax UIDs"):
        read_file_meta(PREAMBLE + group(more=element(0x10, IMPLICIT_VR_LITTLE_ENDIAN)) + rest)


@pytest.mark.parametrize(
    ("value", "uid"),
    [
        (JPEG.encode() + b"  ", JPEG),
        (b" " + JPEG.encode() + b"\0\0\0", JPEG),
        (JPEG.encode() + b"\0 \0", JPEG),
        (b"1.2.840.10008.1.2\0.4.70", "1.2.840.10008.1.2"),
        (b"", ""),
        (b"\0\0", ""),
    ],
)
def test_the_padding_of_uids(value: bytes, uid: str) -> None:
    body = element(2, CLASS) + element(0x10, value)
    content = PREAMBLE + element(0, struct.pack("<I", len(body)), "UL") + body
    assert read_file_meta(content + data_set()).transfer_syntax_uid == uid


@pytest.mark.parametrize("encoding", [EXPLICIT_LITTLE, IMPLICIT_LITTLE, EXPLICIT_BIG])
@pytest.mark.parametrize("fill", [8, 9, 10, 100, 512, 4_000])
def test_nuls_in_front_of_the_data_set(encoding: Encoding, fill: int) -> None:
    syntax = {
        EXPLICIT_LITTLE: JPEG,
        IMPLICIT_LITTLE: IMPLICIT_VR_LITTLE_ENDIAN,
        EXPLICIT_BIG: EXPLICIT_VR_BIG_ENDIAN,
    }[encoding]
    rest = data_set(encoding)
    for length in (0, fill, None):
        meta = read(PREAMBLE + group(syntax, length) + bytes(fill) + rest, rest)
        assert meta.transfer_syntax_uid == syntax
        assert meta.forgiven[-1].startswith("NULs")
    assert read(PREAMBLE + group("", 0) + bytes(fill) + rest, rest).transfer_syntax_uid == ""


def test_nuls_that_are_no_fill() -> None:
    """Too many, nothing behind them, or a data set that is deflated and may begin so."""
    for rest in (
        bytes(5_000) + data_set(),
        bytes(100),
        bytes(8) + b"GIF89a",
        bytes(7) + data_set(),
    ):
        content = PREAMBLE + group() + rest
        assert read_file_meta(content).data_set_offset == len(content) - len(rest)
    deflated = bytes(9) + b"\xff" * 20
    content = PREAMBLE + group(DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN)
    assert read_file_meta(content + deflated).data_set_offset == len(content)
    content = PREAMBLE + group(DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN, 9)
    assert read_file_meta(content + deflated).data_set_offset == len(content) + 9


def test_a_deflated_data_set_is_no_leftover() -> None:
    content = PREAMBLE + group(DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN)
    assert read_file_meta(content + LEFTOVER).data_set_offset == len(content)


# --- Where it starts --------------------------------------------------------------------------


@pytest.mark.parametrize("front", [b"", b"DICM"])
@pytest.mark.parametrize("encoding", [EXPLICIT_LITTLE, IMPLICIT_LITTLE])
@pytest.mark.parametrize("number", [0, 1, 2, 3, 0x10])
def test_without_preamble_it_may_begin_with_any_element(
    front: bytes, encoding: Encoding, number: int
) -> None:
    elements = {
        0: element(0, bytes(4), "UL", encoding),
        1: element(1, b"\0\1", "OB", encoding),
        2: element(2, CLASS, encoding=encoding),
        3: element(3, INSTANCE, encoding=encoding),
        0x10: element(0x10, JPEG, encoding=encoding),
    }
    rest = data_set()
    content = front + b"".join(value for key, value in elements.items() if key >= number) + rest
    meta = read(content, rest)
    assert meta.transfer_syntax_uid == JPEG
    assert meta.forgiven[0] == "no preamble"


def test_two_preambles() -> None:
    rest = data_set()
    meta = read(PREAMBLE + PREAMBLE + group() + rest, rest)
    assert meta.transfer_syntax_uid == JPEG
    assert meta.forgiven == ("two preambles",)


def test_a_whole_file_within_a_file() -> None:
    """The same transfer syntax, or one alone, is believed; of two nobody can tell."""
    rest = data_set()
    for outer, inner in ((JPEG, JPEG), ("", JPEG), (JPEG, "")):
        meta = read(PREAMBLE + group(outer) + PREAMBLE + group(inner) + rest, rest)
        assert meta.transfer_syntax_uid == JPEG
        assert meta.forgiven == ("a whole file within a file",)
    with pytest.raises(DataSetError, match="within a file"):
        read_file_meta(PREAMBLE + group(JPEG) + PREAMBLE + group(EXPLICIT_VR_LITTLE_ENDIAN) + rest)
    # One that cannot be read is left to whoever reads the data set.
    content = PREAMBLE + group()
    assert read_file_meta(content + PREAMBLE + group()[12:40]).data_set_offset == len(content)
    # No deeper.
    content = PREAMBLE + group() + PREAMBLE + group()
    assert read_file_meta(content + PREAMBLE + group() + rest).data_set_offset == len(content)


@pytest.mark.parametrize("more", [0, 10])
def test_the_prefix_by_chance(more: int) -> None:
    """A data set alone, of which bytes 128 to 131 are DICM, is no Part 10 file."""

    def with_prefix(first: bytes) -> bytes:
        text = b" " * (128 - len(first) - 8) + b"DICM" + b" " * more
        content = first + write_data_set([(0x0008_1030, "LO", text)], EXPLICIT_LITTLE) + data_set()
        assert content[128:132] == b"DICM"
        return content

    with pytest.raises(DataSetError, match="no Part 10 file"):
        read_file_meta(with_prefix(write_data_set(ELEMENTS[:1], EXPLICIT_LITTLE)))
    # Where group 0002 stands in front, it counts.
    naked = element(2, CLASS) + element(0x10, JPEG)
    assert read_file_meta(with_prefix(naked)).data_set_offset == len(naked)


def test_a_prefix_and_no_file_meta_information() -> None:
    rest = data_set()
    meta = read(PREAMBLE + rest, rest)
    assert (meta.transfer_syntax_uid, meta.elements) == ("", {})
    assert meta.forgiven == ("no File Meta Information",)


@given(data=st.binary(max_size=200))
def test_garbage_raises_nothing_else(data: bytes) -> None:
    for content in (data, PREAMBLE + b"\x02\0" + data, PREAMBLE + group() + data):
        try:
            meta = read_file_meta(content)
        except DataSetError:
            continue
        assert 0 <= meta.data_set_offset <= len(content)


@given(data=st.binary(max_size=60), syntax=st.sampled_from([JPEG, PRIVATE_SYNTAX]))
def test_what_follows_a_right_meta_cannot_change_what_it_says(data: bytes, syntax: str) -> None:
    """As data sets of strangers stand behind a meta of ours."""
    ours = write_file_meta(CLASS, INSTANCE, syntax, "AE")
    for behind in (data, b"\x02\0\x10\0UI" + data, LEFTOVER + data):
        meta = read_file_meta(ours + behind)
        assert meta.transfer_syntax_uid == syntax
        assert meta.media_storage_sop_instance_uid == INSTANCE


@given(
    uids=st.tuples(*[st.from_regex(r"[0-9.]{1,64}", fullmatch=True)] * 3),
    others=st.tuples(*[st.from_regex(r"[0-9.]{1,64}", fullmatch=True)] * 3),
    ae_title=st.from_regex(r"[A-Z]{0,16}", fullmatch=True),
    changed=st.integers(0, 400),
)
def test_a_quick_look_recognizes_what_was_written(
    uids: tuple[str, str, str], others: tuple[str, str, str], ae_title: str, changed: int
) -> None:
    whole = write_file_meta(*uids, ae_title) + bytes(160)
    length = len(whole) - 160
    assert is_file_meta_of(whole, *uids, length)
    assert is_file_meta_of(memoryview(whole), *uids, length)
    assert not is_file_meta_of(whole, *uids, length + 2)
    if others != uids:
        assert not is_file_meta_of(whole, *others, length)
    assert not is_file_meta_of(whole[: changed % 128], *uids, length)
    # Whatever it takes for ours says the same when it is read.
    touched = bytearray(whole)
    touched[changed % length] ^= 0x55
    if is_file_meta_of(touched, *uids, length):
        try:
            meta = read_file_meta(touched)
        except DataSetError:
            return
        assert (
            meta.media_storage_sop_class_uid,
            meta.media_storage_sop_instance_uid,
            meta.transfer_syntax_uid,
        ) == uids
