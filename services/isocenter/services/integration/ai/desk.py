"""AI services as people and programs ask for them: requests, results, assessments."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from time import monotonic
from typing import Final

from isocenter.engine.dataset import DataSetError
from isocenter.engine.fast_init import dataclass
from isocenter.services.archive.archive import Archive
from isocenter.services.archive.index.attributes import UNIQUE_KEY, Level
from isocenter.services.archive.index.query import Criterion, Query, SingleValue, ValueList
from isocenter.services.archive.object_scan import StoreError
from isocenter.services.archive.ports import StoredInstance
from isocenter.services.archive.store_answers import stored_notice
from isocenter.services.dicom.model_file import ModelFile
from isocenter.services.errors import StorageError
from isocenter.services.integration.ai.ai_service import AiService
from isocenter.services.integration.ai.analysis_work import AnalysisWork, analysis_job
from isocenter.services.integration.ai.assessment import (
    Assessment,
    AssessmentError,
    AssessmentStatus,
    Opinion,
)
from isocenter.services.integration.ai.assessment_report import assessment_report
from isocenter.services.integration.ai.ports import AnalysisBook, AssessmentBook, OpenService
from isocenter.services.integration.ai.protocol import RemoteModel
from isocenter.services.integration.ai.requests import (
    AnalysisError,
    AnalysisRequest,
    ResultRecord,
)
from isocenter.services.integration.ai.result_classes import RESULT_CLASSES
from isocenter.services.integration.ai.result_contents import ResultContents, contents_of
from isocenter.services.notices import Caller, InstancesMarked, Notices
from isocenter.services.viewing.document_parts import MarkedImage
from isocenter.services.viewing.stored_images import read_attributes
from isocenter.services.workflow.jobs.asker import Asker
from isocenter.services.workflow.jobs.desk import JobDesk

_SOP_CLASS_UID: Final = 0x00080016
#: Results of one study that are listed.
MOST_RESULTS: Final = 1_000


#: An assessment is hardly ever stored in more; whoever dies over it keeps others waiting for so
#: long, and what is stored later follows what they said.
_STORING_SECONDS: Final = 60.0


class NoResultError(AssessmentError):
    """The archive has no such result."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceLook:
    """What a service says of itself; *seconds*: until it said that it is well."""

    seconds: float
    models: Sequence[RemoteModel]


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyResult:
    """A report, segmentation, presentation state or key object selection of a study.

    Attributes:
        record: of what came from a service; None: it came another way.
        assessments: of it, the latest first.
    """

    stored: StoredInstance
    record: ResultRecord | None
    assessments: tuple[Assessment, ...] = ()


class AiDesk:
    """Takes requests, shows what came of them, and keeps what people say of it.

    Args:
        now: local time.
    """

    def __init__(
        self,
        archive: Archive,
        services: Sequence[AiService],
        book: AnalysisBook,
        assessments: AssessmentBook,
        jobs: JobDesk,
        work: AnalysisWork,
        open_service: OpenService,
        notices: Notices,
        now: Callable[[], datetime] = lambda: datetime.now().astimezone(),
    ) -> None:
        self.services: Mapping[str, AiService] = {one.name: one for one in services}
        self.assessments = assessments
        self._archive = archive
        self._book = book
        self._jobs = jobs
        self._work = work
        self._open_service = open_service
        self._notices = notices
        self._now = now

    # -- Services and requests --------------------------------------------------------

    async def look(self, name: str) -> ServiceLook:
        """Ask a service how it is, and what it can do.

        Raises:
            AnalysisError: there is none of that name, or it does not say.
            HttpClientError: it cannot be reached.
        """
        service = self._service(name)
        async with self._open_service(service) as remote:
            began = monotonic()
            await remote.health()
            seconds = monotonic() - began
            return ServiceLook(seconds=seconds, models=await remote.models())

    async def begin(
        self,
        service: str,
        study: str,
        series: str,
        requested_by: str,
        asker: Asker | None = None,
    ) -> tuple[str, bool]:
        """Have a series analysed, or all of a study where *series* is empty: the job, and False if
        one that is not over does that already.

        Raises:
            AnalysisError: there is no such service, or nothing to be analysed.
        """
        self._service(service)
        criteria = [Criterion(UNIQUE_KEY[Level.STUDY], SingleValue(study))]
        if series:
            criteria.append(Criterion(UNIQUE_KEY[Level.SERIES], SingleValue(series)))
        level = Level.SERIES if series else Level.STUDY
        async with self._archive.index.instances(
            Query(level=level, criteria=tuple(criteria))
        ) as blocks:
            async for block in blocks:
                if block:
                    break
            else:
                raise AnalysisError("the archive has no such study, or no such series of it")
        return await self._jobs.submit(
            analysis_job(service, study, series, requested_by=requested_by, asker=asker)
        )

    async def requests(
        self, *, study: str = "", service: str = "", is_open: bool = False, limit: int
    ) -> Sequence[AnalysisRequest]:
        """See `AnalysisBook.requests`."""
        return await self._book.requests(study=study, service=service, is_open=is_open, limit=limit)

    async def called_back(self, token: str) -> bool:
        """A service says that it is done: the archive looks.  False: the token is none."""
        request = await self._work.called_back(token)
        if request is None:
            return False
        await self._jobs.hasten(request.job_id)
        return True

    def _service(self, name: str) -> AiService:
        service = self.services.get(name)
        if service is None:
            raise AnalysisError("no AI service of that name is among the settings")
        return service

    # -- Results ----------------------------------------------------------------------

    async def results(self, study: str) -> list[StudyResult]:
        """What the archive has of results in a study; assessments are none."""
        records = {
            one.sop_instance_uid: one
            for one in await self._book.results(study=study, limit=MOST_RESULTS)
        }
        said: dict[str, list[Assessment]] = {}
        made = await self.assessments.find(study=study, limit=MOST_RESULTS)
        for one in made:
            said.setdefault(one.result, []).append(one)
        own = {one.sop_instance_uid for one in made}
        query = Query(
            level=Level.IMAGE,
            criteria=(
                Criterion(UNIQUE_KEY[Level.STUDY], SingleValue(study)),
                Criterion(_SOP_CLASS_UID, ValueList(tuple(sorted(RESULT_CLASSES)))),
            ),
        )
        found: list[StudyResult] = []
        async with self._archive.index.instances(query) as blocks:
            async for block in blocks:
                for stored in block:
                    uid = stored.sop_instance_uid
                    if uid not in own:
                        found.append(
                            StudyResult(
                                stored=stored,
                                record=records.get(uid),
                                assessments=tuple(said.get(uid, ())),
                            )
                        )
                if len(found) >= MOST_RESULTS:
                    break
        return found[:MOST_RESULTS]

    async def withheld(self, study: str) -> list[ResultRecord]:
        """What came from services for a study and is not among its objects, and why."""
        found = await self._book.results(study=study, limit=MOST_RESULTS)
        known = await self._archive.index.get([one.sop_instance_uid for one in found])
        return [one for one in found if one.sop_instance_uid not in known]

    async def result(self, uid: str) -> StudyResult:
        """One of them.

        Raises:
            NoResultError: there is none.
        """
        stored = (await self._archive.index.get([uid])).get(uid)
        if stored is None or stored.sop_class_uid not in RESULT_CLASSES:
            raise NoResultError("the archive has no such result")
        made = await self.assessments.find(result=uid, limit=MOST_RESULTS)
        return StudyResult(
            stored=stored, record=await self._book.result(uid), assessments=tuple(made)
        )

    async def contents(self, result: StudyResult) -> ResultContents:
        """What it says.

        Raises:
            NoResultError: it cannot be read, or is gone.
        """
        return contents_of((await self._read(result.stored)).view)

    async def _read(self, stored: StoredInstance) -> MarkedImage:
        try:
            return MarkedImage(stored=stored, view=await read_attributes(self._archive, stored))
        except (KeyError, DataSetError) as error:
            raise NoResultError("the result cannot be read") from error

    # -- Assessments ------------------------------------------------------------------

    async def assess(self, uid: str, opinion: Opinion, caller: Caller, assessor: str) -> Assessment:
        """Keep what somebody says of a result: as a report in its study.

        A draft of the same person is followed by what comes after it, a final assessment by an
        amended one.

        Raises:
            AssessmentError: it cannot be so.
            StorageError: it cannot be kept now.
        """
        opinion.check()
        result = await self.result(uid)
        last = _last(result.assessments)
        is_after_final = any(
            one.opinion.status is not AssessmentStatus.DRAFT for one in result.assessments
        )
        if is_after_final != (opinion.status is AssessmentStatus.AMENDED):
            raise AssessmentError(
                "it has a final assessment: amend it"
                if is_after_final
                else "there is no final assessment that could be amended"
            )
        known = await self._archive.index.get(
            [one for one in (opinion.modified, last.sop_instance_uid if last else "") if one]
        )
        modified = known.get(opinion.modified)
        if opinion.modified and (
            modified is None or modified.study_instance_uid != result.stored.study_instance_uid
        ):
            raise AssessmentError("the modified result is no object of the same study")
        made = assessment_report(
            await self._read(result.stored),
            opinion,
            assessor=assessor,
            now=self._now(),
            modified=modified,
            predecessor=known.get(last.sop_instance_uid) if last else None,
        )
        kept = Assessment(
            sop_instance_uid=made.sop_instance_uid,
            study_instance_uid=result.stored.study_instance_uid,
            result=uid,
            result_class=result.stored.sop_class_uid,
            service="" if result.record is None else result.record.service,
            assessor=assessor,
            opinion=opinion,
            predecessor="" if last is None else last.sop_instance_uid,
            at=self._now().timestamp(),
        )
        if not await self.assessments.begin(kept, _STORING_SECONDS):
            raise AssessmentError("somebody else has just said something of it: look again")
        # Found without its object it would be a claim of nobody; the other way it is a report.
        try:
            await self._store(made, caller)
        except (AssessmentError, StorageError):
            await self.assessments.give_up(kept)
            raise
        if not await self.assessments.add(kept):
            raise AssessmentError("its report is gone again: say it again")
        self._notices.publish(
            InstancesMarked(
                caller=caller,
                study_instance_uid=kept.study_instance_uid,
                sop_classes={made.sop_class_uid: 1},
                action="C",
                what=f"AI result assessed: {opinion.verdict.value}, {opinion.status.value}",
            )
        )
        return kept

    async def _store(self, made: ModelFile, caller: Caller) -> None:
        try:
            async with await self._archive.receive(
                sop_class_uid=made.sop_class_uid,
                sop_instance_uid=made.sop_instance_uid,
                transfer_syntax_uid=made.transfer_syntax_uid,
                source_ae_title="",
            ) as ingest:
                await ingest.write(list(made.data_set()))
                result = await ingest.commit()
        except StoreError as error:
            raise AssessmentError(f"the archive does not keep it: {error.comment}") from error
        assert ingest.record is not None
        self._notices.publish(stored_notice(caller, ingest.record, result.outcome))


def _last(assessments: Sequence[Assessment]) -> Assessment | None:
    """The one that none follows.  Not the latest: nodes have clocks of their own."""
    followed = {one.predecessor for one in assessments}
    return next((one for one in assessments if one.sop_instance_uid not in followed), None)
