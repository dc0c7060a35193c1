"""Prefetcher: looks at the worklist, and has priors of scheduled patients retrieved."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from datetime import date, timedelta
from functools import partial
from typing import Final

import trio

from isocenter.engine.errors import IsocenterError
from isocenter.engine.fast_init import dataclass
from isocenter.engine.uid import EXPLICIT_VR_LITTLE_ENDIAN
from isocenter.services.archive.index.attributes import Level
from isocenter.services.archive.index.query import Criterion, Page, Query, ValueList
from isocenter.services.archive.ports import Index
from isocenter.services.archive.selection import matches_of
from isocenter.services.errors import StorageError, text_of
from isocenter.services.service_classes.query_retrieve.identifier_builder import build_identifier
from isocenter.services.service_classes.worklist.entry import (
    MODALITY,
    PATIENT_ID,
    STUDY_INSTANCE_UID,
    EntryState,
)
from isocenter.services.service_classes.worklist.ports import StoredEntry, Worklist
from isocenter.services.service_classes.worklist.query_keys import Keys, parse_keys
from isocenter.services.workflow.jobs.desk import JobDesk
from isocenter.services.workflow.jobs.job import JobKind, JobPriority, JobRequest, JobState
from isocenter.services.workflow.jobs.ports import Wish
from isocenter.services.workflow.nodes.node import Node
from isocenter.services.workflow.nodes.ports import OpenNode
from isocenter.services.workflow.nodes.remote_study import RemoteStudy
from isocenter.services.workflow.prefetch.priors import (
    PriorRules,
    ScheduledPatient,
    choose_priors,
)

log = logging.getLogger("isocenter.prefetch")

#: Who asks for the jobs.
REQUESTED_BY: Final = "prefetch"
#: Studies of one patient that a node is asked for.
_MOST_FOUND: Final = 500
_INSTANCES: Final = 0x00201208
_STEP_DESCRIPTION: Final = 0x00400007
_PROCEDURE_DESCRIPTION: Final = 0x00321060
_MINUTE_SECONDS: Final = 60.0
#: In a Patient ID they would match others.
_WILD: Final = frozenset("*?\\")


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefetchOptions:
    """Where priors come from, and when.

    Attributes:
        nodes: names of nodes, each of which is asked.
        days_ahead: of the worklist, beside today.
        interval: seconds between two looks at the worklist.
        pause: seconds between two questions to nodes.
        most_per_minute: studies that are asked of one node; 0: no bound.
        longest_rest: seconds for which a node that does not answer is left alone, at most.
    """

    nodes: Sequence[str]
    rules: PriorRules
    days_ahead: int = 1
    interval: float = 300.0
    pause: float = 1.0
    most_per_minute: int = 0
    longest_rest: float = 3_600.0


class Prefetcher:
    """Has what is needed tomorrow here today; `run` does it as long as the server does.

    An entry of the worklist is looked at once, and again when it was changed or a node did not
    answer.  What it brings are jobs of the lowest priority; those of an entry that is taken off
    the worklist are cancelled.

    Args:
        find: a node by its name.
        today: at the archive.
    """

    def __init__(
        self,
        worklist: Worklist,
        index: Index,
        jobs: JobDesk,
        find: Callable[[str], Awaitable[Node | None]],
        open_node: OpenNode,
        options: PrefetchOptions,
        *,
        today: Callable[[], date],
    ) -> None:
        self._worklist = worklist
        self._index = index
        self._jobs = jobs
        self._find = find
        self._open_node = open_node
        self._options = options
        self._today = today
        #: Entries by number: when they had changed last, and jobs that they have brought.
        self._seen: dict[int, tuple[float, list[str]]] = {}
        self._told: dict[str, str] = {}
        #: By node, when studies were asked of it in the last minute.
        self._asked: dict[str, deque[float]] = {}
        #: Nodes that did not answer: how often in a row, and until when they are left alone.
        self._resting: dict[str, tuple[int, float]] = {}

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            try:
                await self.look()
            except StorageError as error:
                log.error("the worklist cannot be looked at: %s", error)
            except Exception as error:
                # A fault of ours, and no reason for the server to end; its text may name a patient.
                log.error("no priors are looked for: internal error (%s)", type(error).__name__)
            await trio.sleep(self._options.interval)

    async def look(self) -> int:
        """Look at the worklist once; how many jobs came of it.

        Raises:
            StorageError: worklist, index or queue cannot be read or written.
        """
        today = self._today()
        keys = _keys(today, today + timedelta(days=self._options.days_ahead))
        count = 0
        there: set[int] = set()
        entries: list[StoredEntry] = []
        async with self._worklist.find(keys, (EntryState.SCHEDULED,)) as blocks:
            async for block in blocks:
                entries += block
        for stored in entries:
            there.add(stored.number)
            changed_at, jobs = self._seen.get(stored.number, (0.0, []))
            if changed_at == stored.changed_at:
                continue
            new, is_complete = await self._prefetch(stored)
            jobs += new
            count += len(new)
            self._seen[stored.number] = (stored.changed_at if is_complete else 0.0, jobs)
        await self._forget(self._seen.keys() - there)
        return count

    async def _prefetch(self, stored: StoredEntry) -> tuple[list[str], bool]:
        """Jobs for one entry, and whether nothing is left to be asked."""
        entry = stored.entry
        texts = (entry.step_text(_STEP_DESCRIPTION), entry.text(_PROCEDURE_DESCRIPTION))
        patient = ScheduledPatient(
            patient_id=entry.text(PATIENT_ID).strip(),
            modality=entry.step_text(MODALITY).strip(),
            study_instance_uid=entry.text(STUDY_INSTANCE_UID).strip(),
            description=" ".join(texts),
        )
        return await self.prefetch(patient)

    async def prefetch(self, patient: ScheduledPatient) -> tuple[list[str], bool]:
        """Jobs for one patient, and whether nothing is left to be asked.

        Raises:
            StorageError: index or queue cannot be read or written.
        """
        if not patient.patient_id or _WILD.intersection(patient.patient_id):
            return [], True
        found: dict[str, tuple[str, RemoteStudy]] = {}
        is_complete = True
        for name in self._options.nodes:
            studies = await self._ask(name, patient)
            if studies is None:
                is_complete = False
                continue
            for study in studies:
                found.setdefault(study.study_instance_uid, (name, study))
        rules = self._options.rules
        studies = [study for _, study in found.values()]
        chosen = choose_priors(studies, patient, rules, self._today())[: rules.most]
        here = await self._here([study.study_instance_uid for study in chosen])
        jobs = []
        for study in chosen:
            uid = study.study_instance_uid
            if uid in here and not _has_more(study, here[uid]):
                continue
            if not self._may_ask(found[uid][0]):
                is_complete = False
                continue
            request = JobRequest(
                kind=JobKind.RETRIEVE,
                node=found[uid][0],
                keys=(("StudyInstanceUID", uid),),
                priority=JobPriority.LOW,
                requested_by=REQUESTED_BY,
            )
            job_id, is_new = await self._jobs.submit(request)
            if is_new:
                jobs.append(job_id)
        return jobs, is_complete

    async def _ask(self, name: str, patient: ScheduledPatient) -> Sequence[RemoteStudy] | None:
        """Studies of a patient at a node; None: it did not answer."""
        failures, until = self._resting.get(name, (0, 0.0))
        if trio.current_time() < until:
            return None
        node = await self._find(name)
        try:
            if node is None or not node.is_enabled:
                self._tell(name, "there is no such node, or it is disabled")
                return None
            async with self._open_node(node) as remote:
                found = await remote.search([("PatientID", patient.patient_id)], _MOST_FOUND)
        except StorageError:
            raise
        except (IsocenterError, OSError) as error:
            self._tell(name, text_of(error))
            rest = min(self._options.interval * 2 ** min(failures, 16), self._options.longest_rest)
            self._resting[name] = (failures + 1, trio.current_time() + rest)
            return None
        self._told.pop(name, None)
        self._resting.pop(name, None)
        await trio.sleep(self._options.pause)
        return found

    def _may_ask(self, name: str) -> bool:
        """Whether one study more may be asked of a node in this minute."""
        most = self._options.most_per_minute
        if not most:
            return True
        asked = self._asked.setdefault(name, deque())
        now = trio.current_time()
        while asked and asked[0] <= now - _MINUTE_SECONDS:
            asked.popleft()
        if len(asked) >= most:
            return False
        asked.append(now)
        return True

    def _tell(self, name: str, fault: str) -> None:
        """Once, until it is something else."""
        if self._told.get(name) != fault:
            self._told[name] = fault
            log.warning("no priors from node %r: %s", name, fault)

    async def _here(self, studies: Sequence[str]) -> dict[str, int]:
        """Numbers of instances of those studies that are here."""
        if not studies:
            return {}
        study_uid = 0x0020000D
        query = Query(
            level=Level.STUDY,
            criteria=(Criterion(study_uid, ValueList(tuple(studies))),),
            return_tags=(study_uid, _INSTANCES),
        )
        matches = await matches_of(self._index, query, Page(limit=len(studies)))
        return {match[study_uid]: int(match.get(_INSTANCES) or 0) for match in matches}

    async def _forget(self, numbers: set[int]) -> None:
        """Entries that are not scheduled any more: of those that were called off, cancel what is
        not over."""
        for number in numbers:
            stored = await self._worklist.numbered(number)
            is_off = stored is None or stored.state is EntryState.DISCONTINUED
            # A task may look at the same time.
            _, jobs = self._seen.pop(number, (0.0, []))
            for job_id in jobs if is_off else ():
                job = await self._jobs.get(job_id)
                if job is not None and job.state in (JobState.WAITING, JobState.RUNNING):
                    await self._jobs.steer(job, Wish.CANCEL)


def _has_more(study: RemoteStudy, here: int) -> bool:
    """Whether the node has more of a study than we; one that does not say has not."""
    return study.instances.isdecimal() and int(study.instances) > here


def _keys(first: date, last: date) -> Keys:
    days = f"{first:%Y%m%d}-{last:%Y%m%d}"
    path = "ScheduledProcedureStepSequence[0].ScheduledProcedureStepStartDate"
    encode = partial(build_identifier, [(path, days)], None)
    return parse_keys(encode(EXPLICIT_VR_LITTLE_ENDIAN), EXPLICIT_VR_LITTLE_ENDIAN)
