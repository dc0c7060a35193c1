"""FHIR over the web: ImagingStudy and Patient, found and read as health records ask for them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any
from urllib.parse import quote

import orjson
import pytest
from fhir.resources.bundle import Bundle as BundleR5
from fhir.resources.capabilitystatement import CapabilityStatement as CapabilityStatementR5
from fhir.resources.operationoutcome import OperationOutcome as OperationOutcomeR5
from fhir.resources.R4B.bundle import Bundle as BundleR4B
from fhir.resources.R4B.capabilitystatement import CapabilityStatement as CapabilityStatementR4B
from fhir.resources.R4B.imagingstudy import ImagingStudy as ImagingStudyR4B
from fhir.resources.R4B.operationoutcome import OperationOutcome as OperationOutcomeR4B

from isocenter.services.net.http.application import Handler
from isocenter.services.net.http.messages import Request
from isocenter.services.net.http.routing import Route
from isocenter.services.notices import Notices, QueryAnswered
from isocenter.services.security.access.permissions import ALL_PERMISSIONS
from isocenter.services.web.deidentified_answers import is_for_projects
from isocenter.services.web.principal import Principal
from isocenter.services.web.records import RequestRecords
from isocenter.services.web.study_scope import is_within
from services.web.asking import Answered, WebSide, web_side
from storage.index_contract import CT_STORAGE, make_record

SHARING = {
    "sharing.patient_authority": "1.2.3.1",
    "sharing.issuers": ["CLINIC=1.2.3.2"],
    "sharing.accession_authority": "1.2.3.3",
    "server.time_zone": "Europe/Berlin",
    "web.public_root": "https://archive.example",
}
MODELS: dict[str, tuple[Any, Any, Any]] = {
    "r4": (BundleR4B, CapabilityStatementR4B, OperationOutcomeR4B),
    "r5": (BundleR5, CapabilityStatementR5, OperationOutcomeR5),
}
JANE = {"PatientID": "P1", "PatientName": "Doe^Jane", "PatientSex": "F",
        "PatientBirthDate": "19700102"}  # fmt: skip
JOHN = {"PatientID": "P1", "IssuerOfPatientID": "CLINIC", "PatientName": "Roe^John^Paul",
        "PatientSex": "M", "PatientBirthDate": "19811231"}  # fmt: skip


fhir_side = partial(web_side, fhir=True)


async def fill(side: WebSide) -> None:
    """Two patients with the same ID of two issuers: three studies of one, and one of the other."""
    records = [
        make_record(
            f"1.{number}.1.{instance}", f"1.{number}.1", f"1.{number}",
            StudyDate=f"2026010{number}", StudyTime="101500", AccessionNumber=f"A{number}",
            StudyDescription=f"Study {number}", Modality="CT" if number < 3 else "MR",
            SeriesNumber="1", InstanceNumber=str(instance), **JANE,
        )
        for number in (1, 2, 3)
        for instance in (1, 2)
    ]  # fmt: skip
    records.append(make_record("2.1.1.1", "2.1.1", "2.1", StudyDate="20260201", Modality="US",
                               AccessionNumber="A1", **JOHN))  # fmt: skip
    await side.parts.archive.index.add(records)


def resources(answer: Answered, mode: str = "match") -> list[dict[str, Any]]:
    assert answer.status == 200, answer.body
    entries = answer.json.get("entry", [])
    return [one["resource"] for one in entries if one["search"]["mode"] == mode]


def ids(answer: Answered) -> list[str]:
    return sorted(one["id"] for one in resources(answer))


STUDIES: Sequence[tuple[str, list[str]]] = (
    ("", ["1.1", "1.2", "1.3", "2.1"]),
    ("_id=1.2", ["1.2"]),
    ("_id=1.2,1.3,7.7", ["1.2", "1.3"]),
    ("identifier=urn:oid:1.2", ["1.2"]),
    ("identifier=urn:dicom:uid|urn:oid:1.2", ["1.2"]),
    ("identifier=urn:dicom:uid|1.2", ["1.2"]),
    ("identifier=A1", ["1.1", "2.1"]),
    ("identifier=urn:oid:1.2.3.3|A2", ["1.2"]),
    ("identifier=urn:oid:9.9|A2", []),
    ("identifier=|A2", []),
    ("basedon:identifier=A2", ["1.2"]),
    ("patient.identifier=P1", ["1.1", "1.2", "1.3", "2.1"]),
    ("patient.identifier=urn:oid:1.2.3.1|P1", ["1.1", "1.2", "1.3"]),
    ("patient:identifier=urn:oid:1.2.3.2|P1", ["2.1"]),
    ("subject.identifier=urn:oid:7.7|P1", []),
    ("modality=CT", ["1.1", "1.2"]),
    ("modality=CT,US", ["1.1", "1.2", "2.1"]),
    ("modality=http://dicom.nema.org/resources/ontology/DCM|MR", ["1.3"]),
    ("modality=http://other.example|MR", []),
    ("started=2026-01-02", ["1.2"]),
    ("started=2026-01", ["1.1", "1.2", "1.3"]),
    ("started=2026", ["1.1", "1.2", "1.3", "2.1"]),
    ("started=ge2026-01-02&started=lt2026-02", ["1.2", "1.3"]),
    ("started=gt2026-01-02", ["1.3", "2.1"]),
    ("started=le2026-01-01", ["1.1"]),
    # A quarter past ten in Berlin in winter is a quarter past nine.
    ("started=ge2026-01-03T09:15:00Z&started=le2026-01-03T09:15:00Z", ["1.3"]),
    ("started=lt2026-01-02T09:15:00Z&modality=CT", ["1.1"]),
    ("series=1.3.1", ["1.3"]),
    ("instance=urn:oid:1.2.1.2", ["1.2"]),
    (f"dicom-class=urn:oid:{CT_STORAGE}", ["1.1", "1.2", "1.3", "2.1"]),
    ("dicom-class=urn:oid:1.2.840.10008.5.1.4.1.1.4", []),
    ("status=available", ["1.1", "1.2", "1.3", "2.1"]),
    ("status=cancelled", []),
    ("patient=Patient/unknown", []),
)  # fmt: skip
PATIENTS: Sequence[tuple[str, list[str]]] = (
    ("", ["Doe", "Roe"]),
    ("identifier=P1", ["Doe", "Roe"]),
    ("identifier=urn:oid:1.2.3.2|P1", ["Roe"]),
    ("identifier=urn:oid:1.2.3.1|P1", ["Doe"]),
    ("identifier=P2", []),
    ("name=doe", ["Doe"]),
    ("name=john", ["Roe"]),
    ("family=ro", ["Roe"]),
    ("family=john", []),
    ("given=ja", ["Doe"]),
    ("family=r&given=john", ["Roe"]),
    ("name=*", ["Doe", "Roe"]),
    ("birthdate=1970-01-02", ["Doe"]),
    ("birthdate=ge1980", ["Roe"]),
    ("gender=female", ["Doe"]),
    ("gender=male,female", ["Doe", "Roe"]),
    ("gender=unknown", []),
)


async def test_studies_are_found_by_what_records_know_of_them() -> None:
    async with fhir_side(SHARING) as side:
        await fill(side)
        for query, found in STUDIES:
            for release in MODELS:
                answer = await side("GET", f"/fhir/{release}/ImagingStudy?{quote(query, '=&')}")
                assert ids(answer) == found, query


async def test_patients_are_found_by_what_records_know_of_them() -> None:
    async with fhir_side(SHARING) as side:
        await fill(side)
        for query, found in PATIENTS:
            answer = await side("GET", f"/fhir/r4/Patient?{quote(query, '=&')}")
            families = sorted(one["name"][0]["family"] for one in resources(answer))
            assert families == found, query


@pytest.mark.parametrize("release", MODELS)
async def test_answers_are_what_their_release_defines(release: str) -> None:
    bundle, capabilities, outcome = MODELS[release]
    async with fhir_side(SHARING) as side:
        await fill(side)
        root = f"/fhir/{release}"
        answers = [
            (bundle, await side("GET", f"{root}/ImagingStudy?_include=ImagingStudy:subject")),
            (bundle, await side("GET", f"{root}/ImagingStudy?_count=1&unknown=1")),
            (bundle, await side("GET", f"{root}/Patient")),
            (capabilities, await side("GET", f"{root}/metadata")),
            (outcome, await side("GET", f"{root}/ImagingStudy/7.7")),
            (outcome, await side("GET", f"{root}/ImagingStudy?started=yesterday")),
            (outcome, await side("GET", f"{root}/Nothing")),
        ]
        for model, answer in answers:
            assert answer.headers["content-type"].startswith("application/fhir+json")
            found = model.model_validate_json(answer.body)
            assert orjson.loads(found.model_dump_json()) == answer.json


async def test_a_study_is_read_with_all_its_instances() -> None:
    async with fhir_side(SHARING) as side:
        await fill(side)
        answer = await side("GET", "/fhir/r4/ImagingStudy/1.1")
        assert answer.status == 200
        ImagingStudyR4B.model_validate_json(answer.body)
        found = answer.json
        assert [one["uid"] for one in found["series"][0]["instance"]] == ["1.1.1.1", "1.1.1.2"]
        assert found["started"] == "2026-01-01T10:15:00+01:00"
        assert found["contained"][0]["address"] == "https://archive.example/dicomweb"
        reference = found["subject"]["reference"]
        patient = await side("GET", f"/fhir/r4/{reference}")
        assert patient.json["name"][0]["family"] == "Doe"
        assert ids(await side("GET", f"/fhir/r4/ImagingStudy?patient={quote(reference)}")) == [
            "1.1", "1.2", "1.3",
        ]  # fmt: skip
        both = "https://elsewhere.example/fhir/" + reference
        assert len(ids(await side("GET", f"/fhir/r4/ImagingStudy?patient={quote(both)}"))) == 3


async def test_searches_leave_instances_to_reads_and_say_so() -> None:
    async with fhir_side(SHARING) as side:
        await fill(side)
        (found,) = resources(await side("GET", "/fhir/r4/ImagingStudy?_id=1.1"))
        assert found["meta"]["tag"][0]["code"] == "SUBSETTED"
        assert (found["numberOfSeries"], found["numberOfInstances"]) == (1, 2)
        assert found["series"][0]["numberOfInstances"] == 2
        assert "instance" not in found["series"][0]
        (found,) = resources(await side("GET", "/fhir/r4/ImagingStudy?_id=1.1&_summary=true"))
        assert "series" not in found


async def test_pages_follow_each_other_to_the_end() -> None:
    async with fhir_side(SHARING) as side:
        await fill(side)
        path = "/fhir/r5/ImagingStudy?_count=3&patient.identifier=P1"
        first = await side("GET", path)
        assert len(ids(first)) == 3
        assert "total" not in first.json
        links = {one["relation"]: one["url"] for one in first.json["link"]}
        assert links["self"].startswith("https://archive.example/fhir/r5/ImagingStudy?_count=3")
        second = await side("GET", links["next"].removeprefix("https://archive.example"))
        assert sorted(ids(first) + ids(second)) == ["1.1", "1.2", "1.3", "2.1"]
        assert [one["relation"] for one in second.json["link"]] == ["self"]
        counted = await side("GET", "/fhir/r5/ImagingStudy?_summary=count")
        assert counted.json["total"] == 4
        assert "entry" not in counted.json


async def test_patients_come_along_where_they_are_asked_for() -> None:
    async with fhir_side(SHARING) as side:
        await fill(side)
        answer = await side("GET", "/fhir/r4/ImagingStudy?_include=ImagingStudy:subject")
        included = resources(answer, "include")
        assert sorted(one["name"][0]["family"] for one in included) == ["Doe", "Roe"]
        wanted = {one["subject"]["reference"] for one in resources(answer)}
        assert wanted == {f"Patient/{one['id']}" for one in included}


FAULTS: Sequence[tuple[str, int, str]] = (
    ("ImagingStudy?started=2026-13", 400, "invalid"),
    ("ImagingStudy?started=ne2026", 400, "invalid"),
    ("ImagingStudy?started=2026,2027", 400, "invalid"),
    ("ImagingStudy?identifier=", 400, "invalid"),
    ("ImagingStudy?identifier=urn:oid:1.2,A1", 400, "invalid"),
    ("ImagingStudy?identifier=urn:dicom:uid|", 400, "invalid"),
    ("ImagingStudy?modality=" + ",".join("CT" for _ in range(101)), 400, "invalid"),
    ("ImagingStudy?patient=Group/1", 400, "invalid"),
    ("ImagingStudy?_count=many", 400, "invalid"),
    ("ImagingStudy?_summary=some", 400, "invalid"),
    ("ImagingStudy?_include=Patient:link", 400, "invalid"),
    ("ImagingStudy?_cursor=x", 400, "invalid"),
    ("ImagingStudy?_id=%00", 400, "invalid"),
    ("Patient?birthdate=19700102", 400, "invalid"),
    ("Patient?name=a,b", 400, "invalid"),
    ("ImagingStudy?_format=xml", 406, "not-supported"),
    ("ImagingStudy/9.9", 404, "not-found"),
    ("ImagingStudy/..%2f", 404, "not-found"),
    ("Patient/none", 404, "not-found"),
    ("Patient/UDk", 404, "not-found"),
    ("Observation", 404, "not-found"),
)


async def test_faults_are_outcomes() -> None:
    async with fhir_side(SHARING) as side:
        await fill(side)
        for path, status, issue in FAULTS:
            answer = await side("GET", f"/fhir/r4/{path}")
            assert answer.status == status, answer.body
            (one,) = answer.json["issue"]
            assert (one["severity"], one["code"]) == ("error", issue)
            assert "Doe" not in one["diagnostics"]


async def test_what_is_not_known_is_left_out_unless_the_caller_is_strict() -> None:
    async with fhir_side(SHARING) as side:
        await fill(side)
        path = "/fhir/r4/ImagingStudy?modality=MR&_sort=-started&bodysite=x"
        lenient = await side("GET", path)
        assert ids(lenient) == ["1.3"]
        (warning,) = resources(lenient, "outcome")
        assert warning["issue"][0]["severity"] == "warning"
        assert "_sort" not in lenient.json["link"][0]["url"]
        assert (await side("GET", path, prefer="handling=strict")).status == 400


async def test_a_study_that_fhir_cannot_express_is_told_as_such() -> None:
    async with fhir_side(SHARING) as side:
        await side.parts.archive.index.add(
            [
                make_record("5.1", "5", "odd_uid", PatientID="P1"),
                make_record("6.1", "6", "6", PatientID="P1"),
                make_record("6.2", "6", "6", PatientID="P2"),
            ]
        )
        assert (await side("GET", "/fhir/r4/ImagingStudy/odd_uid")).status == 422
        assert (await side("GET", "/fhir/r4/ImagingStudy/6")).status == 422
        answer = await side("GET", "/fhir/r4/ImagingStudy")
        assert ids(answer) == ["6"]
        (warning,) = resources(answer, "outcome")
        assert "1 studies" in warning["issue"][0]["diagnostics"]


@pytest.mark.parametrize(
    ("accept", "status"),
    [
        ("", 200),
        ("*/*", 200),
        ("application/json", 200),
        ("application/fhir+json;fhirVersion=4.0", 200),
        ("application/fhir+json; fhirVersion=5.0", 406),
        ("application/fhir+xml", 406),
        ("application/fhir+xml, application/fhir+json;q=0.5", 200),
    ],
)
async def test_json_of_the_release_is_what_can_be_had(accept: str, status: int) -> None:
    async with fhir_side(SHARING) as side:
        headers = {"accept": accept} if accept else {}
        assert (await side("GET", "/fhir/r4/Patient", **headers)).status == status


async def test_searches_and_reads_are_audited_as_queries() -> None:
    heard = Notices()
    told: list[object] = []
    heard.subscribe(told.append)

    async def by_somebody(request: Request, route: Route[Handler]) -> None:
        request.caller = Principal(permissions=ALL_PERMISSIONS, user="alice")

    async with fhir_side(SHARING, authorize=by_somebody, on_answered=RequestRecords(heard)) as side:
        await fill(side)
        await side("GET", "/fhir/r4/ImagingStudy?modality=CT")
        await side("GET", "/fhir/r4/ImagingStudy/1.1")
        await side("GET", "/fhir/r4/Patient?name=doe")
    queries = [one for one in told if isinstance(one, QueryAnswered)]
    assert [one.matches for one in queries] == [2, 1, 1]
    assert all(one.caller.user == "alice" for one in queries)


async def test_it_can_be_switched_off() -> None:
    async with fhir_side({**SHARING, "sharing.fhir": False}) as side:
        assert (await side("GET", "/fhir/r4/metadata")).status == 404


async def test_a_link_to_one_study_does_not_reach_it() -> None:
    async with fhir_side(SHARING) as side:
        routes = [route for route in side.routes if route.path.startswith("/fhir/")]
        assert len(routes) == 10
        assert not any(is_within(route, {"study": "1.1"}, "1.1") for route in routes)
        # Nor does who is given nothing but what a project de-identifies.
        assert not any(is_for_projects(route.handler) for route in routes)
