"""QIDO-RS of an archive whose objects say more than its index has."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode
from xml.etree import ElementTree as ET

import pytest
from dicomweb_client.api import DICOMwebClient
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from isocenter.services.archive.archive import Archive
from isocenter.services.archive.corrections.values import PatientKey
from isocenter.services.archive.index.attributes import Level
from isocenter.services.archive.metadata.maker import MetadataMaker, make_all
from isocenter.services.net.http.application import Handler
from isocenter.services.net.http.messages import HttpError, Request, Response
from isocenter.services.net.http.routing import RouteTable
from isocenter.services.notices import Caller, Notices, SearchAnswered, SearchOutcome
from isocenter.services.service_classes.query_retrieve.identifier import (
    InformationModel,
    parse_query,
)
from isocenter.services.service_classes.query_retrieve.identifier_builder import build_identifier
from isocenter.services.web.dicomweb.search.object_attributes import pick, satisfies
from isocenter.services.web.dicomweb.search.qido_rs import SearchLimits
from isocenter.services.web.dicomweb.search.request import parse_search
from isocenter.services.web.dicomweb.service import dicomweb_routes
from isocenter.services.web.dicomweb.urls import instance_url
from isocenter.storage.database.sqlite.database import open_sqlite_database
from isocenter.storage.stores import StoresOptions, join_stores
from support.dicomweb import served
from support.studies import ROOT, instance
from support.web_requests import archive_in, ask, body_of, header, keep

BASE = "http://archive.example/dicomweb"
EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"
LIMITS = SearchLimits(default=3, most=4, objects=8)


def nobody(request: Request) -> Caller:
    return Caller(association="test", address="127.0.0.1")


def objects() -> list[Dataset]:
    """Two studies of two series of two instances, which differ in many attributes."""
    made = []
    for study in (1, 2):
        for series in (1, 2):
            for number in (1, 2):
                one = instance(study, series, number, patient=f"P{study}")
                one.StudyDate = f"2026010{study}"
                one.Modality = "CT" if series == 1 else "MR"
                one.KVP = str(100 * study + 20 * number)
                one.AcquisitionDateTime = f"2026010{study}1200{series}{number}+0100"
                one.ImagePositionPatient = [0, 0, number * 1.5]
                one.OperatorsName = "Äbler^Anna" if study == 1 else "Smith^Bob"
                item = Dataset()
                item.ReferencedSOPInstanceUID = f"{ROOT}.9.{study}"
                purpose = Dataset()
                purpose.CodeValue, purpose.CodeMeaning = "121311", f"Localizer {number}"
                item.PurposeOfReferenceCodeSequence = Sequence([purpose])
                other = Dataset()
                other.ReferencedSOPInstanceUID = f"{ROOT}.9.9"
                one.ReferencedImageSequence = Sequence([item, other])
                request = Dataset()
                request.RequestedProcedureID = f"R{study}"
                request.ScheduledProcedureStepID = f"S{series}"
                request.ReasonForTheRequestedProcedure = f"Reason {study}"
                one.RequestAttributesSequence = Sequence([request])
                block = one.private_block(0x0011, "ACME 1.1", create=True)
                if study == 2:  # the same creator in another block
                    one.private_block(0x0013, "OTHER", create=True)
                    del one[0x00110010]
                    one.add_new(0x00110011, "LO", "ACME 1.1")
                    one.add_new(0x00111101, "LO", f"private {study}")
                    one.add_new(0x00111102, "IS", number)
                else:
                    block.add_new(0x01, "LO", f"private {study}")
                    block.add_new(0x02, "IS", number)
                made.append(one)
    return made


def empty_files(folder: Path) -> None:
    found = [path for path in folder.rglob("*") if path.is_file() and path.stat().st_size > 500]
    assert len(found) >= len(objects())
    for path in found:
        path.write_bytes(b"")


@asynccontextmanager
async def with_fragments(folder: Path) -> AsyncIterator[RouteTable[Handler]]:
    """With metadata that were made beforehand, and nothing left of the objects themselves."""
    async with open_sqlite_database(":memory:") as database:
        stores = join_stores(database, StoresOptions())
        async with archive_in(folder, stores.index) as archive:
            await keep(archive, *objects())
            book = stores.metadata
            maker = MetadataMaker(book, archive, base=BASE, url_of=instance_url, rest=0.0)
            await make_all(maker, book, lambda done, total: None)
            empty_files(folder)
            yield RouteTable(dicomweb_routes(archive, Notices(), book=book, caller_of=nobody))


@asynccontextmanager
async def searched(
    folder: Path, limits: SearchLimits = LIMITS, notices: Notices | None = None
) -> AsyncIterator[RouteTable[Handler]]:
    async with archive_in(folder) as archive:
        await keep(archive, *objects())
        yield table_of(archive, limits, notices)


def table_of(
    archive: Archive, limits: SearchLimits = LIMITS, notices: Notices | None = None
) -> RouteTable[Handler]:
    return RouteTable(
        dicomweb_routes(
            archive,
            notices or Notices(),
            search_limits=limits,
            caller_of=nobody,
        )
    )


async def answer(table: RouteTable[Handler], path: str, *parameters: tuple[str, str]) -> Response:
    return await ask(table, f"/dicomweb{path}?{urlencode(parameters)}")


async def found(
    table: RouteTable[Handler], path: str, *parameters: tuple[str, str]
) -> list[dict[str, Any]]:
    matches: list[dict[str, Any]] = json.loads(
        await body_of(await answer(table, path, *parameters))
    )
    return matches


def uids(matches: list[dict[str, Any]]) -> list[str]:
    """Without the root, of the lowest level that is there."""
    keys = ("00080018", "0020000E", "0020000D")
    return [
        next(match[key]["Value"][0] for key in keys if key in match).removeprefix(f"{ROOT}.")
        for match in matches
    ]


@pytest.mark.parametrize(
    ("path", "parameters", "expected"),
    [
        ("/instances", [("KVP", "120")], ["1.1.1", "1.2.1"]),
        ("/instances", [("KVP", "120.0"), ("Modality", "MR")], ["1.2.1"]),
        ("/instances", [("00180060", "220\\999")], ["2.1.1", "2.2.1"]),
        ("/series", [("KVP", "240")], ["2.1", "2.2"]),
        ("/studies", [("KVP", "240")], ["2"]),
        ("/studies", [("KVP", "240"), ("PatientID", "P1")], []),
        ("/studies", [("KVP", "")], ["2", "1"]),
        ("/studies", [("KVP", "*")], ["2", "1"]),
        (f"/studies/{ROOT}.1/series", [("KVP", "140")], ["1.1", "1.2"]),
        ("/studies", [("OperatorsName", "äbler*")], ["1"]),
        ("/studies", [("OperatorsName", "SMITH^B?B")], ["2"]),
        ("/studies", [("AcquisitionDateTime", "20260101-20260101")], ["1"]),
        ("/series", [("AcquisitionDateTime", "20260102110020+0000-")], ["2.2"]),
        ("/series", [("AcquisitionDateTime", "20260102120020-0500-")], []),
        ("/instances", [("AcquisitionDateTime", "202601011100110+0000")], None),
        ("/instances", [("AcquisitionDateTime", "20260101110011+0000")], ["1.1.1"]),
        # In sequences, by keyword and tag, and all of it in one item.
        (
            "/studies",
            [("ReferencedImageSequence.ReferencedSOPInstanceUID", f"{ROOT}.9.2")],
            ["2"],
        ),
        (
            "/studies",
            [("00081140.00081155", f"{ROOT}.9.1\\{ROOT}.9.2,{ROOT}.9.3")],
            ["2", "1"],
        ),
        (
            "/instances",
            [("00081140.0040A170.CodeMeaning", "*izer 2"), ("Modality", "MR")],
            ["1.2.2", "2.2.2"],
        ),
        (
            "/studies",
            [
                ("ReferencedImageSequence.ReferencedSOPInstanceUID", f"{ROOT}.9.9"),
                ("ReferencedImageSequence.PurposeOfReferenceCodeSequence.CodeValue", "121311"),
            ],
            [],
        ),
        # What the index has of requests, and what it has not, of one item.
        (
            "/series",
            [("00400275.00400009", "S2"), ("00400275.00401002", "Reason 1")],
            ["1.2"],
        ),
        ("/series", [("00400275.00400009", "S2"), ("PatientID", "P2")], ["2.2"]),
        # Private: in the block of the tag, and wherever its creator has it.
        ("/studies", [("00111001", "private 1")], ["1"]),
        ("/studies", [("00110010", "ACME 1.1"), ("00111001", "private*")], ["2", "1"]),
        ("/studies", [("00110010", "ACME 1.1"), ("00111001", "private 2")], ["2"]),
        ("/studies", [("00110010", "NOBODY"), ("00111001", "private*")], []),
        ("/instances", [("00110010", "ACME 1.1"), ("00111002", "02"), ("Modality", "CT")],
         ["1.1.2", "2.1.2"]),
    ],
)  # fmt: skip
async def test_what_the_index_does_not_have_is_matched_in_objects(
    tmp_path: Path, path: str, parameters: list[tuple[str, str]], expected: list[str] | None
) -> None:
    async with searched(tmp_path, SearchLimits()) as table:
        if expected is None:
            with pytest.raises(HttpError) as caught:
                await answer(table, path, *parameters)
            assert caught.value.status == 400
            assert parameters[0][0] in caught.value.message
        else:
            assert uids(await found(table, path, *parameters)) == expected


async def test_what_was_made_beforehand_takes_the_place_of_objects(tmp_path: Path) -> None:
    async with with_fragments(tmp_path) as table:
        for path, parameters, expected in (
            ("/studies", [("KVP", "240")], ["2"]),
            ("/series", [("00110010", "ACME 1.1"), ("00111001", "private 2")], ["2.1", "2.2"]),
            ("/instances", [("KVP", "120"), ("Modality", "MR")], ["1.2.1"]),
        ):
            assert uids(await found(table, path, *parameters)) == expected
        (match,) = await found(
            table, "/instances", ("SOPInstanceUID", f"{ROOT}.2.1.2"), ("includefield", "KVP")
        )
        assert match["00180060"]["Value"] == [240]


async def test_pages_of_what_objects_tell(tmp_path: Path) -> None:
    async with searched(tmp_path, SearchLimits(objects=8)) as table:
        asked = ("OperatorsName", "ä*")
        whole = uids(await found(table, "/instances", asked))
        assert len(whole) == 4
        for offset in range(5):
            page = await answer(table, "/instances", asked, ("limit", "1"), ("offset", str(offset)))
            assert uids(json.loads(await body_of(page))) == whole[offset : offset + 1]
            assert (header(page, "warning") is not None) is (offset < 3)


async def test_a_search_of_too_many_objects_is_refused(tmp_path: Path) -> None:
    told: list[object] = []
    async with searched(tmp_path, SearchLimits(objects=3), Notices(told.append)) as table:
        with pytest.raises(HttpError) as caught:
            await answer(table, "/instances", ("KVP", "240"))
        assert (caught.value.status, caught.value.code) == (413, "TOO_BROAD")
        assert "KVP" in caught.value.message
        assert "240" not in caught.value.message
        # Narrowed by the index, or with a page that is full before, it is answered.
        narrow = (("KVP", "240"), ("StudyInstanceUID", f"{ROOT}.2"), ("InstanceNumber", "2"))
        assert uids(await found(table, "/instances", *narrow)) == ["2.1.2", "2.2.2"]
        page = await answer(table, "/instances", ("KVP", "120"), ("limit", "0"))
        assert json.loads(await body_of(page)) == []
        full = await answer(table, "/instances", ("KVP", "120"), ("limit", "2"))
        assert uids(json.loads(await body_of(full))) == ["1.1.1", "1.2.1"]
        assert header(full, "warning") is not None
    assert [one.outcome for one in told if isinstance(one, SearchAnswered)] == [
        SearchOutcome.TOO_BROAD, SearchOutcome.WHOLE, SearchOutcome.CUT, SearchOutcome.CUT
    ]  # fmt: skip


async def test_fields_of_objects(tmp_path: Path) -> None:
    async with searched(tmp_path, SearchLimits()) as table:
        of_instance = ("SOPInstanceUID", f"{ROOT}.2.1.2")

        async def fields(*names: str) -> dict[str, Any]:
            asked = [("includefield", name) for name in names]
            (match,) = await found(table, "/instances", of_instance, *asked)
            assert list(match) == sorted(match)
            return match

        usual = await fields()
        assert "00180060" not in usual
        for names in (["KVP,ImagePositionPatient"], ["00180060", "00200032"], [" KVP", "00200032"]):
            more = await fields(*names)
            assert more["00180060"] == {"vr": "DS", "Value": [240]}
            assert more["00200032"]["Value"][2] == 3
            assert more.keys() - usual.keys() == {"00180060", "00200032"}
        # Of a sequence no more than what is named.
        nested = await fields("00081140.PurposeOfReferenceCodeSequence.CodeMeaning")
        items = nested["00081140"]["Value"]
        assert items[0] == {
            "0040A170": {
                "vr": "SQ",
                "Value": [{"00080104": {"vr": "LO", "Value": ["Localizer 2"]}}],
            }
        }
        assert items[1] == {"0040A170": {"vr": "SQ"}}
        both = await fields("00081140.00081155", "ReferencedImageSequence")
        assert len(both["00081140"]["Value"][0]) == 2
        request = (await fields("00400275.ReasonForTheRequestedProcedure"))["00400275"]["Value"]
        assert request[0]["00401002"]["Value"] == ["Reason 2"]
        assert request[0]["00401001"]["Value"] == ["R2"]
        # Private ones with their creators, where the object has them.
        private = await fields("00111101")
        assert private["00111101"] == {"vr": "LO", "Value": ["private 2"]}
        assert private["00110011"] == {"vr": "LO", "Value": ["ACME 1.1"]}
        # Without a value, or unknown, or none of a data set.
        assert (await fields("ContrastBolusAgent"))["00180010"] == {"vr": "LO"}
        assert await fields("Nonsense", "00091010", "00020010", "00080000", "all.x") == usual
        every = await fields("all")
        assert every.keys() > usual.keys()
        assert (await fields("PixelData")).get("7FE00010", {}).get("Value") is None


async def test_fields_as_xml(tmp_path: Path) -> None:
    async with archive_in(tmp_path) as archive:
        one = objects()[-1]
        one.add_new(0x60003000, "OW", bytes(5000))
        one.add_new(0x00111103, "UN", b"\1\2")
        await keep(archive, one)
        fields = "60003000,00111103,KVP,00081140.00081155,OperatorsName"
        accept = {"accept": 'multipart/related; type="application/dicom+xml"'}
        url = f"/dicomweb/instances?includefield={fields}"
        xml = (await body_of(await ask(table_of(archive), url, headers=accept))).decode()
        assert 'keyword="OverlayData"><BulkData uri="http' in xml
        assert 'privateCreator="ACME 1.1"><InlineBinary>AQI=</InlineBinary>' in xml
        assert "<FamilyName>Smith</FamilyName>" in xml
        assert xml.count('keyword="ReferencedSOPInstanceUID"') == 2
        (json_form,) = await found(table_of(archive), "/instances", ("includefield", fields))
        (document,) = re.findall(r"<NativeDicomModel.*</NativeDicomModel>", xml, re.DOTALL)
        top = [child.attrib["tag"] for child in ET.fromstring(document)]
        # Private elements have no block there.
        assert len(top) == len(json_form)
        assert [tag for tag in top if int(tag, 16) >> 16 != 0x0011] == [
            tag for tag in json_form if not tag.startswith("0011")
        ]


async def test_long_answers_are_compressed_for_who_takes_it(tmp_path: Path) -> None:
    async with archive_in(tmp_path) as archive:
        await keep(archive, *objects(), *[instance(3, 1, number) for number in range(1, 8)])
        table = table_of(archive, SearchLimits())
        plain = await ask(table, "/dicomweb/instances")
        assert header(plain, "content-encoding") is None
        for accepted, is_gzip in (("br, gzip", True), ("gzip;q=0", False)):
            given = await ask(table, "/dicomweb/instances", headers={"accept-encoding": accepted})
            body = await body_of(given)
            assert (header(given, "content-encoding") == "gzip") is is_gzip
            assert (gzip.decompress(body) if is_gzip else body) == await body_of(plain)
            assert "Accept-Encoding" in (header(given, "vary") or "")


async def test_what_was_matched_is_shown(tmp_path: Path) -> None:
    async with searched(tmp_path, SearchLimits()) as table:
        (study,) = await found(
            table, "/studies", ("ReasonForPerformedProcedureCodeSequence", ""), ("KVP", "240")
        )
        assert study["00401012"] == {"vr": "SQ"}
        assert "00180060" not in study  # it belongs to series
        series = await found(
            table, "/series", ("KVP", "240"), ("includefield", "00280030,00200052")
        )
        assert [one["00180060"]["Value"] for one in series] == [[240], [240]]
        assert all("00200052" in one and "00280030" not in one for one in series)
        (study,) = await found(
            table, "/studies", ("00110010", "ACME 1.1"), ("00111001", "private 2")
        )
        assert study["00111101"]["Value"] == ["private 2"]


async def test_no_more_objects_are_read_for_fields_than_may_be(tmp_path: Path) -> None:
    async with searched(tmp_path, SearchLimits(objects=3)) as table:
        cut = await answer(table, "/instances", ("includefield", "KVP"))
        matches = json.loads(await body_of(cut))
        assert [("00180060" in match) for match in matches] == [True] * 3 + [False] * 5
        assert "5 results lack" in (header(cut, "warning") or "")


async def test_answers_are_cut_at_the_bound_of_the_server(tmp_path: Path) -> None:
    async with searched(tmp_path) as table:
        for parameters, number in (
            ((), 3),
            ((("limit", "2"),), 2),
            ((("limit", "1000000"),), 4),
            ((("limit", "0"),), 0),
        ):
            page = await answer(table, "/instances", *parameters)
            assert len(json.loads(await body_of(page))) == number
            warning = header(page, "warning")
            assert warning is not None
            assert warning.startswith("299 http://archive.example/dicomweb ")
            assert "There are additional results that can be requested" in warning
        rest = await answer(table, "/instances", ("offset", "5"))
        assert header(rest, "warning") is None
        assert await found(table, "/instances", ("offset", "999999999")) == []


async def test_what_a_viewer_asks_for(tmp_path: Path) -> None:
    """The searches of OHIF, in its order."""
    async with searched(tmp_path, SearchLimits()) as table:
        page = [("limit", "101"), ("offset", "0"), ("fuzzymatching", "false")]
        listed = await found(
            table, "/studies", *page, ("includefield", "00081030,00080060,00080090,00100030"),
            ("PatientName", "*ll*"), ("00100020", "*P*"), ("AccessionNumber", "*A*"),
            ("StudyDescription", "*Study*"), ("ModalitiesInStudy", "CT,MR,US"),
            ("StudyDate", "20260101-20260102"),
        )  # fmt: skip
        assert uids(listed) == ["2", "1"]
        for study in listed:
            assert {key for key, one in study.items() if "Value" in one} >= {
                "00201206", "00201208", "00080061", "00080020", "00080030", "00100010", "00100020",
                "00100040", "00081030", "00080090", "00100030",
            }  # fmt: skip
        series = await found(
            table, f"/studies/{ROOT}.1/series", ("includefield", "0008103E,00080021")
        )
        assert uids(series) == ["1.1", "1.2"]
        for one in series:
            assert {"00201209", "00080060", "00200011", "0008103E", "00080021"} <= one.keys()
        opened = await found(table, "/studies", ("StudyInstanceUID", f"{ROOT}.1\\{ROOT}.2"))
        assert uids(opened) == ["2", "1"]
        assert uids(await found(table, "/studies", ("00100020", "P2"))) == ["2"]
        first = await found(
            table, f"/studies/{ROOT}.1/series/{ROOT}.1.2/instances",
            ("limit", "1"), ("includefield", "00080018"),
        )  # fmt: skip
        assert uids(first) == ["1.2.1"]


async def test_nothing_found(tmp_path: Path) -> None:
    async with archive_in(tmp_path) as archive:
        asked = "/dicomweb/studies?PatientID=nobody"
        empty = await ask(table_of(archive), asked)
        assert (empty.status, await body_of(empty)) == (200, b"[]")
        older = await ask(table_of(archive, SearchLimits(empty_status=204)), asked)
        assert (older.status, await body_of(older)) == (204, b"")


async def test_an_answer_beyond_ascii_names_its_character_set(tmp_path: Path) -> None:
    async with searched(tmp_path) as table:
        name = quote("müller*")
        (first, _) = json.loads(
            await body_of(await ask(table, f"/dicomweb/studies?PatientName={name}"))
        )
        assert first["00080005"] == {"vr": "CS", "Value": ["ISO_IR 192"]}
        accept = {"accept": 'multipart/related; type="application/dicom+xml"'}
        xml = await body_of(
            await ask(table, f"/dicomweb/studies?PatientName={name}", headers=accept)
        )
        assert xml.count("Müller".encode()) == 2
        assert xml.count(b"ISO_IR 192") == 2


async def test_counts_follow_what_leaves(tmp_path: Path) -> None:
    async with archive_in(tmp_path) as archive:
        records = await keep(archive, *objects())
        table = table_of(archive)
        study = ("StudyInstanceUID", f"{ROOT}.1")

        async def counted() -> tuple[Any, ...]:
            (match,) = await found(table, "/studies", study)
            return tuple(match[key]["Value"] for key in ("00201206", "00201208", "00080061"))

        assert await counted() == ([2], [4], ["CT", "MR"])
        await archive.remove([one.sop_instance_uid for one in records[2:4]])
        assert await counted() == ([1], [2], ["CT"])


NAMES = st.lists(
    st.sampled_from(
        [
            "PatientName", "00100020", "StudyDate", "StudyTime", "KVP", "PixelData", "00091001",
            "00090010", "00400275", "00400275.00401001", "ReferencedImageSequence", "00081140",
            "00081140.00081155", "AcquisitionDateTime", "Rows", "00000000", "FFFEE000", "7FE00010",
            "00280009", "SelectorATValue", "OverlayData", "60033000", "00080005", "", "....", "x",
        ]
    ),
    min_size=1,
    max_size=3,
).map(".".join)  # fmt: skip
VALUES = st.one_of(
    st.sampled_from(["", "*", "?", '""', "-", "--", "\\", "1-2-3", "20260101-", "1.2.3", "\0"]),
    st.text(max_size=12),
)
CONTROLS = st.sampled_from(["includefield", "limit", "offset", "fuzzymatching"])


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from([Level.STUDY, Level.SERIES, Level.IMAGE]),
    st.lists(st.tuples(CONTROLS | NAMES, VALUES | NAMES), max_size=5),
)
def test_whatever_is_asked_is_understood_or_400(
    level: Level, parameters: list[tuple[str, str]]
) -> None:
    refused: HttpError | None = None
    try:
        search = parse_search(level, {}, parameters)
    except HttpError as error:
        refused = error
    if refused is not None:
        assert (refused.status, refused.code) == (400, "BAD_QUERY")
        return
    item = {
        "00081140": {"vr": "SQ", "Value": [{}, None, {"00081155": {"vr": "UI", "Value": ["1.2"]}}]},
        "00090010": {"vr": "LO", "Value": ["A"]},
        "00091001": {"vr": "UN", "InlineBinary": "AQI="},
        "0008002A": {"vr": "DT", "Value": ["2026", None]},
        "00180060": {"vr": "DS", "Value": [1.5, "x"]},
        "00400275": {"vr": "SQ"},
    }
    satisfies(item, search.keys)
    pick(item, search.fields)


QUESTIONS: list[tuple[Level, list[tuple[str, str]]]] = [
    (Level.STUDY, [("PatientName", "m*")]),
    (Level.STUDY, [("PatientName", "MÜLLER^J?RG")]),
    (Level.STUDY, [("PatientID", "P1")]),
    (Level.STUDY, [("StudyDate", "20260102-")]),
    (Level.STUDY, [("StudyDate", "20260101"), ("StudyTime", "1000-1100")]),
    (Level.STUDY, [("ModalitiesInStudy", "MR\\XA")]),
    (Level.STUDY, [("StudyInstanceUID", f"{ROOT}.1\\{ROOT}.2")]),
    (Level.STUDY, [("StudyDescription", "*dy 2"), ("AccessionNumber", "")]),
    (Level.SERIES, [("StudyInstanceUID", f"{ROOT}.1"), ("Modality", "MR")]),
    (Level.SERIES, [
        ("StudyInstanceUID", f"{ROOT}.2"),
        ("RequestAttributesSequence.RequestedProcedureID", "R2"),
    ]),
    (Level.IMAGE, [
        ("StudyInstanceUID", f"{ROOT}.2"),
        ("SeriesInstanceUID", f"{ROOT}.2.1"),
        ("InstanceNumber", "02"),
    ]),
]  # fmt: skip


async def test_a_search_finds_what_the_c_find_of_the_same_keys_finds(tmp_path: Path) -> None:
    async with archive_in(tmp_path) as archive:
        await keep(archive, *objects())
        for level, keys in QUESTIONS:
            identifier = build_identifier(keys, level, EXPLICIT_LITTLE)
            by_dimse = parse_query(identifier, EXPLICIT_LITTLE, root=InformationModel.STUDY).query
            by_web = parse_search(level, {}, keys).query
            answers = []
            for query in (by_dimse, by_web):
                async with archive.index.find(query) as blocks:
                    unique = [
                        match[{"STUDY": 0x0020000D, "SERIES": 0x0020000E, "IMAGE": 0x00080018}[
                            level.value
                        ]]
                        async for block in blocks
                        for match in block
                    ]  # fmt: skip
                answers.append(sorted(unique))
            assert answers[0] == answers[1] != []


def test_dicomweb_client_searches() -> None:
    with served() as archive:
        client = DICOMwebClient(archive.url)
        client.store_instances(objects())
        studies = client.search_for_studies(
            fuzzymatching=True,
            search_filters={"PatientName": "Müller*", "ModalitiesInStudy": "MR"},
            fields=["ProcedureCodeSequence", "00101010", "00111001"],
        )
        assert uids(studies) == ["2", "1"]
        assert all("00081032" in study for study in studies)
        assert studies[1]["00111001"]["Value"] == ["private 1"]
        series = client.search_for_series(f"{ROOT}.1", search_filters={"Modality": "CT"})
        assert uids(series) == ["1.1"]
        instances = client.search_for_instances(limit=3, offset=6)
        assert uids(instances) == ["2.2.1", "2.2.2"]
        everything = client.search_for_instances(limit=3, get_remaining=True)
        assert len(everything) == 8


class Linked:
    """P1 and P2 are one person."""

    async def linked(self, patient_id: str, issuer: str | None) -> list[PatientKey]:
        return [PatientKey({"P1": "P2", "P2": "P1"}[patient_id], "")] if issuer is None else []


async def test_a_search_by_patient_follows_links(tmp_path: Path) -> None:
    async with archive_in(tmp_path) as archive:
        await keep(archive, *objects())
        routes = dicomweb_routes(
            archive, Notices(), search_limits=SearchLimits(), links=Linked(), caller_of=nobody
        )
        table = RouteTable(routes)
        asked = ("PatientID", "P2")
        assert uids(await found(table, "/studies", asked)) == ["2", "1"]
        series = uids(await found(table, "/series", asked))
        assert series == ["2.1", "2.2", "1.1", "1.2"]
        paged: list[str] = []
        for offset in range(5):
            answered = await answer(
                table, "/series", asked, ("limit", "1"), ("offset", str(offset))
            )
            assert ("warning" in dict(answered.headers)) is (offset < 3), offset
            paged += uids(json.loads(await body_of(answered) or b"[]"))
        assert paged == series
        assert uids(await found(table, "/studies", asked, ("IssuerOfPatientID", "A"))) == []
        # By what the index does not have, as well.
        assert uids(await found(table, "/instances", asked, ("KVP", "140"))) == [
            "1.1.2", "1.2.2",
        ]  # fmt: skip
