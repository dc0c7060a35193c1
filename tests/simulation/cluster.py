"""Several nodes on one database and one bucket: how a seed's world is, and what must be true.

`python -m tests.simulation --nodes SEED COUNT` runs it.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, fields
from typing import Any, Final
from unittest.mock import patch

import trio

from isocenter.engine.errors import IsocenterError
from isocenter.engine.uid import EXPLICIT_VR_LITTLE_ENDIAN
from isocenter.services.archive.deletion.ports import OF_ANY_CAUSE, TrashChoice
from isocenter.services.archive.deletion.values import Requester
from isocenter.services.archive.index.attributes import Level
from isocenter.services.archive.index.query import Criterion, Query, SingleValue
from isocenter.services.archive.locks import keeper
from isocenter.services.archive.sweeping import sweeper
from isocenter.services.workflow.events import delivery, service
from isocenter.services.workflow.jobs import runner
from isocenter.services.workflow.jobs.job import JobKind, JobRequest, JobState
from isocenter.services.workflow.jobs.ports import Wish
from isocenter.storage.database.database import Connection
from isocenter.storage.objects.cloud import bucket
from isocenter.storage.stores import Stores, StoresOptions, join_stores
from services.archive_support import CT, data_set
from simulation.cluster_node import (
    CONSUMER,
    RULES,
    ClusterNode,
    Outside,
    Process,
    ProcessGoneError,
)
from simulation.judge import KINDS
from simulation.links import OBSTORE, Objects, Trouble
from simulation.world import World
from support.virtual_database import (
    DatabaseServer,
    VirtualDatabase,
    database_clock,
    database_server,
)

_ADMIN: Final = Requester(name="root@here")
#: Within which all must have come to rest, when nothing goes wrong any more.
_REST_SECONDS: Final = 1_800
_LOOK_SECONDS: Final = 20
#: One step that was under way is done when a process wakes up.
_LAST_STEP_SECONDS: Final = 11.0
#: Others have what was claimed by then, and some of them are still at it.
_JUST_TOO_LONG: Final = (62, 66, 70, 130)
#: Looks that find nothing are most of what nodes do; fewer of them make more seeds.
_SLOWER: Final = (
    (keeper, "LOOK_SECONDS", 5.0),
    (sweeper, "_EVERY_SECONDS", 30.0),
    (delivery, "LOOK_SECONDS", 3.0),
    (service, "LOOK_SECONDS", 5.0),
    (runner, "LOOK_SECONDS", 5.0),
    (runner, "_RENEW_SECONDS", 5.0),
)
_LOG: Final = """
    CREATE TEMP TABLE job_log (job_pk INTEGER, state TEXT);
    CREATE TEMP TRIGGER job_changes AFTER UPDATE OF state ON job WHEN NEW.state <> OLD.state
    BEGIN INSERT INTO job_log VALUES (NEW.job_pk, NEW.state); END;
"""


@dataclass(frozen=True, slots=True)
class ClusterPlan:
    """How the world of one seed is.

    Attributes:
        faults: how many processes are killed, stand still, or are cut off.
        failure: how probable it is that the remote node and the consumer refuse something.
    """

    nodes: int
    clients: int
    steps: int
    studies: int
    faults: int
    failure: float
    hop_seconds: float
    trouble: Trouble

    @classmethod
    def drawn(cls, world: World) -> ClusterPlan:
        """What the seed says."""
        choice, is_fair = world.random.choice, world.random.random() < 0.1
        return cls(
            nodes=choice((1, 2, 2, 3)),
            clients=choice((1, 2, 4)),
            steps=choice((5, 15, 30)),
            studies=choice((1, 2, 4)),
            faults=0 if is_fair else choice((1, 3, 6)),
            failure=0.0 if is_fair else choice((0.0, 0.1, 0.3)),
            hop_seconds=choice((0.0, 0.01, 0.5)),
            trouble=Trouble()
            if is_fair
            else Trouble(
                latency=choice((0.0, 0.05, 1.0)),
                database=choice((0.0, 0.005, 0.03)),
                bucket=choice((0.0, 0.01, 0.1)),
            ),
        )


@dataclass(frozen=True, slots=True)
class ClusterResult:
    """What one run came to; as `simulation.scenario.Result`."""

    seed: int
    plan: ClusterPlan
    digest: str
    lines: int
    violations: tuple[str, ...]
    last_lines: tuple[str, ...]


def simulate_cluster(seed: int, show: Callable[[str], None] | None = None) -> ClusterResult:
    """Run one seed; *show* gets each line of its trace."""
    world = World(seed, show)
    plan = ClusterPlan.drawn(world)
    if show is not None:
        for each in fields(plan):
            show(f"{each.name:>18}: {getattr(plan, each.name)}")
    world.threads_take(plan.hop_seconds)
    with ExitStack() as stack:
        server = stack.enter_context(database_server())
        server.connection.executescript(_LOG)
        stack.enter_context(patch.object(bucket, "obstore", OBSTORE))
        for module, name, seconds in _SLOWER:
            stack.enter_context(patch.object(module, name, seconds))
        try:
            world.run(lambda: _Cluster(world, plan, server).run())
        except (Exception, BaseExceptionGroup) as error:  # whatever it is, it is this seed's
            world.violations.append("".join(traceback.format_exception(error)))
    return ClusterResult(
        seed, plan, world.digest, world.lines, tuple(world.violations), tuple(world.last_lines)
    )


class _Cluster:
    def __init__(self, world: World, plan: ClusterPlan, server: DatabaseServer) -> None:
        self._world = world
        self._plan = plan
        self._server = server
        self._objects = Objects()
        self._outside = Outside(world, plan.failure)
        self._nodes = [
            ClusterNode(world, number, server, self._objects, self._outside, plan.trouble)
            for number in range(1, plan.nodes + 1)
        ]
        #: What was answered with success: objects, jobs; what somebody wanted to have deleted.
        self._acknowledged: dict[str, bytes] = {}
        self._jobs: list[str] = []
        self._deleted: set[str] = set()

    async def run(self) -> None:
        auditor = join_stores(
            VirtualDatabase(self._server),
            StoresOptions(completion=RULES, notes_keys=True, now=database_clock),
        )
        async with trio.open_nursery() as nursery:
            for node in self._nodes:
                nursery.start_soon(node.run)
            async with trio.open_nursery() as turbulence:
                for number in range(self._plan.clients):
                    turbulence.start_soon(self._client, number)
                turbulence.start_soon(self._strike)
            self._world.note("calm")
            self._world.calm = True
            for node in self._nodes:
                if node.process is not None:
                    node.process.link.heal()
            await self._until_rest(auditor)
            nursery.cancel_scope.cancel()
        await self._audit(auditor)

    # -- What happens -----------------------------------------------------------------

    async def _strike(self) -> None:
        random = self._world.random
        for _ in range(self._plan.faults):
            await trio.sleep(random.choice((1, 10, 40)))
            process = random.choice(self._nodes).process
            if process is None or process.link.is_dead:
                continue
            seconds = random.choice((5, 20, 70, 130))
            match random.randint(0, 5):
                case 0:
                    self._world.note(f"{process.link.name} is killed")
                    process.kill()
                case 1:
                    process.link.pause(seconds)
                case 2:
                    process.link.cut("database", seconds)
                case 3:
                    process.link.cut("bucket", seconds)
                case _:
                    process.link.pause_at(random.choice(KINDS), random.choice(_JUST_TOO_LONG))

    async def _client(self, number: int) -> None:
        random = self._world.random
        for step in range(self._plan.steps):
            await trio.sleep(random.choice((0, 0.1, 2, 10)))
            process = random.choice(self._nodes).process
            if process is None:
                continue
            acts: list[tuple[str, Callable[[Process], Any], int]] = [
                ("store", self._storing(random.randint(1, 8)), 10),
                ("send", self._submitting(JobKind.SEND), 3),
                ("verify", self._submitting(JobKind.VERIFY), 2),
                ("steer", self._steer, 2),
                ("delete", self._delete, 2),
                ("restore", self._restore, 2),
            ]
            (chosen,) = random.choices(acts, [weight for _, _, weight in acts])
            what = f"client{number + 1}.{step}: {chosen[0]} at {process.link.name}"
            with trio.move_on_after(200) as scope:
                try:
                    await process.call(chosen[1])
                except ProcessGoneError:
                    self._world.note(f"{what}: no answer")
                except IsocenterError as error:
                    self._world.note(f"{what}: {type(error).__name__}")
                else:
                    self._world.note(f"{what}: done")
            if scope.cancelled_caught:
                self._world.note(f"{what}: took too long")

    def _study(self) -> str:
        return f"1.2.{self._world.random.randint(1, self._plan.studies)}"

    def _storing(self, number: int) -> Callable[[Process], Any]:
        study = self._study()
        uid = f"{study}.1.{number}"
        data = data_set(
            study=study, series=f"{study}.1", instance=uid, patient_id=study,
            pixels=bytes([number]) * (100 * number),
        )  # fmt: skip

        async def store(process: Process) -> None:
            ingest = await process.archive.receive(
                sop_class_uid=CT,
                sop_instance_uid=uid,
                transfer_syntax_uid=EXPLICIT_VR_LITTLE_ENDIAN,
                source_ae_title="SENDER",
            )
            async with ingest:
                await ingest.write([data])
                await ingest.commit()
            if not process.link.is_dead:
                self._acknowledged[uid] = data

        return store

    def _submitting(self, kind: JobKind) -> Callable[[Process], Any]:
        study = self._study()
        request = JobRequest(
            kind=kind,
            node="FAR" if kind is JobKind.SEND else "",
            keys=(("StudyInstanceUID", study),),
        )

        async def submit(process: Process) -> None:
            job_id, _ = await process.stores.jobs.submit(request)
            if job_id not in self._jobs and not process.link.is_dead:
                self._jobs.append(job_id)

        return submit

    async def _steer(self, process: Process) -> None:
        if self._jobs:
            wish = self._world.random.choice((Wish.CANCEL, Wish.PAUSE, Wish.RESUME, Wish.RESUME))
            await process.stores.jobs.wish(self._world.random.choice(self._jobs), wish)

    async def _delete(self, process: Process) -> None:
        study = self._study()
        query = Query(level=Level.STUDY, criteria=(Criterion(0x0020000D, SingleValue(study)),))
        plan = await process.trash.plan(query)
        self._deleted.add(study)
        await process.trash.delete(plan, _ADMIN, "a test", overrule=True)

    async def _restore(self, process: Process) -> None:
        await process.trash.restore(TrashChoice(), _ADMIN)

    # -- Afterwards -------------------------------------------------------------------

    async def _until_rest(self, auditor: Stores) -> None:
        """Until jobs are over, events have arrived, and nothing is half done."""
        what, still = "", 0
        for _ in range(_REST_SECONDS // _LOOK_SECONDS):
            for job_id in self._jobs:
                await auditor.jobs.wish(job_id, Wish.RESUME)
            await trio.sleep(_LOOK_SECONDS)
            what = await self._unrest(auditor)
            still = 0 if what else still + 1
            if still == 2:
                return
        self._world.violation(f"no rest: {what}")

    async def _unrest(self, auditor: Stores) -> str:
        jobs = await auditor.jobs.jobs(limit=1_000)
        if left := [job for job in jobs if not job.state.is_final]:
            return f"{len(left)} jobs, {left[0].last_fault}"
        if waiting := await auditor.outbox.backlog(CONSUMER.name, CONSUMER.kinds):
            return f"{waiting} events"
        if left_over := await auditor.trash.unfinished(9):
            return f"{len(left_over)} objects on their way to the trash or back"
        if notes := await auditor.staged_keys.count():
            return f"{notes} notes of keys"
        if receiving := await auditor.open_studies.count():
            return f"{receiving} studies that are not complete"
        locks = await auditor.locks.all()
        return f"{len(locks)} locks" if locks else ""

    async def _audit(self, auditor: Stores) -> None:
        await self._audit_objects(auditor)
        await self._audit_jobs(auditor)
        self._audit_events(self._events())
        for line in await auditor.index.check():
            self._world.violation(f"the index: {line}")

    async def _audit_objects(self, auditor: Stores) -> None:
        check, held = self._world.check, self._objects.held
        uids = list(self._acknowledged)
        known = await auditor.index.get(uids)
        trashed = {
            row.stored.sop_instance_uid: row
            for row in await auditor.trash.chosen(TrashChoice(causes=OF_ANY_CAUSE), limit=10_000)
        }
        for uid, data in self._acknowledged.items():
            if uid in known:
                stored, path = known[uid], f"objects/{known[uid].object_key}"
            elif uid in trashed:
                study = trashed[uid].stored.study_instance_uid
                check(study in self._deleted, f"{uid} was deleted, and nobody wanted that")
                stored = trashed[uid].stored
                path = f"trash/{trashed[uid].deletion_id}/objects/{stored.object_key}"
            else:
                self._world.violation(f"{uid} was acknowledged, and is lost")
                continue
            content = held.get(path, (b"", 0.0))[0]
            check(content[stored.data_set_offset :] == data, f"{uid} is not what was sent")
        named: set[str] = set()
        async with auditor.index.instances() as blocks:
            async for block in blocks:
                named.update(f"objects/{stored.object_key}" for stored in block)
        there = {path for path in held if path.startswith("objects/")}
        check(there <= named, f"{len(there - named)} objects that nothing names")
        check(named <= there, f"{len(named - there)} objects that are named are not there")

    async def _audit_jobs(self, auditor: Stores) -> None:
        check = self._world.check
        rows = self._server.connection.execute("SELECT job_pk, state FROM job_log").fetchall()
        final = {state.value for state in JobState if state.is_final}
        ends: dict[int, int] = {}
        for number, state in rows:
            ends[number] = ends.get(number, 0) + (state in final)
        jobs = {job.job_id: job for job in await auditor.jobs.jobs(limit=10_000)}
        for job_id in self._jobs:
            check(job_id in jobs, f"job {job_id} was taken, and is gone")
        for job_id, job in jobs.items():
            check(ends.get(job.number, 0) == 1, f"job {job_id} ended {ends.get(job.number)} times")
            self._audit_claims(job_id)

    def _audit_claims(self, job_id: str) -> None:
        """Nobody works on a job that somebody else has claimed since."""
        effects = self._outside.sent.get(job_id, [])
        for place, effect in enumerate(effects):
            later = [other for other in effects[:place] if other.claim > effect.claim]
            if not later or effect.node == later[0].node:
                continue
            since = max(later[0].at, effect.resumed_at)
            self._world.check(
                effect.at - since <= _LAST_STEP_SECONDS,
                f"{effect.node} works on job {job_id}, which {later[0].node} has",
            )

    def _events(self) -> list[tuple[int, str, str]]:
        def read(connection: Connection) -> Any:
            return connection.execute(
                "SELECT event_pk, study_instance_uid, kind FROM event ORDER BY event_pk"
            ).fetchall()

        return [tuple(row) for row in read(self._server.connection)]

    def _audit_events(self, events: list[tuple[int, str, str]]) -> None:
        wanted: dict[str, list[int]] = {}
        for number, study, kind in events:
            if kind in CONSUMER.kinds:
                wanted.setdefault(study, []).append(number)
        for study, numbers in wanted.items():
            first: list[int] = []
            for effect in self._outside.told.get(study, ()):
                if int(effect.what) not in first:
                    first.append(int(effect.what))
            self._world.check(set(first) == set(numbers), f"events of {study}: not all arrived")
            self._world.check(first == sorted(first), f"events of {study} are out of order")
