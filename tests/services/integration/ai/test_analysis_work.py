"""A series is sent to an AI service, and what comes of it is stored."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pydicom
import pytest
import trio
import trio.testing

from isocenter.services.archive.deletion.records import DeletionCause
from isocenter.services.archive.ports import StoredInstance
from isocenter.services.archive.stored_objects import stored_object
from isocenter.services.composition.deidentification import open_deidentification
from isocenter.services.errors import StorageError
from isocenter.services.integration.ai import analysis_upkeep
from isocenter.services.integration.ai.analysis_work import analysis_job
from isocenter.services.integration.ai.requests import (
    AnalysisError,
    AnalysisRequest,
    RequestState,
    ResultRecord,
    ResultState,
)
from isocenter.services.notices import AnalysisEnded
from isocenter.services.workflow.jobs.job import JobState
from isocenter.services.workflow.jobs.ports import Wish
from isocenter.storage.database.analyses import DatabaseAnalyses
from services.integration.ai.ai_world import (
    CT,
    PATIENCE,
    SERIES,
    STUDY,
    World,
    ct_image,
    threshold_service,
    threshold_serving,
    world,
)

SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"


async def read_back(here: World, uid: str) -> pydicom.Dataset:
    stored = (await here.archive.index.get([uid]))[uid]
    async with await stored_object(stored, here.archive.open).open() as reader:
        content = await reader.read(0, reader.size)
    return pydicom.dcmread(pydicom.filebase.DicomBytesIO(content))


async def test_a_ct_series_comes_back_as_segmentation_and_report(tmp_path: Path) -> None:
    with threshold_serving() as service:
        async with world(service.url, tmp_path) as here:
            await here.keep_series()
            job, request, results = await here.analysed()
            assert job.state is JobState.COMPLETED, job.last_fault
            assert (job.progress.done, job.progress.failed) == (3, 0)
            assert request.state is RequestState.COMPLETED
            assert [one.state for one in results] == [ResultState.STORED] * 2
            assert {one.algorithm for one in results} == {"Threshold"}
            assert {one.algorithm_version for one in results} == {"1.0"}
            by_class = {one.sop_class_uid: one for one in results}
            segmentation = await read_back(
                here, by_class["1.2.840.10008.5.1.4.1.1.66.4"].sop_instance_uid
            )
            assert segmentation.StudyInstanceUID == STUDY
            assert segmentation.ReferencedSeriesSequence[0].SeriesInstanceUID == SERIES
            # Three slices of a square of 4 by 4.
            assert segmentation.pixel_array.sum() == 3 * 16
            report = await read_back(
                here, by_class["1.2.840.10008.5.1.4.1.1.88.34"].sop_instance_uid
            )
            assert "48" in str(report)
            ended = [one for one in here.heard if isinstance(one, AnalysisEnded)]
            assert [(one.service, one.state, one.stored) for one in ended] == [
                ("threshold", "completed", 2)
            ]


Change = Callable[[pydicom.Dataset, pydicom.Dataset], list[pydicom.Dataset] | None]


def answering(monkeypatch: pytest.MonkeyPatch, change: Change) -> None:
    """Have the service change what it has made before it answers."""
    analyse = threshold_service.analyse

    def changed(images: Any, threshold: float) -> list[pydicom.Dataset]:
        made = analyse(images, threshold)
        return change(*made) or made

    monkeypatch.setattr(threshold_service, "analyse", changed)


def other_patient(segmentation: pydicom.Dataset, report: pydicom.Dataset) -> None:
    segmentation.PatientID = "P2"


def other_study(segmentation: pydicom.Dataset, report: pydicom.Dataset) -> None:
    segmentation.StudyInstanceUID = "1.2.3.999"


def of_what_was_not_sent(segmentation: pydicom.Dataset, report: pydicom.Dataset) -> None:
    instances = segmentation.ReferencedSeriesSequence[0].ReferencedInstanceSequence
    instances[0].ReferencedSOPInstanceUID = "1.2.3.999"


def without_type_1(segmentation: pydicom.Dataset, report: pydicom.Dataset) -> None:
    del segmentation.SegmentSequence


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (other_patient, "it names another patient"),
        (other_study, "it is of another study"),
        (of_what_was_not_sent, "it refers to objects that were not sent"),
        (without_type_1, "attributes are missing that such an object always has"),
    ],
)
async def test_a_doubtful_result_is_withheld(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Change, why: str
) -> None:
    answering(monkeypatch, change)
    with threshold_serving() as service:
        async with world(service.url, tmp_path) as here:
            await here.keep_series()
            _, request, results = await here.analysed()
            assert request.state is RequestState.COMPLETED
            doubtful = next(one for one in results if one.sop_class_uid == SEGMENTATION)
            assert (doubtful.state, doubtful.why) == (ResultState.QUARANTINED, why)
            assert doubtful.sop_instance_uid not in await here.archive.index.get(
                [doubtful.sop_instance_uid]
            )
            (held,) = await here.parts.stores.trash.rows([DeletionCause.QUARANTINED])
            assert held.deletion.reason == f"AI service threshold: {why}"


async def test_where_there_is_no_quarantine_a_doubtful_result_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answering(monkeypatch, other_patient)
    with threshold_serving() as service:
        async with world(service.url) as here:
            await here.keep_series()
            _, _, results = await here.analysed()
            assert {one.state for one in results if one.sop_class_uid == SEGMENTATION} == {
                ResultState.REFUSED
            }


async def test_an_image_is_no_result(monkeypatch: pytest.MonkeyPatch) -> None:
    image = pydicom.dcmread(pydicom.filebase.DicomBytesIO(ct_image(99)))
    answering(monkeypatch, lambda segmentation, report: [image])
    with threshold_serving() as service:
        async with world(service.url) as here:
            await here.keep_series()
            _, _, (result,) = await here.analysed()
            assert result.state is ResultState.REFUSED
            assert "it is none of report" in result.why


def under_the_name_of_an_image(segmentation: pydicom.Dataset, _: pydicom.Dataset) -> None:
    segmentation.SOPInstanceUID = f"{SERIES}.1"
    segmentation.file_meta.MediaStorageSOPInstanceUID = f"{SERIES}.1"


async def test_a_result_takes_the_place_of_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, under_the_name_of_an_image)
    with threshold_serving() as service:
        async with world(service.url, storage__duplicates="replace") as here:
            await here.keep_series()
            _, _, results = await here.analysed()
            refused = [one for one in results if one.state is ResultState.REFUSED]
            assert "another object has its SOP Instance UID" in {one.why for one in refused}
            assert (await read_back(here, f"{SERIES}.1")).SOPClassUID == CT


async def test_what_was_refused_is_refused_when_the_answer_is_taken_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answering(monkeypatch, under_the_name_of_an_image)
    end = DatabaseAnalyses.end
    ends: list[str] = []

    async def fail_once(self: DatabaseAnalyses, job_id: str, *values: Any) -> None:
        ends.append(job_id)
        if len(ends) == 1:
            raise StorageError("the power failed")
        await end(self, job_id, *values)

    monkeypatch.setattr(DatabaseAnalyses, "end", fail_once)
    with threshold_serving() as service:
        async with world(service.url, storage__duplicates="replace") as here:
            await here.keep_series()
            _, request, results = await here.analysed()
            assert (request.state, len(ends)) == (RequestState.COMPLETED, 2)
            assert ResultState.REFUSED in {one.state for one in results}
            assert (await read_back(here, f"{SERIES}.1")).SOPClassUID == CT


async def test_what_was_stored_before_a_failure_is_ours_in_the_next_attempt(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with threshold_serving() as service:
        async with world(service.url) as here:
            note = DatabaseAnalyses.note
            lost: list[str] = []

            async def fail_once(self: DatabaseAnalyses, result: ResultRecord) -> None:
                if not lost and await here.archive.index.get([result.sop_instance_uid]):
                    lost.append(result.sop_instance_uid)
                    raise StorageError("the power failed")
                await note(self, result)

            monkeypatch.setattr(DatabaseAnalyses, "note", fail_once)
            await here.keep_series()
            _, _, results = await here.analysed()
            assert lost[0] in {one.sop_instance_uid for one in results}
            assert [(one.state, one.why) for one in results] == [(ResultState.STORED, "")] * 2


async def test_what_was_moved_to_another_study_since_is_not_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with threshold_serving() as service:
        async with world(service.url) as here:
            await here.keep_series()
            get = here.archive.index.get

            async def moved(uids: Sequence[str]) -> dict[str, StoredInstance]:
                found = dict(await get(uids))
                if f"{SERIES}.1" in found:
                    found[f"{SERIES}.1"] = replace(found[f"{SERIES}.1"], study_instance_uid="1.2.9")
                return found

            monkeypatch.setattr(here.archive.index, "get", moved)
            job, _, results = await here.analysed()
            assert job.progress.done == 2
            assert {one.state for one in results} == {ResultState.STORED}


async def test_a_study_that_is_gone_is_not_brought_back() -> None:
    request = AnalysisRequest(
        job_id="1", service="threshold", model="", study_instance_uid=STUDY,
        series_instance_uid=SERIES, state=RequestState.RUNNING, created_at=0.0,
    )  # fmt: skip
    async with world("http://127.0.0.1:9") as here:
        assert here.workflow.analyses is not None
        with pytest.raises(AnalysisError, match="does not have the study any more"):
            await here.workflow.analyses._intake.take(request, here.settings.ai_services[0], [], [])


@pytest.mark.parametrize(
    ("bounds", "why"),
    [
        ({"most_results": 1}, "more than 1 results"),
        ({"most_result_bytes": 100}, "results of more than 100 bytes"),
    ],
)
async def test_answers_have_bounds(bounds: dict[str, int], why: str) -> None:
    with threshold_serving() as service:
        async with world(service.url, service=bounds) as here:
            await here.keep_series()
            job, request, results = await here.analysed()
            assert (job.state, job.last_fault, request.fault) == (JobState.FAILED, why, why)
            assert results == []


async def test_a_key_is_shown_and_a_wrong_one_ends_the_request(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("secret-1\n")
    key.chmod(0o600)
    table = {"authentication": "bearer", "key_file": str(key)}
    with threshold_serving("secret-1") as service:
        async with world(service.url, service=table) as here:
            await here.keep_series()
            job, _, results = await here.analysed()
            assert (job.state, len(results)) == (JobState.COMPLETED, 2)
            key.write_text("other\n")
            job, request, _ = await here.analysed()
            assert (job.state, job.last_fault) == (JobState.FAILED, "the service answered 401")
            assert request.state is RequestState.SENDING


async def test_a_service_that_is_away_is_left_alone_and_tried_again() -> None:
    with threshold_serving() as service:
        url = service.url
    async with world(url, jobs__give_up_after=4) as here:
        await here.keep_series()
        job, _, _ = await here.analysed()
        assert job.state is JobState.FAILED
        assert job.attempts > 1
        left_alone = await here.parts.stores.forwards.destinations()
        assert [one.destination for one in left_alone] in ([], ["ai:threshold"])


async def test_nothing_is_asked_about_results() -> None:
    with threshold_serving() as service:
        async with world(service.url) as here:
            await here.keep_series()
            _, _, results = await here.analysed()
            series = results[0].series_instance_uid
            job, request, _ = await here.analysed(analysis_job("threshold", STUDY, series))
            assert job.state is JobState.FAILED
            assert request.fault == "the archive has no images there that the service takes"


async def test_what_the_service_fails_at_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(images: Any, threshold: float) -> list[pydicom.Dataset]:
        raise ValueError("Bäcker^Anna")

    monkeypatch.setattr(threshold_service, "analyse", fail)
    with threshold_serving() as service:
        async with world(service.url) as here:
            await here.keep_series()
            job, request, _ = await here.analysed()
            assert (job.state, request.state) == (JobState.FAILED, RequestState.FAILED)
            assert request.fault == "the service says: failed"


async def test_a_service_without_a_table_is_not_asked() -> None:
    async with world("http://127.0.0.1:9") as here:
        await here.keep_series()
        job_id, _ = await here.desk.submit(analysis_job("other", STUDY))
        job = await here.until(job_id, lambda one: one.state.is_final)
        assert "no AI service of that name" in job.last_fault


RULE = '[{ name = "lungs", when = { modality = "CT" }, analyse = ["threshold"] }]'


async def test_a_rule_has_a_series_analysed_once_it_is_quiet(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(analysis_upkeep, "LOOK_SECONDS", 0.05)
    with threshold_serving() as service:
        async with world(service.url, rules=RULE, events__quiet_seconds=0.3) as here:
            await here.keep_series()
            with trio.fail_after(PATIENCE):
                while True:
                    found = await here.parts.stores.analyses.results(study=STUDY, limit=9)
                    if len(found) == 2:
                        break
                    await trio.testing.wait_all_tasks_blocked(0.01)
            (job,) = await here.desk.jobs(limit=9)
            assert (job.request.requested_by, job.progress.total) == ("rules", 3)
            assert [one.service for one in found] == ["threshold"] * 2


async def test_what_is_cancelled_is_taken_back_from_the_service(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(analysis_upkeep, "LOOK_SECONDS", 0.05)
    go_on = threading.Event()
    analyse = threshold_service.analyse

    def slow(images: Any, threshold: float) -> list[pydicom.Dataset]:
        go_on.wait(PATIENCE)
        return analyse(images, threshold)

    monkeypatch.setattr(threshold_service, "analyse", slow)
    try:
        with threshold_serving() as service:
            async with world(service.url) as here:
                await here.keep_series()
                job_id, _ = await here.desk.submit(analysis_job("threshold", STUDY, SERIES))
                book = here.parts.stores.analyses
                await until_request(here, job_id, lambda one: one.remote_id != "")
                job = await here.desk.get(job_id)
                assert job is not None
                assert await here.desk.steer(job, Wish.CANCEL)
                await until_request(here, job_id, lambda one: one.state.is_final)
                kept = await book.get(job_id)
                assert kept is not None
                assert kept.state is RequestState.CANCELLED
                there = service.service.get(kept.remote_id)
                assert there is not None
                assert there.status == "cancelled"
    finally:
        go_on.set()


async def until_request(here: World, job_id: str, is_so: Callable[[AnalysisRequest], bool]) -> None:
    with trio.fail_after(PATIENCE):
        while True:
            kept = await here.parts.stores.analyses.get(job_id)
            if kept is not None and is_so(kept):
                return
            await trio.testing.wait_all_tasks_blocked(0.01)


async def test_what_takes_too_long_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    go_on = threading.Event()
    monkeypatch.setattr(threshold_service, "analyse", lambda *_: go_on.wait(PATIENCE) and [])
    try:
        with threshold_serving() as service:
            async with world(service.url, service={"give_up_after": 0.1}) as here:
                await here.keep_series()
                job, request, _ = await here.analysed()
                assert (job.state, request.fault) == (JobState.FAILED, "no result within 0.1 s")
    finally:
        go_on.set()


async def test_the_same_request_is_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with threshold_serving() as service:
        async with world(service.url) as here:
            await here.keep_series()
            submitted = DatabaseAnalyses.submitted
            lost: list[str] = []

            async def forget_once(
                self: DatabaseAnalyses, job_id: str, remote_id: str, at: float
            ) -> None:
                if not lost:
                    lost.append(remote_id)
                    raise StorageError("the power failed")
                await submitted(self, job_id, remote_id, at)

            monkeypatch.setattr(DatabaseAnalyses, "submitted", forget_once)
            job, request, results = await here.analysed()
            assert job.state is JobState.COMPLETED
            assert request.remote_id == lost[0]
            assert len(results) == 2


async def test_a_project_s_service_gets_de_identified_images_and_gives_nothing_back() -> None:
    project = '[{ name = "trial", destinations = ["127.0.0.1"] }]'
    with threshold_serving() as service:
        async with world(service.url, service={"research": True}, deidentification=project) as here:
            here.archive.deidentification = await trio.to_thread.run_sync(
                open_deidentification, here.settings, here.parts.stores, None
            )
            await here.keep_series()
            job, request, results = await here.analysed()
            assert (job.state, job.last_fault) == (JobState.COMPLETED, "")
            assert results == []
            there = service.service.get(request.remote_id)
            assert there is not None
            assert len(there.results) == 2
            made = pydicom.dcmread(pydicom.filebase.DicomBytesIO(there.results[0]))
            assert made.StudyInstanceUID != STUDY
            assert made.PatientID != "P1"
