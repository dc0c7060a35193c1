"""Synchronizer, which has jobs bring and send what an archive and a node lack."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import date, timedelta
from typing import Final

from isocenter.engine.fast_init import dataclass
from isocenter.services.archive.deletion.ports import DeletionRefusedError
from isocenter.services.archive.deletion.service import Trash
from isocenter.services.archive.deletion.values import Requester
from isocenter.services.archive.index.attributes import Level
from isocenter.services.archive.index.query import Criterion, Query, Range, SingleValue
from isocenter.services.archive.ports import Index, StoredInstance
from isocenter.services.workflow.jobs.desk import JobDesk
from isocenter.services.workflow.jobs.job import JobKind, JobPriority, JobRequest
from isocenter.services.workflow.nodes.node import Node
from isocenter.services.workflow.nodes.ports import (
    NodeError,
    ObjectDigest,
    OpenNode,
    RemoteArchive,
)
from isocenter.services.workflow.nodes.remote_study import RemoteStudy
from isocenter.services.workflow.synchronization.comparison import (
    UNKNOWN,
    ConflictKind,
    KnownStudy,
    Resolution,
    Step,
    StudyDifference,
    SyncOptions,
    difference,
    step_for,
)
from isocenter.services.workflow.synchronization.options import sync_options
from isocenter.services.workflow.synchronization.ports import Conflict, SyncBook
from isocenter.services.workflow.tasks.task import Task, TaskError

log = logging.getLogger("isocenter.sync")

#: Studies of a node that are looked at in one run.
_MOST_STUDIES: Final = 500_000
#: Studies that are written down together.
_NOTED_AT_ONCE: Final = 200
#: More objects than that are named by their study.
_MOST_NAMED: Final = 500
#: More deletions in one run than that, and than half of what was alike, are left to a person.
_MOST_DELETED: Final = 10
#: Steps that are taken because a node has a study no more, or never had it.
_ABSENT_THERE: Final = (Step.PUSH, Step.DELETE, Step.DELETED_THERE)
_STUDY: Final = 0x0020000D
_DATE: Final = 0x00080020
_MODALITIES: Final = 0x00080061
_INSTANCES: Final = 0x00201208


@dataclass(slots=True)
class _Run:
    """One run of a synchronisation."""

    task: Task
    options: SyncOptions
    remote: RemoteArchive
    is_dry: bool
    counts: Counter[str]
    noted: list[KnownStudy]
    gone: list[str]
    asked: int = 0

    @property
    def is_full(self) -> bool:
        """Whether enough was done for one run."""
        return self.asked >= self.options.most


class Synchronizer:
    """Keeps this archive and nodes alike, as tasks say.

    What is missing is brought and sent by jobs of the lowest priority: they are retried, count
    each object, and are seen among the others.  A run that is interrupted goes on with the next:
    what it has found alike it does not look into again.

    Args:
        find: a node by its name.
        trash: None: nothing can be deleted.
        today: at the archive.
        now: seconds since 1970.
    """

    def __init__(
        self,
        book: SyncBook,
        index: Index,
        jobs: JobDesk,
        find: Callable[[str], Awaitable[Node | None]],
        open_node: OpenNode,
        trash: Trash | None,
        *,
        today: Callable[[], date],
        now: Callable[[], float],
    ) -> None:
        self._book = book
        self._index = index
        self._jobs = jobs
        self._find = find
        self._open_node = open_node
        self._trash = trash
        self._today = today
        self._now = now

    async def run(self, task: Task, is_dry: bool) -> str:
        """Compare, and do what follows; what came of it, in words.

        Raises:
            IsocenterError, OSError: the node cannot be reached, or refuses.
        """
        options = sync_options(task.parameters)
        node = await self._find(options.node)
        if node is None or not node.is_enabled:
            raise NodeError(f"there is no node {options.node!r} to be asked")
        async with self._open_node(node) as remote:
            run = _Run(task, options, remote, is_dry, Counter(), [], [])
            there = await self._there(run)
            here = await self._here(options)
            known = await self._book.known(task.name)
            self._brake(run, here, there, known)
            try:
                for study in sorted(here.keys() | there.keys()):
                    if run.is_full:
                        run.counts["left for the next run"] += 1
                        continue
                    await self._settle(
                        run, study, here.get(study), there.get(study), known.get(study)
                    )
                if not options.look_back_days and not options.modalities:
                    run.gone += known.keys() - here.keys() - there.keys()
            finally:
                await self._write(run)
        texts = [f"{count} {what}" for what, count in sorted(run.counts.items())]
        would = "would be: " if is_dry else ""
        return f"{would}{', '.join(texts) or 'nothing at either'}"

    def _brake(
        self,
        run: _Run,
        here: Mapping[str, int],
        there: Mapping[str, int],
        known: Mapping[str, KnownStudy],
    ) -> None:
        """A node that has lost most of what it had is not followed."""
        if not run.options.deletes:
            return
        alike = [study for study, one in known.items() if one.was_alike]
        going = sum(
            step_for(here.get(study), there.get(study), known[study], run.options) is Step.DELETE
            for study in alike
        )
        if going > max(_MOST_DELETED, len(alike) // 2):
            log.warning(
                "sync %s: node %r has %d of %d studies no more; none is deleted here, "
                "each is a conflict", run.task.name, run.options.node, going, len(alike),
            )  # fmt: skip
            run.options = replace(run.options, deletes=False)

    # -- What there is ----------------------------------------------------------------

    async def _there(self, run: _Run) -> Mapping[str, int]:
        options = run.options
        keys: list[tuple[str, str]] = []
        if options.look_back_days:
            keys.append(("StudyDate", f"{self._earliest(options)}-"))
        if len(options.modalities) == 1:
            (modality,) = options.modalities
            keys.append(("ModalitiesInStudy", modality))
        found = await run.remote.search(keys, _MOST_STUDIES)
        if len(found) >= _MOST_STUDIES:
            raise NodeError(
                f"the node has more than {_MOST_STUDIES} studies; narrow it by look_back_days or "
                "modalities"
            )
        return {
            study.study_instance_uid: _number(study.instances)
            for study in found
            if self._is_meant(options, study)
        }

    def _is_meant(self, options: SyncOptions, study: RemoteStudy) -> bool:
        """A node that does not know a key has answered with all."""
        day = study.study_date.replace(".", "").replace("-", "")
        if options.look_back_days and day < self._earliest(options):
            return False
        modalities = study.modalities.replace("\\", ",").split(",")
        return not options.modalities or bool(
            options.modalities.intersection(each.strip() for each in modalities)
        )

    async def _here(self, options: SyncOptions) -> Mapping[str, int]:
        criteria = []
        if options.look_back_days:
            criteria.append(Criterion(_DATE, Range(self._earliest(options), None)))
        query = Query(
            level=Level.STUDY,
            criteria=tuple(criteria),
            return_tags=(_STUDY, _INSTANCES, _MODALITIES),
        )
        found: dict[str, int] = {}
        async with self._index.find(query) as blocks:
            async for block in blocks:
                for match in block:
                    modalities = match.get(_MODALITIES, "").split("\\")
                    if not options.modalities or options.modalities.intersection(modalities):
                        found[match[_STUDY]] = int(match.get(_INSTANCES) or 0)
        return found

    def _earliest(self, options: SyncOptions) -> str:
        return f"{self._today() - timedelta(days=options.look_back_days):%Y%m%d}"

    # -- What follows -----------------------------------------------------------------

    async def _settle(
        self, run: _Run, study: str, here: int | None, there: int | None, known: KnownStudy | None
    ) -> None:
        options = run.options
        if here is None and options.is_narrow:
            # What is here has perhaps another date, or other modalities.
            here = len(await self._objects_here(study)) or None
        step = step_for(here, there, known, options)
        if there is None and step in _ABSENT_THERE:
            # The same; and some nodes cut long answers short, and call them complete.
            there = await self._count_there(run, study)
            step = step_for(here, there, known, options)
        match step:
            case Step.NOTHING:
                run.counts["left alone"] += 1
            case Step.ALIKE:
                run.counts["alike"] += 1
            case Step.LOOK:
                assert here is not None
                assert there is not None
                await self._look_into(run, study, there)
            case Step.PULL:
                await self._pull(run, study)
                await self._note(run, study, 0, there or 0)
            case Step.PUSH:
                await self._push(run, study)
                await self._note(run, study, here or 0, 0)
            case Step.DELETE:
                await self._delete(run, study)
            case Step.DELETED_HERE:
                await self._conflict(run, study, ConflictKind.DELETED_HERE, 0, there or 0)
            case Step.DELETED_THERE:
                await self._conflict(run, study, ConflictKind.DELETED_THERE, here or 0, 0)

    async def _count_there(self, run: _Run, study: str) -> int | None:
        """How many instances the node has of a study for which it is asked by its UID."""
        found = await run.remote.search([("StudyInstanceUID", study)], _MOST_STUDIES)
        counts = [_number(one.instances) for one in found if one.study_instance_uid == study]
        return counts[0] if counts else None

    async def _look_into(self, run: _Run, study: str, claimed: int) -> None:
        ours = await self._objects_here(study)
        listed: set[str] = set()
        try:
            async with run.remote.instances([("StudyInstanceUID", study)]) as studies:
                async for instances in studies:
                    listed |= {
                        one.sop_instance_uid for one in instances if one.study_instance_uid == study
                    }
        except NodeError as error:
            log.info("node %r, study %s: %s", run.options.node, study, error)
        if not listed:
            await self._conflict(run, study, ConflictKind.COUNT, len(ours), max(claimed, 0))
            return
        digests = await run.remote.digests(study) or {}
        found = difference(ours, {uid: digests.get(uid) for uid in listed})
        there = len(listed)
        if claimed not in (UNKNOWN, there):
            log.info("node %r counts %d of study %s, and lists %d",
                     run.options.node, claimed, study, there)  # fmt: skip
            run.counts["counted other than listed"] += 1
        await self._level(run, study, found, len(ours), claimed if claimed >= 0 else there)

    async def _level(
        self, run: _Run, study: str, found: StudyDifference, here: int, there: int
    ) -> None:
        direction = run.options.direction
        is_level = True
        if found.missing_here:
            is_level = False
            if direction.pulls:
                await self._pull(run, study)
        if found.missing_there:
            is_level = False
            if direction.pushes:
                await self._push(run, study, found.missing_there)
        if found.modified:
            is_level = False
            match run.options.resolution:
                case Resolution.REMOTE if direction.pulls:
                    await self._pull(run, study, again=True)
                case Resolution.LOCAL if direction.pushes:
                    await self._push(run, study, found.modified)
                case Resolution.LEAVE:
                    # As far as these go; others may still be missing.
                    is_level = not (found.missing_here or found.missing_there)
                case _:
                    await self._conflict(run, study, ConflictKind.MODIFIED, here, there)
                    return
        one_way = (found.missing_there and not direction.pushes) or (
            found.missing_here and not direction.pulls
        )
        if is_level:
            run.counts["alike"] += 1
        elif one_way and not (
            (found.missing_here and direction.pulls) or (found.missing_there and direction.pushes)
        ):
            run.counts["left alone"] += 1
        await self._note(run, study, here, there, was_alike=is_level)

    async def _objects_here(self, study: str) -> Mapping[str, ObjectDigest]:
        criterion = Criterion(_STUDY, SingleValue(study))
        query = Query(level=Level.STUDY, criteria=(criterion,))
        found: dict[str, ObjectDigest] = {}
        async with self._index.instances(query) as blocks:
            async for block in blocks:
                found |= {one.sop_instance_uid: digest_of(one) for one in block}
        return found

    async def _pull(self, run: _Run, study: str, *, again: bool = False) -> None:
        run.counts["to be retrieved"] += 1
        await self._ask(
            run,
            JobRequest(
                kind=JobKind.RETRIEVE,
                node=run.options.node,
                keys=(("StudyInstanceUID", study),),
                priority=JobPriority.LOW,
                again=again,
                requested_by=f"sync {run.task.name}",
            ),
        )

    async def _push(self, run: _Run, study: str, uids: Sequence[str] = ()) -> None:
        run.counts["to be sent"] += 1
        key = ("StudyInstanceUID", study)
        if 0 < len(uids) <= _MOST_NAMED:
            key = ("SOPInstanceUID", "\\".join(uids))
        await self._ask(
            run,
            JobRequest(
                kind=JobKind.SEND,
                node=run.options.node,
                keys=(key,),
                priority=JobPriority.LOW,
                requested_by=f"sync {run.task.name}",
            ),
        )

    async def _ask(self, run: _Run, request: JobRequest) -> None:
        run.asked += 1
        if not run.is_dry:
            await self._jobs.submit(request)

    async def _delete(self, run: _Run, study: str) -> None:
        run.asked += 1
        if run.is_dry:
            run.counts["deleted here"] += 1
        elif await self.delete_here(study, run.task.name, run.options.node):
            run.counts["deleted here"] += 1
            run.gone.append(study)
        else:
            run.counts["kept against the node"] += 1

    async def delete_here(self, study: str, task: str, node: str) -> bool:
        """Delete a study that a node has no more; False: something is against it.

        Raises:
            TaskError: nothing can be deleted here.
        """
        if self._trash is None:
            raise TaskError("nothing can be deleted in this archive")
        criterion = Criterion(_STUDY, SingleValue(study))
        plan = await self._trash.plan(Query(level=Level.STUDY, criteria=(criterion,)))
        try:
            await self._trash.delete(
                plan, Requester(name="isocenter"), f"sync {task}: node {node} has it no more"
            )
        except DeletionRefusedError as error:
            log.warning("study %s stays: %s", study, error)
            return False
        return True

    async def _conflict(
        self, run: _Run, study: str, kind: ConflictKind, here: int, there: int
    ) -> None:
        run.counts["conflicts"] += 1
        if run.is_dry:
            return
        conflict = Conflict(
            number=0,
            task=run.task.name,
            node=run.options.node,
            study_instance_uid=study,
            kind=kind,
            here=here,
            there=there,
            found_at=self._now(),
        )
        if await self._book.report(conflict):
            log.warning("sync %s: study %s: %s", run.task.name, study, kind.value)

    # -- What is remembered -----------------------------------------------------------

    async def _note(
        self, run: _Run, study: str, here: int, there: int, *, was_alike: bool = False
    ) -> None:
        known = KnownStudy(study_instance_uid=study, here=here, there=there, was_alike=was_alike)
        run.noted.append(known)
        if len(run.noted) >= _NOTED_AT_ONCE:
            await self._write(run)

    async def _write(self, run: _Run) -> None:
        if not run.is_dry:
            if run.noted:
                await self._book.note(run.task.name, run.noted)
            if run.gone:
                await self._book.forget(run.task.name, run.gone)
        run.noted, run.gone = [], []


def digest_of(stored: StoredInstance) -> ObjectDigest:
    """The digests of an object of this archive."""
    digests = {stored.digest, stored.received_digest} - {""}
    return ObjectDigest(transfer_syntax_uid=stored.transfer_syntax_uid, digests=frozenset(digests))


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else UNKNOWN
