"""What the archive forgives: kept, found and delivered all the same; and what it does not."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Self

import pydicom
import pytest
import trio

from isocenter.engine.dataset import (
    DEFLATED_LITTLE,
    EXPLICIT_BIG,
    EXPLICIT_LITTLE,
    IMPLICIT_LITTLE,
    DataSetError,
    Encoding,
    read_data_set,
    read_file_meta,
    write_data_set,
    write_file_meta,
)
from isocenter.engine.limits import Limits
from isocenter.engine.uid import (
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
)
from isocenter.services.archive.archive import Archive
from isocenter.services.archive.object_scan import StoreError
from isocenter.services.archive.reindexing import reindex
from isocenter.services.archive.stored_objects import stored_object
from isocenter.services.archive.verification import verify
from isocenter.storage.objects.memory import MemoryStore
from services.archive_support import CT, SERIES, STUDY, data_set, data_set_of, opened, store, uid

ENCODINGS = {
    IMPLICIT_VR_LITTLE_ENDIAN: IMPLICIT_LITTLE,
    EXPLICIT_VR_LITTLE_ENDIAN: EXPLICIT_LITTLE,
    EXPLICIT_VR_BIG_ENDIAN: EXPLICIT_BIG,
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN: DEFLATED_LITTLE,
}
UNDEFINED = 0xFFFFFFFF
END = struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
META = [
    (0x00020002, "UI", b"1.2.840.10008.5.1.4.1.1.7\0"),
    (0x00020003, "UI", b"9.9.9\0"),
    (0x00020010, "UI", b"1.2.840.10008.1.2.4.50"),
]


@pytest.fixture
async def archive() -> AsyncIterator[Archive]:
    async with opened(MemoryStore()) as archive:
        yield archive


def deflated(data: bytes) -> bytes:
    deflater = zlib.compressobj(9, wbits=-15)
    return deflater.compress(data) + deflater.flush()


def inflated(data: bytes) -> bytes:
    return zlib.decompress(data, wbits=-15)


def inner(encoding: Encoding) -> Encoding:
    return Encoding(encoding.implicit_vr, encoding.big_endian)


def explicit(tag: int, vr: bytes, value: bytes, length: int | None = None) -> bytes:
    announced = len(value) if length is None else length
    return struct.pack("<HH2s2xI", tag >> 16, tag & 0xFFFF, vr, announced) + value


def item(content: bytes) -> bytes:
    return struct.pack("<HHI", 0xFFFE, 0xE000, len(content)) + content


def requests(content: bytes) -> bytes:
    return explicit(0x00400275, b"SQ", content)


def with_element(element: bytes, tag: int, number: int = 1) -> bytes:
    """An image with one more element, at its place."""
    data = data_set(number)
    at = 0
    while at < len(data):
        group, number_, vr, length = struct.unpack_from("<HH2sH", data, at)
        if (group << 16 | number_) > tag:
            break
        at += 8 + length if vr != b"OW" else len(data)
    return data[:at] + element + data[at:]


async def delivered(archive: Archive, number: int, target: str) -> bytes:
    stored = (await archive.index.get([uid(number)]))[uid(number)]
    parts = stored_object(stored, archive.open).parts(target)
    return b"".join([bytes(part) async for part, _ in parts])


# -- Groups before 0008 ------------------------------------------------------------------


@pytest.mark.parametrize("group", [0x0001, 0x0003, 0x0005, 0x0007])
@pytest.mark.parametrize("syntax", ENCODINGS)
async def test_vendors_groups_are_kept(archive: Archive, group: int, syntax: str) -> None:
    encoding = ENCODINGS[syntax]
    odd = [(group << 16 | 5, "CS", b"VENDOR"), (group << 16 | 0x0B, "UN", b"ab")]
    data = write_data_set(odd, inner(encoding)) + data_set(encoding=inner(encoding))
    data = deflated(data) if encoding.deflated else data
    result = await store(archive, data=data, transfer_syntax_uid=syntax)
    assert result.status == 0
    assert await data_set_of(archive, result.instance) == data


@pytest.mark.parametrize("syntax", ENCODINGS)
@pytest.mark.parametrize("is_little", [True, False])
async def test_group_0002_at_the_head_is_left_out_and_told(
    archive: Archive, syntax: str, is_little: bool
) -> None:
    encoding = ENCODINGS[syntax]
    meta = write_data_set(META, EXPLICIT_LITTLE if is_little else inner(encoding))
    rest = data_set(encoding=inner(encoding))
    data = deflated(meta + rest) if encoding.deflated else meta + rest
    result = await store(archive, data=data, transfer_syntax_uid=syntax)
    assert (result.status, result.comment) == (0xB000, "group 0002 was left out")
    kept = await data_set_of(archive, result.instance)
    assert (inflated(kept) if encoding.deflated else kept) == rest
    async with await archive.open(result.instance) as reader:
        whole = await reader.read(0, reader.size)
    assert read_file_meta(whole).transfer_syntax_uid == syntax
    theirs = pydicom.dcmread(io.BytesIO(whole))
    assert theirs.file_meta.TransferSyntaxUID == syntax
    assert theirs.SOPInstanceUID == uid(1)
    # What is kept is what everybody else counts.
    assert (await verify(archive)).is_good
    before = (await archive.index.get([uid(1)]))[uid(1)]
    report = await reindex(archive)
    assert (report.indexed, report.damaged.count) == (1, 0)
    after = (await archive.index.get([uid(1)]))[uid(1)]
    assert (after.digest, after.size) == (before.digest, before.size)
    # Sent again it is the same.
    again = await store(archive, data=data, transfer_syntax_uid=syntax)
    assert (again.status, again.outcome.value) == (0xB000, "already stored")


async def test_group_0002_is_refused_by_setting() -> None:
    async with opened(MemoryStore(), refuse_stray_meta=True) as archive:
        data = write_data_set(META, EXPLICIT_LITTLE) + data_set()
        with pytest.raises(StoreError) as caught:
            await store(archive, data=data)
        assert caught.value.status == 0xC000
        assert "group 0002" in caught.value.comment
        assert (await store(archive)).status == 0


async def test_group_0002_where_no_reader_believes_it_is_kept(archive: Archive) -> None:
    odd = explicit(0x00091001, b"SQ", item(write_data_set(META, EXPLICIT_LITTLE)))
    data = data_set() + write_data_set(META, EXPLICIT_LITTLE) + odd
    result = await store(archive, data=data)
    assert result.status == 0
    assert await data_set_of(archive, result.instance) == data


# -- What only the index wants -----------------------------------------------------------


@pytest.mark.parametrize(
    ("tag", "element", "is_indexed"),
    [
        (0x00104000, explicit(0x00104000, b"UN", b"a" * 100_000), True),
        (0x00101000, explicit(0x00101000, b"UT", b"a" * 70_000), None),
        (0x00400275, requests(item(explicit(0x00491001, b"UN", bytes(2 << 20)))), False),
        (0x00400275, requests(b"no items at all."), False),
        (
            0x00400275,
            requests(item(write_data_set([(0x00401001, "SH", b"RP1 ")], EXPLICIT_LITTLE)) + END),
            True,
        ),
    ],
)  # fmt: skip
async def test_an_odd_attribute_costs_no_object(
    archive: Archive, tag: int, element: bytes, is_indexed: bool | None
) -> None:
    data = with_element(element, tag)
    result = await store(archive, data=data)
    assert (result.status, result.comment) == (0, "")
    assert await data_set_of(archive, result.instance) == data
    if is_indexed is not None:
        told = any(f"({tag >> 16:04X},{tag & 0xFFFF:04X})" in what for what in result.forgiven)
        assert told == (not is_indexed or len(element) > 70_000)


@pytest.mark.parametrize(
    ("terms", "is_told"),
    [
        (b"ISO_IR 100", False),
        (b"ISO-IR 100", False),
        (b"\\ISO 2022 IR 87", False),
        (b"KLINGON", True),
        (b"ISO_IR 100\\ISO 2022 IR 4711", True),
    ],
)
async def test_a_character_set_that_is_unknown_is_told_and_costs_no_object(
    archive: Archive, terms: bytes, is_told: bool
) -> None:
    data = write_data_set(
        [
            (0x00080005, "CS", terms + b" " * (len(terms) & 1)),
            (0x00080016, "UI", CT.encode()),
            (0x00080018, "UI", uid(1).encode()),
            (0x0020000D, "UI", STUDY.encode()),
            (0x0020000E, "UI", SERIES.encode()),
        ],
        EXPLICIT_LITTLE,
    )
    result = await store(archive, data=data)
    told = [what for what in result.forgiven if "character set" in what]
    assert bool(told) is is_told
    assert "KLINGON" not in "".join(told)


@pytest.mark.parametrize("tag", [0x00080016, 0x00080018, 0x0020000D, 0x0020000E])
async def test_what_identifies_the_object_stays_strict(archive: Archive, tag: int) -> None:
    values = {0x00080016: CT, 0x00080018: uid(1), 0x0020000D: STUDY, 0x0020000E: SERIES}
    element = explicit(tag, b"UN", values[tag].encode() + bytes(70_000) + b"1")
    with pytest.raises(StoreError) as caught:
        # Of two the last counts.
        await store(archive, data=data_set() + element)
    assert caught.value.status in (0xA900, 0x0117)


# -- Limits ------------------------------------------------------------------------------


async def test_a_limit_is_out_of_resources_and_no_fault_of_the_data_set() -> None:
    async with opened(MemoryStore(), limits=Limits(nesting=3)) as archive:
        content = b""
        for _ in range(5):
            content = explicit(
                0x00081140,
                b"SQ",
                struct.pack("<HHI", 0xFFFE, 0xE000, UNDEFINED) + content,
                UNDEFINED,
            )
        with pytest.raises(StoreError) as caught:
            await store(archive, data=data_set() + content)
        assert caught.value.status == 0xA700
        assert "nested deeper than 3" in caught.value.comment


async def test_frames_beyond_number_are_kept_and_delivered(archive: Archive) -> None:
    frame = struct.pack("<HHI", 0xFFFE, 0xE000, UNDEFINED)
    frame += (
        explicit(
            0x00209111,
            b"SQ",
            item(write_data_set([(0x00209157, "UL", bytes(8))], EXPLICIT_LITTLE)) + END,
            UNDEFINED,
        )
        * 4
    )
    frame += struct.pack("<HHI", 0xFFFE, 0xE00D, 0)
    data = data_set()[:-16] + explicit(0x52009230, b"SQ", frame * 60_000 + END, UNDEFINED)
    result = await store(archive, data=data)
    assert result.status == 0
    stored = stored_object(result.instance, archive.open)
    size = 0
    async for part, _ in stored.parts(IMPLICIT_VR_LITTLE_ENDIAN):
        assert len(part) < 4 << 20
        size += len(part)
    assert size > 60_000 * 4 * 20


async def test_a_mask_is_no_bomb(archive: Archive) -> None:
    data = deflated(data_set(pixels=bytes(8 << 20)))
    assert len(data) < (8 << 20) / 900
    result = await store(archive, data=data, transfer_syntax_uid=DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN)
    assert result.status == 0
    assert await data_set_of(archive, result.instance) == data
    plain = await delivered(archive, 1, EXPLICIT_VR_LITTLE_ENDIAN)
    assert plain == data_set(pixels=bytes(8 << 20))


@pytest.mark.parametrize("has_meta", [True, False])
async def test_others_have_their_turn_while_a_bomb_is_looked_at(
    archive: Archive, has_meta: bool
) -> None:
    head = write_data_set(META, EXPLICIT_LITTLE) if has_meta else b""
    bomb = deflated(head + data_set(pixels=bytes(64 << 20)))
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(others)
        await store(archive, data=bomb, transfer_syntax_uid=DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN)
        nursery.cancel_scope.cancel()
    # At least one for each MiB.
    assert turns > 64


# -- What was taken is delivered ---------------------------------------------------------


CODE = write_data_set([(0x00080100, "SH", b"CODE")], EXPLICIT_LITTLE)
ODD = {
    "private OB of undefined length": explicit(
        0x00091001, b"OB", item(b"anything") + END, UNDEFINED
    ),
    "SQ with a delimitation item in its length": explicit(0x00081032, b"SQ", item(CODE) + END),
    "SQ that is none": explicit(0x00081032, b"SQ", b"LEGACY CODE "),
    "SQ without its delimitation": explicit(0x00081032, b"SQ", item(CODE), UNDEFINED),
    "an item outside of its sequence": explicit(0x00081032, b"SQ", b"") + item(CODE),
    "a VR that is none": b"\x08\0\x30\x10??\4\0abcd",
    "a VR in lower case": b"\x08\0\x30\x10lo\4\0abcd",
    "a length that is odd": b"\x08\0\x30\x10LO\3\0abc",
}


@pytest.mark.parametrize("what", ODD)
@pytest.mark.parametrize("target", ENCODINGS)
async def test_odd_elements_keep_no_image_back(archive: Archive, what: str, target: str) -> None:
    data = with_element(ODD[what], int.from_bytes(ODD[what][2:4], "little") | 0x00080000)
    result = await store(archive, data=data)
    assert result.status == 0
    assert await data_set_of(archive, result.instance) == data
    came = await delivered(archive, 1, target)
    if target == EXPLICIT_VR_LITTLE_ENDIAN:
        assert came == data
    elif target == DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN:
        assert inflated(came) == data
    else:
        elements = read_data_set(came, ENCODINGS[target])
        assert elements[0x00080018].value.rstrip(b"\0") == uid(1).encode()
        assert len(elements[0x7FE00010].value) == 4
        syntax = pydicom.uid.UID(target)
        theirs = pydicom.filereader.read_dataset(
            io.BytesIO(came), syntax.is_implicit_VR, syntax.is_little_endian
        )
        assert {int(key) for key in theirs.keys()} == set(elements)  # noqa: SIM118


@pytest.mark.interop("dcmdump")
@pytest.mark.parametrize("what", ODD)
@pytest.mark.parametrize("target", ENCODINGS)
async def test_dcmtk_reads_what_is_converted(
    archive: Archive, what: str, target: str, tmp_path: Path
) -> None:
    """Also where it cannot read what came (its error is then in the object that was kept)."""
    if ENCODINGS[target] in (EXPLICIT_LITTLE, DEFLATED_LITTLE):
        return  # as it came
    data = with_element(ODD[what], int.from_bytes(ODD[what][2:4], "little") | 0x00080000)
    await store(archive, data=data)
    file = tmp_path / "converted.dcm"
    came = await delivered(archive, 1, target)
    file.write_bytes(write_file_meta(CT, uid(1), target) + came)
    process = await trio.run_process(
        ["dcmdump", "-q", file], capture_stdout=True, capture_stderr=True, check=False
    )
    assert process.returncode == 0, process.stderr
    assert b"(7fe0,0010)" in process.stdout


async def test_what_cannot_be_converted_is_found_before_the_first_byte(archive: Archive) -> None:
    """Its file was cut, so that the association need not be aborted in the middle of it."""
    result = await store(archive, data=data_set(pixels=bytes(4 << 20)))

    class Cut:
        def __init__(self, reader: object) -> None:
            self._reader = reader
            self.size = 100_000

        async def read(self, offset: int, length: int) -> bytes:
            return (await self._reader.read(0, 100_000))[offset : offset + length]  # type: ignore[attr-defined, no-any-return]

        view = read

        async def __aenter__(self) -> Self:
            return self

        async def __aexit__(self, *exc: object) -> None:
            pass

    item_ = stored_object(result.instance, archive.open)

    async def open_cut() -> Cut:
        return Cut(await archive.open(result.instance))

    parts = replace(item_, open=open_cut).parts(IMPLICIT_VR_LITTLE_ENDIAN)  # type: ignore[arg-type]
    with pytest.raises(DataSetError):
        await anext(parts)
