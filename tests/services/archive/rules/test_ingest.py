"""Rules at work on what comes in: areas, attributes that nobody else wants, coercion."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import pytest
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset

from isocenter.engine.dataset import (
    EXPLICIT_BIG,
    EXPLICIT_LITTLE,
    IMPLICIT_LITTLE,
    Encoding,
    WritableElement,
    write_data_set,
)
from isocenter.engine.extended_negotiation import (
    ElementCoercion,
    SignatureLevel,
    StorageLevel,
    StorageSupport,
)
from isocenter.engine.uid import (
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
)
from isocenter.services.archive.archive import Archive
from isocenter.services.archive.object_keys import NamingScheme
from isocenter.services.archive.object_scan import StoreError
from isocenter.services.archive.ports import AddResult, DuplicatePolicy, InstanceRecord
from isocenter.services.archive.reindexing import reindex
from isocenter.services.archive.rules.evaluation import Rules
from isocenter.services.archive.verification import verify
from isocenter.services.service_classes.storage.scp import StorageScp
from isocenter.services.settings.rules import parse_rule
from isocenter.storage.database.index.memory import MemoryIndex
from isocenter.storage.objects.files.store import open_file_store
from isocenter.storage.objects.memory import MemoryStore
from services.archive_support import (
    CT,
    SERIES,
    STUDY,
    data_set,
    data_set_of,
    keys_of,
    opened,
    receive,
    store,
    uid,
)

SYNTAXES = {
    EXPLICIT_VR_LITTLE_ENDIAN: EXPLICIT_LITTLE,
    IMPLICIT_VR_LITTLE_ENDIAN: IMPLICIT_LITTLE,
    EXPLICIT_VR_BIG_ENDIAN: EXPLICIT_BIG,
}


class Watched(MemoryIndex):
    """Remembers what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.added: list[InstanceRecord] = []

    async def add(
        self,
        records: Sequence[InstanceRecord],
        *,
        replace: bool = False,
        one_patient: bool = False,
        unless_same: bool = False,
    ) -> Sequence[AddResult]:
        self.added += records
        return await super().add(
            records,
            replace=replace,
            one_patient=one_patient,
            unless_same=unless_same,
        )


def rules(*tables: dict[str, Any]) -> Rules:
    return Rules([parse_rule({"name": f"r{n}", **table}) for n, table in enumerate(tables)])


def rich_data_set(encoding: Encoding) -> bytes:
    """With elements that the index does not keep."""
    big = encoding.big_endian
    return write_data_set(
        [
            (0x00080005, "CS", b"ISO_IR 192"),
            (0x00080016, "UI", CT.encode()),
            (0x00080018, "UI", uid(1).encode()),
            (0x00080060, "CS", b"CT"),
            (0x00081040, "LO", "Röntgen Süd".encode()),
            (0x00090010, "LO", b"ACME"),
            (0x00091001, "LO", b"special"),
            (0x00189074, "DT", b"20260102"),
            (0x0020000D, "UI", STUDY.encode()),
            (0x0020000E, "UI", SERIES.encode()),
            (0x00280010, "US", (512).to_bytes(2, "big" if big else "little")),
            (0x00280106, "US", (7).to_bytes(2, "big" if big else "little")),
            (
                0x00400555,
                "SQ",
                [
                    [(0x0040A040, "CS", b"TEXT"), (0x0040A160, "UT", b"one")],
                    [(0x00080005, "CS", b"ISO_IR 100"), (0x0040A123, "PN", b"M\xfcller")],
                ],
            ),
            (0x7FE00010, "OW", b"\1\2"),
        ],
        encoding,
    )


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize(
    ("when", "matches"),
    [
        ({"department": "röntgen*"}, True),
        ({"InstitutionalDepartmentName": "Röntgen Nord"}, False),
        ({"0028,0106": "7"}, True),
        ({"Rows": "512"}, True),
        ({"0040,0555[0].0040,A040": "text"}, True),
        ({"0040,0555[1].0040,A123": "Müller"}, True),
        ({"0040,0555[1].0040,A040": "TEXT"}, False),
        ({"0040,0555[9].0040,A040": "*?"}, False),
        ({"0040,0275[0].0040,1001": "?*"}, False),
        ({"0040,0275[0].0040,1001": "!RP*"}, True),
        ({"calling_ae": "SENDER", "called_ae": "ME"}, True),
    ],
)
async def test_rules_see_what_the_object_says(
    syntax: str, when: dict[str, str], matches: bool
) -> None:
    index = Watched()
    async with opened(MemoryStore(), index) as archive:
        archive.exchange_rules(rules({"when": when, "forward": "PACS"}))
        data = rich_data_set(SYNTAXES[syntax])
        options = {"transfer_syntax_uid": syntax, "called_ae_title": "ME"}
        async with await receive(archive, **options) as ingest:
            for start in range(0, len(data), 7):
                await ingest.write([data[start : start + 7]])
            await ingest.commit()
    (record,) = index.added
    assert [route.destination for route in record.routes] == (["PACS"] if matches else [])
    assert archive.routed.is_set is matches


async def test_a_private_attribute_can_be_looked_at_where_it_says_what_it_is() -> None:
    index = Watched()
    async with opened(MemoryStore(), index) as archive:
        archive.exchange_rules(rules({"when": {"0009,1001": "spec*"}, "forward": "PACS"}))
        await store(archive, data=rich_data_set(EXPLICIT_LITTLE))
    assert index.added[0].routes


@pytest.mark.parametrize("naming", NamingScheme)
async def test_an_area_is_where_the_object_lies(tmp_path: Path, naming: NamingScheme) -> None:
    files = await open_file_store(tmp_path)
    index = Watched()
    async with opened(files, index, naming=naming) as archive:
        archive.exchange_rules(rules({"when": {"calling_ae": "SENDER"}, "area": "heart/new_1"}))
        result = await store(archive, 1)
        await store(archive, 2, source_ae_title="OTHER")
        assert result.instance.object_key.startswith("heart/new_1/")
        assert (tmp_path / "objects" / result.instance.object_key).is_file()
        assert await archive.are_indexed([result.instance.object_key]) == [True]
        assert (await verify(archive)).is_good
        # The rule has gone, and the objects stay where they are.
        archive.exchange_rules(Rules())
        assert (await store(archive, 1)).instance.object_key == result.instance.object_key
        # Once the next round has begun, what was superfluous in this one is gone.
        await store(archive, 3)
        assert len(await keys_of(archive)) == 3
        await index.remove([uid(1), uid(2), uid(3)])
        report = await reindex(archive)
        assert (report.indexed, report.damaged.count, report.foreign.count) == (3, 0, 0)
        found = (await archive.index.get([uid(1)]))[uid(1)]
        assert found.object_key == result.instance.object_key
    await files.aclose()


async def test_what_a_crash_left_in_an_area_is_undone(tmp_path: Path) -> None:
    files = await open_file_store(tmp_path)
    async with opened(files) as archive:
        archive.exchange_rules(rules({"area": "heart"}))
        async with await receive(archive) as ingest:
            await ingest.write([data_set()])
            key = f"heart/{STUDY}/{SERIES}/{uid(1)}.dcm"
            assert await files.publish([(ingest._staged, key)]) == [None]
            ingest._open = False  # the process ends here
    await files.aclose()
    files = await open_file_store(tmp_path)
    async with opened(files) as archive:
        assert await archive.recover() == 1
        assert await keys_of(archive) == set()
    await files.aclose()


EDITS = [
    {"set": "InstitutionName", "value": "Süd"},
    {"map": "Modality", "table": {"CT": "MR"}},
    {"remove": "0010,0010"},
]


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("step", [3, 1 << 20])
async def test_coercion_changes_what_is_kept_and_rules_look_at_what_came(
    syntax: str, step: int
) -> None:
    index = Watched()
    async with opened(MemoryStore(), index) as archive:
        archive.intake.modifying_system = "PACS1"
        archive.exchange_rules(
            rules(
                {"when": {"modality": "CT"}, "coerce": EDITS, "forward": "A"},
                {"when": {"modality": "MR"}, "forward": "B"},
                {"when": {"Rows": ""}, "forward": "C"},
            )
        )
        data = data_set(encoding=SYNTAXES[syntax])
        async with await receive(archive, transfer_syntax_uid=syntax) as ingest:
            for start in range(0, len(data), step):
                await ingest.write([data[start : start + step]])
            result = await ingest.commit()
        kept = await data_set_of(archive, result.instance)
        assert (await verify(archive)).is_good
    assert result.status == 0xB000
    (record,) = index.added
    assert [route.destination for route in record.routes] == ["A", "C"]
    assert record.attributes[0x00080060] == "MR"
    encoding = SYNTAXES[syntax]
    found = read_dataset(DicomBytesIO(kept), encoding.implicit_vr, not encoding.big_endian)
    assert (found.InstitutionName, found.Modality) == ("Süd", "MR")
    assert "PatientName" not in found
    (original,) = found.OriginalAttributesSequence
    assert original.ModifyingSystem == "PACS1"
    assert original.SourceOfPreviousValues == "SENDER"
    assert original.ModifiedAttributesSequence[0].Modality == "CT"
    assert found.PixelData == b"\1\2\3\4"


async def test_an_object_that_no_edit_changes_is_kept_byte_for_byte() -> None:
    async with opened(MemoryStore()) as archive:
        archive.exchange_rules(
            rules(
                {"coerce": [{"map": "Modality", "table": {"US": "XX"}}]},
                {"coerce": EDITS, "when": {"patient_id": "nobody"}},
            )
        )
        result = await store(archive)
        assert result.status == 0
        assert await data_set_of(archive, result.instance) == data_set()


async def test_what_is_no_data_set_is_refused_also_where_it_would_be_changed() -> None:
    async with opened(MemoryStore()) as archive:
        archive.exchange_rules(rules({"coerce": EDITS}))
        for data in (b"\x08\0", data_set()[:-2], b"\x04\0\x10\0UI\4\x001.2\0" + data_set()):
            with pytest.raises(StoreError) as raised:
                await store(archive, data=data)
            assert raised.value.status == 0xC000
        assert await keys_of(archive) == set()


def signed(encoding: Encoding, *tags: int) -> bytes:
    """MAC Parameters Sequence (4FFE,0001) and a stub of the signature (FFFA,FFFA)."""
    order: Literal["big", "little"] = "big" if encoding.big_endian else "little"
    raw = b"".join(half.to_bytes(2, order) for tag in tags for half in (tag >> 16, tag & 0xFFFF))
    mac: list[WritableElement] = [(0x04000005, "US", (1).to_bytes(2, order))]
    if raw:
        mac.append((0x04000020, "AT", raw))
    return write_data_set([(0x4FFE0001, "SQ", [mac])], encoding)


@pytest.mark.parametrize("syntax", SYNTAXES)
async def test_what_is_signed_is_not_changed(syntax: str) -> None:
    encoding = SYNTAXES[syntax]
    plain = data_set(encoding=encoding)
    # The pixel data comes last.
    at = plain.index((0x7FE0).to_bytes(2, "big" if encoding.big_endian else "little"))

    async def stored(archive: Archive, signatures: bytes) -> bytes:
        data = plain[:at] + signatures + plain[at:]
        result = await store(archive, data=data, transfer_syntax_uid=syntax)
        kept = await data_set_of(archive, result.instance)
        await archive.remove([uid(1)])
        return kept

    async with opened(MemoryStore()) as archive:
        archive.exchange_rules(rules({"coerce": [{"set": "PatientID", "value": "NEW"}]}))
        fine = signed(encoding, 0x00080060, 0x00100010)
        assert fine + plain[at:] in await stored(archive, fine)
        for bad in (
            signed(encoding, 0x00080060, 0x00100020),
            signed(encoding, 0x04000561),
            signed(encoding),
        ):
            with pytest.raises(StoreError, match="signature") as raised:
                await stored(archive, bad)
            assert raised.value.status == 0xC000
        # Where nothing changes, nobody minds.
        archive.exchange_rules(rules({"coerce": [{"remove": "StudyDescription"}]}))
        both = signed(encoding, 0x00081030, 0x00100020)
        assert await stored(archive, both) == plain[:at] + both + plain[at:]
        assert await keys_of(archive) == set()


async def test_what_waits_for_rules_is_within_the_budget() -> None:
    long = write_data_set(
        [(0x00090010, "LO", b"X"), (0x00091001, "OB", bytes(40_000))], EXPLICIT_LITTLE
    )
    plain = data_set()
    at = plain.index(b"\x10\0\x10\0PN")
    data = plain[:at] + long + plain[at:]
    options = {"memory_budget": 100_000, "memory_wait_seconds": 0.0}
    async with opened(MemoryStore(), **options) as archive:
        archive.exchange_rules(rules({"coerce": EDITS}))
        async with await receive(archive, 1) as one, await receive(archive, 2) as two:
            await one.write([data[:30_000]])
            assert 30_000 <= archive.budget.taken < 32_000
            await two.write([data[:30_000]])
            async with await receive(archive, 3) as three:
                await three.write([data[:30_000]])
                with pytest.raises(StoreError) as raised:
                    await three.write([data[30_000:]])
                assert raised.value.status == 0xA700
            await two.discard()
            # What was decided on is charged as what is staged.
            await one.write([data[30_000:]])
            assert len(data) <= archive.budget.taken < len(data) + 2_000
            assert (await one.commit()).status == 0xB000
        assert archive.budget.taken == 0
        # More than the budget, alone, and nobody to wait for.
        huge = data[:at] + long * 4 + plain[at:]
        async with await receive(archive, 3) as ingest:
            # What a single one may take is half of the budget.
            huge = huge.replace(uid(1).encode(), uid(3).encode())
            for start in range(0, len(huge), 10_000):
                await ingest.write([huge[start : start + 10_000]])
            assert (await ingest.commit()).status == 0xB000
        assert archive.budget.taken == 0


async def test_what_is_negotiated_says_whether_attributes_may_be_changed() -> None:
    async with opened(MemoryStore()) as archive:
        offer = StorageScp(archive).offer(CT)
        assert offer is not None
        assert offer.extended is not None
        before = StorageSupport.decode(offer.extended(b"") or b"")
        archive.exchange_rules(rules({"coerce": EDITS, "when": {"calling_ae": "nobody"}}))
        after = StorageSupport.decode(offer.extended(b"") or b"")
    assert before == StorageSupport(
        level=StorageLevel.FULL, signatures=SignatureLevel.PRESERVED, coercion=ElementCoercion.NEVER
    )
    assert after == StorageSupport(
        level=StorageLevel.FULL,
        signatures=SignatureLevel.PRESERVED,
        coercion=ElementCoercion.MAY,
    )


async def test_a_replaced_object_is_routed_again() -> None:
    index = Watched()
    async with opened(MemoryStore(), index, duplicates=DuplicatePolicy.REPLACE) as archive:
        archive.exchange_rules(rules({"forward": "PACS"}))
        await store(archive)
        await store(archive, data=data_set(pixels=b"\4\3\2\1"))
    assert [len(record.routes) for record in index.added] == [1, 1]


async def test_without_rules_nothing_else_is_scanned() -> None:
    async with opened(MemoryStore()) as archive:
        assert isinstance(archive, Archive)
        async with await receive(archive) as ingest:
            plain = ingest._scan
            archive.exchange_rules(rules({"when": {"modality": "CT"}}))
            async with await receive(archive, 2) as other:
                assert len(other._scan._scanner._watched) == len(plain._scanner._watched)
            archive.exchange_rules(rules({"when": {"department": "x"}}))
            async with await receive(archive, 3) as other:
                assert len(other._scan._scanner._watched) == len(plain._scanner._watched) + 1
