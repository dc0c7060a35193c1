"""AI services, results and assessments in the API and on pages."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pydicom
import pytest
import trio

from isocenter.services.archive.index.attributes import BY_KEYWORD, Level
from isocenter.services.archive.index.query import Criterion, Query, SingleValue
from isocenter.services.dicom.iod.validation import validate_pydicom
from isocenter.services.integration.ai.assessment_report import ENHANCED_SR
from isocenter.services.integration.ai.requests import (
    AnalysisRequest,
    RequestState,
    ResultRecord,
    ResultState,
)
from isocenter.services.notices import InstancesMarked
from services.integration.ai.ai_world import (
    STUDY,
    ct_image,
    file_of,
    keep,
    threshold_service,
)
from services.web.rest.asking import AS_PROGRAM
from services.web.signed_in import Site, opened

API = "/api/v1"


class Case:
    """A study with what the example's service made of it, and somebody who may do all."""

    def __init__(self, site: Site, segmentation: Any, report: Any) -> None:
        self.site = site
        self.headers = AS_PROGRAM | {"origin": site.root}
        self.segmentation = segmentation
        self.report = report

    async def get(self, path: str, status: int = 200) -> Any:
        answer = await self.site.client.get(API + path, headers=self.headers)
        assert answer.status_code == status, answer.text
        return answer.json()

    async def post(self, path: str, status: int, /, **body: Any) -> httpx.Response:
        answer = await self.site.client.post(API + path, json=body, headers=self.headers)
        assert answer.status_code == status, answer.text
        return answer

    async def assess(self, status: int, /, **body: Any) -> Any:
        uid = self.segmentation.SOPInstanceUID
        return (await self.post(f"/ai/results/{uid}/assessments", status, **body)).json()

    async def object(self, uid: str) -> pydicom.Dataset:
        stored = (await self.site.parts.archive.index.get([uid]))[uid]
        async with await self.site.parts.archive.open(stored) as reader:
            return pydicom.dcmread(io.BytesIO(await reader.read(0, reader.size)))


@pytest.fixture
async def case(tmp_path: Path) -> Any:
    async with opened(tmp_path, tells_requests=True) as site:
        archive = site.parts.archive
        files = [ct_image(number) for number in (1, 2, 3)]
        images = [pydicom.dcmread(io.BytesIO(file)) for file in files]
        segmentation, report = threshold_service.analyse(images, 200)
        for file in (*files, file_of(segmentation), file_of(report)):
            await keep(archive, file)
        yield Case(site, segmentation, report)


async def test_results_of_a_study_say_who_made_them(case: Case) -> None:
    uid = case.segmentation.SOPInstanceUID
    record = ResultRecord(
        job_id="a" * 32, service="lung", study_instance_uid=STUDY,
        series_instance_uid=case.segmentation.SeriesInstanceUID, sop_instance_uid=uid,
        sop_class_uid=case.segmentation.SOPClassUID, algorithm="Threshold",
        algorithm_version="1.0", state=ResultState.STORED, why="", at=1.0,
    )  # fmt: skip
    await case.site.parts.stores.analyses.note(record)
    refused = replace(record, sop_instance_uid="1.2.9", state=ResultState.REFUSED, why="odd")
    await case.site.parts.stores.analyses.note(refused)
    found = await case.get(f"/studies/{STUDY}/ai-results")
    by_uid = {one["sop_instance_uid"]: one for one in found["results"]}
    assert by_uid.keys() == {uid, case.report.SOPInstanceUID}
    assert by_uid[uid]["algorithm"] == "Threshold"
    assert by_uid[case.report.SOPInstanceUID]["service"] == ""
    assert [(one["state"], one["why"]) for one in found["withheld"]] == [("refused", "odd")]


async def test_segments_and_findings_are_read(case: Case) -> None:
    shown = await case.get(f"/ai/results/{case.segmentation.SOPInstanceUID}")
    (segment,) = shown["segments"]
    assert (segment["number"], segment["label"], segment["type"]) == (1, "Dense tissue", "Bone")
    assert segment["algorithm"] == "Threshold"
    assert f"{STUDY}.1.1" in shown["references"]
    told = await case.site.reads()
    assert [(one.study_instance_uid, one.sop_instance_uids) for one in told] == [
        (STUDY, {case.segmentation.SOPInstanceUID})
    ]
    shown = await case.get(f"/ai/results/{case.report.SOPInstanceUID}")
    (finding,) = shown["findings"]
    assert finding["type"] == "Bone"
    assert finding["segments"] == [1]
    assert case.segmentation.SOPInstanceUID in finding["instances"]
    assert [
        (one["name"], one["value"], one["unit"], one["derivation"])
        for one in finding["measurements"]
    ] == [("Volume", 48.0, "mm3", ""), ("Attenuation Coefficient", 1000.0, "[hnsf'U]", "Mean")]


async def test_an_image_is_no_result(case: Case) -> None:
    await case.get(f"/ai/results/{STUDY}.1.1", 404)
    await case.get("/ai/results/1.2.3", 404)


async def test_an_assessment_is_a_report_in_the_study(case: Case) -> None:
    made = await case.assess(201, verdict="reject", reason="AI-21", institution="Hospital")
    report = await case.object(made["sop_instance_uid"])
    assert report.SOPClassUID == "1.2.840.10008.5.1.4.1.1.88.22"
    assert report.StudyInstanceUID == STUDY
    assert report.PatientID == "P1"
    assert (report.CompletionFlag, report.VerificationFlag) == ("COMPLETE", "VERIFIED")
    evidence = report.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0]
    uid = case.segmentation.SOPInstanceUID
    assert evidence.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == uid
    codes = [
        item.ConceptCodeSequence[0].CodeMeaning
        for item in report.ContentSequence
        if item.ValueType == "CODE" and item.RelationshipType == "CONTAINS"
    ]
    assert codes == ["Result rejected", "False positive"]
    findings = validate_pydicom(report).findings
    assert [one for one in findings if one.severity == "error"] == []
    marked = [one for one in case.site.told if isinstance(one, InstancesMarked)]
    assert [one.what for one in marked] == ["AI result assessed: reject, final"]
    found = await case.get(f"/studies/{STUDY}/ai-results")
    said = {one["sop_instance_uid"]: one["assessments"] for one in found["results"]}
    assert [one["verdict"] for one in said[uid]] == ["reject"]
    assert made["sop_instance_uid"] not in said


async def test_a_draft_is_followed_by_a_final_one_and_that_by_an_amended_one(case: Case) -> None:
    draft = await case.assess(201, verdict="accept", status="draft")
    assert (await case.object(draft["sop_instance_uid"])).CompletionFlag == "PARTIAL"
    await case.assess(409, verdict="accept", status="amended")
    final = await case.assess(201, verdict="accept")
    assert final["predecessor"] == draft["sop_instance_uid"]
    await case.assess(409, verdict="reject", comment="no", status="final")
    amended = await case.assess(201, verdict="reject", comment="no", status="amended")
    report = await case.object(amended["sop_instance_uid"])
    before = report.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0]
    assert before.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == final["sop_instance_uid"]
    counts = await case.get("/ai/assessments/statistics")
    assert counts["counts"] == [{"service": "", "verdict": "reject", "results": 1}]
    listed = await case.get(f"/ai/assessments?result={case.segmentation.SOPInstanceUID}")
    assert [one["status"] for one in listed["assessments"]] == ["amended", "final", "draft"]


async def test_what_is_right_is_named_by_whoever_modifies(case: Case) -> None:
    right = case.report.SOPInstanceUID
    made = await case.assess(201, verdict="modify", modified=right)
    report = await case.object(made["sop_instance_uid"])
    named = [
        item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID
        for item in report.ContentSequence
        if item.ValueType == "COMPOSITE"
    ]
    assert named == [case.segmentation.SOPInstanceUID, right]


async def test_an_opinion_says_what_it_needs(case: Case) -> None:
    for opinion in (
        {"verdict": "modify"},
        {"verdict": "reject"},
        {"verdict": "reject", "reason": "AI-99"},
        {"verdict": "accept", "reason": "AI-21"},
        {"verdict": "accept", "modified": "1.2"},
        {"verdict": "modify", "modified": "1.2.3.404"},
        {"verdict": "accept", "comment": "x" * 1001},
    ):
        await case.assess(409, **opinion)
    assert (await case.get("/ai/assessments"))["assessments"] == []


async def test_an_analysis_is_asked_for_once(case: Case) -> None:
    first = (await case.post("/ai/requests", 202, service="lung", study=STUDY)).json()
    again = (await case.post("/ai/requests", 202, service="lung", study=STUDY)).json()
    assert (first["is_new"], again["is_new"]) == (True, False)
    assert first["job_id"] == again["job_id"]
    await case.post("/ai/requests", 404, service="other", study=STUDY)
    await case.post("/ai/requests", 404, service="lung", study="1.2.3.404")
    await case.post("/ai/requests", 404, service="lung", study=STUDY, series="1.2.3.404")


async def test_a_service_says_how_it_is(case: Case) -> None:
    listed = await case.get("/ai/services")
    assert [one["name"] for one in listed["services"]] == ["lung"]
    shown = await case.get("/ai/services/lung")
    assert (shown["is_well"], shown["fault"]) == (False, "it does not answer")
    await case.get("/ai/services/other", 404)


async def test_a_callback_is_good_once_and_nothing_it_says_counts(case: Case) -> None:
    import hashlib

    kept = AnalysisRequest(
        job_id="b" * 32, service="lung", model="", study_instance_uid=STUDY,
        series_instance_uid="", state=RequestState.SENDING,
        callback_hash=hashlib.sha256(b"token-1").hexdigest(), created_at=1.0,
    )  # fmt: skip
    await case.site.parts.stores.analyses.begin(kept)
    client = case.site.client
    for token, status in (("token-2", 404), ("token-1", 204), ("token-1", 404)):
        answer = await client.post(
            f"{API}/ai/callbacks/{token}", json={"status": "completed", "result_uids": ["1.2"]}
        )
        assert answer.status_code == status
    now = await case.site.parts.stores.analyses.get(kept.job_id)
    assert now is not None
    assert now.state is RequestState.SENDING
    listed = await case.get("/ai/requests?open=true")
    assert [one["job_id"] for one in listed["requests"]] == [kept.job_id]


async def test_pages_show_results_and_take_what_people_say(case: Case) -> None:
    client = case.site.client
    headers = {**case.headers, "accept": "text/html"}
    uid = case.segmentation.SOPInstanceUID
    study = await client.get(f"/studies/{STUDY}", headers=headers)
    assert f"/results/{uid}" in study.text
    assert "Have it analysed by" in study.text
    shown = await client.get(f"/results/{uid}", headers=headers)
    assert shown.status_code == 200
    assert "Dense tissue" in shown.text
    form = {**headers, "content-type": "application/x-www-form-urlencoded"}
    wrong = await client.post(f"/results/{uid}/assess", data={"verdict": "modify"}, headers=form)
    assert wrong.status_code == 400
    assert "say what is to be changed" in wrong.text
    good = await client.post(
        f"/results/{uid}/assess", data={"verdict": "accept", "status": "final"}, headers=form
    )
    assert good.status_code == 303
    assert "<b>accept</b>" in (await client.get(f"/results/{uid}", headers=headers)).text
    assert "<b>accept</b>" in (await client.get(f"/studies/{STUDY}", headers=headers)).text
    begun = await client.post(
        f"/studies/{STUDY}/analyse", data={"service": "lung", "series": ""}, headers=form
    )
    assert begun.status_code == 303
    assert (await client.get("/ai", headers=headers)).status_code == 200
    look = await client.get("/ai/lung", headers=headers)
    assert "it does not answer" in look.text


async def test_of_final_assessments_at_once_one_is_kept(case: Case) -> None:
    uid = case.segmentation.SOPInstanceUID
    statuses: list[int] = []

    async def assess(number: int) -> None:
        answer = await case.site.client.post(
            f"{API}/ai/results/{uid}/assessments",
            json={"verdict": "accept", "comment": str(number)},
            headers=case.headers,
        )
        statuses.append(answer.status_code)

    async with trio.open_nursery() as nursery:
        for number in range(6):
            nursery.start_soon(assess, number)
    assert sorted(statuses) == [201, 409, 409, 409, 409, 409]
    kept = (await case.get("/ai/assessments"))["assessments"]
    assert [one["status"] for one in kept] == ["final"]
    # Of the others there is no report either.
    query = Query(
        level=Level.IMAGE,
        criteria=(
            Criterion(BY_KEYWORD["StudyInstanceUID"].tag, SingleValue(STUDY)),
            Criterion(BY_KEYWORD["SOPClassUID"].tag, SingleValue(ENHANCED_SR)),
        ),
    )
    reports = []
    async with case.site.parts.archive.index.instances(query) as blocks:
        async for block in blocks:
            reports += [stored.sop_instance_uid for stored in block]
    assert reports == [kept[0]["sop_instance_uid"]]
