"""Jobs between two archives in one event loop, and with nodes that lie, refuse and vanish."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pytest
import trio
import trio.testing

from isocenter.engine.dimse.message_codec import (
    CFindRequest,
    CFindResponse,
    CGetRequest,
    CGetResponse,
    CStoreRequest,
)
from isocenter.engine.dimse.status import Status
from isocenter.engine.uid import EXPLICIT_VR_LITTLE_ENDIAN
from isocenter.services import composition
from isocenter.services.association.operation import Operation
from isocenter.services.association.peer import Peer
from isocenter.services.association.pool import AssociationTaken
from isocenter.services.association.server import ListenAddress, serve
from isocenter.services.association.service_registry import ServiceRegistry
from isocenter.services.composition.archive import ArchiveParts
from isocenter.services.dicom.uid_registry import (
    BASIC_SYNTAXES,
    STUDY_ROOT_FIND,
    STUDY_ROOT_GET,
    STUDY_ROOT_MOVE,
)
from isocenter.services.notices import InstancesSent, InstanceStored, Notice, Notices
from isocenter.services.service_classes.client import RetrieveError, open_association
from isocenter.services.service_classes.query_retrieve.identifier_builder import build_identifier
from isocenter.services.service_classes.storage.scp import StorageScp
from isocenter.services.settings.loading import load_settings
from isocenter.services.workflow.jobs import runner, turns
from isocenter.services.workflow.jobs.desk import JobDesk
from isocenter.services.workflow.jobs.job import (
    ItemState,
    Job,
    JobKind,
    JobRequest,
    JobState,
)
from isocenter.services.workflow.jobs.ports import Wish
from isocenter.services.workflow.nodes.destinations import NodeDestinations
from isocenter.services.workflow.nodes.node import new_node
from isocenter.storage.database.jobs.queue import DatabaseJobs
from services.archive_support import CT, SERIES, STUDY, data_set, store, uid
from support.ports import free_port
from support.serving import Scripted, port_of, serving

PATIENCE = 60.0
ALL = JobRequest(kind=JobKind.RETRIEVE, node="OTHER")


@dataclass
class World:
    """An archive that works jobs off, and what is told meanwhile."""

    parts: ArchiveParts
    desk: JobDesk
    heard: list[Notice]
    registry: ServiceRegistry
    destinations: NodeDestinations

    @property
    def storage(self) -> StorageScp:
        return StorageScp(self.parts.archive)

    async def add_node(self, address: str, name: str = "OTHER") -> None:
        assert await self.parts.stores.nodes.add(new_node(address, name))

    async def submit(self, request: JobRequest) -> str:
        job_id, _ = await self.desk.submit(request)
        return job_id

    async def steer(self, job_id: str, wish: Wish) -> bool:
        job = await self.desk.get(job_id)
        assert job is not None
        return await self.desk.steer(job, wish)

    async def until(self, job_id: str, is_so: Callable[[Job], bool]) -> Job:
        """The job, as soon as it is so."""
        with trio.fail_after(PATIENCE):
            while True:
                job = await self.parts.stores.jobs.get(job_id)
                assert job is not None
                if is_so(job):
                    return job
                await trio.testing.wait_all_tasks_blocked(0.01)

    async def done(self, request: JobRequest) -> Job:
        return await self.until(await self.submit(request), lambda job: job.state.is_final)

    async def instances(self) -> set[str]:
        found: set[str] = set()
        async with self.parts.archive.index.instances() as blocks:
            async for block in blocks:
                found.update(stored.sop_instance_uid for stored in block)
        return found


@asynccontextmanager
async def world(**options: object) -> AsyncIterator[World]:
    overrides: dict[str, Any] = {
        "storage.data_dir": ":memory:",
        "server.ae_title": "HERE",
        "jobs.first_retry": 0.05,
        "jobs.longest_retry": 0.05,
        "jobs.give_up_after": 600.0,
        "jobs.verify_nodes_every": 0,
    }
    settings = load_settings(
        environ={},
        overrides=overrides | {k.replace("__", "."): v for k, v in options.items()},
    )
    heard: list[Notice] = []
    notices = Notices(heard.append)
    async with (
        composition.open_archive_parts(settings) as parts,
        trio.open_nursery() as nursery,
    ):
        registry, workflow = composition.build_services_and_workflow(
            settings, parts.archive, parts.stores, None, notices
        )
        assert workflow.jobs is not None
        assert workflow.destinations is not None
        for work in registry.background_tasks:
            nursery.start_soon(work)
        yield World(parts, workflow.jobs, heard, registry, workflow.destinations)
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def other_archive(*peers: str, without: str = "") -> AsyncIterator[tuple[ArchiveParts, int]]:
    """Another archive of ours that serves, and its port.

    Args:
        without: the service that it does not have.
    """
    overrides = {"storage.data_dir": ":memory:", "peers": list(peers), "jobs.enabled": False}
    settings = load_settings(environ={}, overrides=overrides)
    async with (
        composition.open_archive_parts(settings) as parts,
        trio.open_nursery() as nursery,
    ):
        registry = composition.build_services(settings, parts.archive, parts.stores, None)
        services = [each for each in registry.services if each.name != without]
        registry = ServiceRegistry(services)
        binds = [ListenAddress(host="127.0.0.1", port=0)]
        server = await nursery.start(partial(serve, registry, binds))
        yield parts, port_of(server)
        nursery.cancel_scope.cancel()


async def test_a_fault_of_ours_in_the_queue_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    class Once:
        def __init__(self, method: Callable[..., Awaitable[Any]]) -> None:
            self.method = method
            self.has_failed = False

        def __get__(self, queue: object, _: object = None) -> Callable[..., Awaitable[Any]]:
            async def call(*args: Any, **kwargs: Any) -> Any:
                if not self.has_failed:
                    self.has_failed = True
                    raise RuntimeError("a fault of ours")
                return await self.method(queue, *args, **kwargs)

            return call

    monkeypatch.setattr(runner, "_RENEW_SECONDS", 0.2)
    monkeypatch.setattr(runner, "LOOK_SECONDS", 0.2)
    for name in ("claim", "end", "release"):
        monkeypatch.setattr(DatabaseJobs, name, Once(getattr(DatabaseJobs, name)))
    async with world() as here, other_archive() as (there, port):
        await store(there.archive, 1)
        await here.add_node(f"ISOCENTER@127.0.0.1:{port}")
        job = await here.done(ALL)
        assert (job.state, job.progress.done, job.attempts) == (JobState.COMPLETED, 1, 2)


async def test_the_next_job_of_a_node_goes_over_the_association_of_the_last() -> None:
    async with world() as here, other_archive() as (there, port):
        for number in (1, 2, 3):
            study = f"1.2.{number}"
            data = data_set(number, study=study, series=f"{study}.1")
            await store(there.archive, number, data)
        await here.add_node(f"ISOCENTER@127.0.0.1:{port}")
        for number in (1, 2, 3):
            keys = (("StudyInstanceUID", f"1.2.{number}"),)
            job = await here.done(replace(ALL, keys=keys))
            assert (job.state, job.progress.done) == (JobState.COMPLETED, 1)
        taken = [one.is_reused for one in here.heard if isinstance(one, AssociationTaken)]
    # The first asks, then it gets; what gets can ask as well.
    assert taken == [False, False, True, True, True, True]


async def test_all_of_a_node_comes_and_what_is_here_does_not_come_again() -> None:
    async with world() as here, other_archive() as (there, port):
        for number in range(1, 41):
            data = data_set(number, study=f"1.2.{number % 3}", series=f"1.2.{number % 3}.1")
            await store(there.archive, number, data)
        await store(here.parts.archive, 7, data_set(7, study="1.2.1", series="1.2.1.1"))
        await here.add_node(f"ISOCENTER@127.0.0.1:{port}")
        job = await here.done(ALL)
        assert (job.state, job.last_fault) == (JobState.COMPLETED, "")
        assert (job.progress.total, job.progress.done, job.progress.skipped) == (40, 39, 1)
        assert await here.instances() == set(map(uid, range(1, 41)))
        again = await here.done(ALL)
        assert (again.progress.done, again.progress.skipped) == (0, 40)
        stored = [notice for notice in here.heard if isinstance(notice, InstanceStored)]
        assert len(stored) == 39, "the audit trail hears of each"
        assert {notice.caller.calling_ae_title for notice in stored} == {"ISOCENTER"}


async def test_studies_are_chosen_by_what_they_have() -> None:
    async with world(jobs__give_up_after=0.2) as here, other_archive() as (there, port):
        await store(there.archive, 1, data_set(1, study="1.2.1", patient_id="A"))
        await store(there.archive, 2, data_set(2, study="1.2.2", series="1.9", patient_id="B"))
        await here.add_node(f"ISOCENTER@127.0.0.1:{port}")
        keys = (("PatientID", "B"), ("StudyDate", "20240101-"))
        job = await here.done(JobRequest(kind=JobKind.RETRIEVE, node="OTHER", keys=keys))
        assert job.state is JobState.COMPLETED
        assert await here.instances() == {uid(2)}
        none = await here.done(
            JobRequest(kind=JobKind.RETRIEVE, node="OTHER", keys=(("PatientID", "C"),))
        )
        assert (none.state, none.last_fault) == (JobState.FAILED, "the node has no such study")


async def test_studies_are_sent() -> None:
    async with world(jobs__give_up_after=0.2) as here, other_archive() as (there, port):
        for number in range(1, 31):
            await store(here.parts.archive, number)
        await store(here.parts.archive, 31, data_set(31, study="1.2.9", series="1.2.9.1"))
        await here.add_node(f"ISOCENTER@127.0.0.1:{port}")
        keys = (("StudyInstanceUID", STUDY),)
        job = await here.done(JobRequest(kind=JobKind.SEND, node="OTHER", keys=keys))
        assert (job.state, job.progress.done) == (JobState.COMPLETED, 30)
        found = await there.stores.index.get([uid(number) for number in range(1, 32)])
        assert set(found) == set(map(uid, range(1, 31)))
        (sent,) = [notice for notice in here.heard if isinstance(notice, InstancesSent)]
        assert (sent.completed, sent.sent) == (30, {STUDY: 30})
        gone = await here.done(
            JobRequest(kind=JobKind.SEND, node="OTHER", keys=(("StudyInstanceUID", "1.8"),))
        )
        assert gone.last_fault == "the archive has no such study"


async def test_where_a_node_is_not_there_the_job_is_tried_again_until_it_is_given_up(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "isocenter.jobs")
    async with world(jobs__give_up_after=4) as here:
        await here.add_node(f"OTHER@127.0.0.1:{free_port()}")
        job = await here.done(ALL)
        assert job.state is JobState.FAILED
        assert job.attempts > 1
        assert "refused" in job.last_fault.lower()
        nobody = await here.done(JobRequest(kind=JobKind.RETRIEVE, node="NOBODY"))
        assert "there is no node 'NOBODY'" in nobody.last_fault
        assert "given up" in caplog.text


class Liar:
    """A node whose list has more than it sends, and that sends what nobody asked for.

    Attributes:
        listed, sends: numbers of instances.
        statuses: what its C-STOREs were answered.
        sends_by_name: also what is asked for by name.
    """

    def __init__(self, listed: Sequence[int], sends: Sequence[int]) -> None:
        self.listed = listed
        self.sends = sends
        self.asked: Counter[str] = Counter()
        self.sends_by_name = False
        self.statuses: list[int] = []
        self.before_sending: Callable[[Operation], Awaitable[None]] | None = None

    async def perform(self, operation: Operation) -> None:
        request = operation.request
        if isinstance(request, CFindRequest):
            await self._find(operation, request)
            return
        assert isinstance(request, CGetRequest)
        identifier = await operation.data_set()
        level = "STUDY" if b"STUDY" in identifier else "IMAGE"
        self.asked[level] += 1
        if self.before_sending is not None:
            await self.before_sending(operation)
        for number in self.sends if level == "STUDY" or self.sends_by_name else ():
            await self._store(operation, number)
        await operation.respond(
            CGetResponse(
                message_id_being_responded_to=request.message_id,
                affected_sop_class_uid=request.affected_sop_class_uid,
                status=0x0000,
                number_of_completed_suboperations=len(self.listed),
                number_of_failed_suboperations=0,
                number_of_warning_suboperations=0,
            )
        )

    async def _find(self, operation: Operation, request: CFindRequest) -> None:
        identifier = await operation.data_set()
        matches: list[list[tuple[str, str]]]
        if b"IMAGE" in identifier:
            matches = [
                [("SOPInstanceUID", uid(number)), ("SOPClassUID", CT)] for number in self.listed
            ]
        elif b"SERIES" in identifier:
            matches = [[("SeriesInstanceUID", SERIES)]]
        else:
            matches = [[("StudyInstanceUID", STUDY)]]
        for match in matches:
            data = build_identifier(match, None, operation.context.transfer_syntax)
            await operation.respond(self._found(request, 0xFF00), data)
        await operation.respond(self._found(request, 0x0000))

    def _found(self, request: CFindRequest, status: int) -> CFindResponse:
        return CFindResponse(
            message_id_being_responded_to=request.message_id,
            affected_sop_class_uid=request.affected_sop_class_uid,
            status=status,
        )

    async def _store(self, operation: Operation, number: int) -> None:
        association = operation.association
        (context, *_) = [
            each
            for each in association.negotiated.contexts.values()
            if each.abstract_syntax == CT and each.transfer_syntax == EXPLICIT_VR_LITTLE_ENDIAN
        ]
        request = CStoreRequest(
            message_id=association.next_message_id(),
            affected_sop_class_uid=CT,
            affected_sop_instance_uid=uid(number),
        )
        response = await association.invoke(context.context_id, request, data_set(number))
        self.statuses.append(response.message.status)


@asynccontextmanager
async def lying(here: World, listed: Sequence[int], sends: Sequence[int]) -> AsyncIterator[Liar]:
    liar = Liar(listed, sends)
    classes = [STUDY_ROOT_FIND, STUDY_ROOT_GET, CT]
    async with serving(Scripted(classes, liar.perform)) as server:
        await here.add_node(f"LIAR@127.0.0.1:{port_of(server)}")
        yield liar


async def test_what_a_node_says_it_sent_counts_only_when_it_is_here() -> None:
    async with world(jobs__give_up_after=0.2) as here, lying(here, [1, 2, 3], [1, 2, 9]) as liar:
        job = await here.done(ALL)
        assert job.state is JobState.FAILED
        assert job.last_fault == "1 of 3 objects failed: the node did not send it"
        assert (job.progress.done, job.progress.failed) == (2, 1)
        (missing,) = await here.parts.stores.jobs.items(job.job_id, (ItemState.FAILED,), 9)
        assert missing.sop_instance_uid == uid(3)
        assert await here.instances() == {uid(1), uid(2)}
        assert 0xC000 in liar.statuses, "what was not asked for is refused"
        assert liar.asked["STUDY"] == 1
        assert liar.asked["IMAGE"] >= 1, "what is missing is asked for by name"


async def test_a_node_with_neither_get_nor_move_is_told_so() -> None:
    finder = Scripted([STUDY_ROOT_FIND], Liar([1], [1]).perform)
    async with world(jobs__give_up_after=0.2) as here, serving(finder) as server:
        await here.add_node(f"FINDER@127.0.0.1:{port_of(server)}")
        job = await here.done(ALL)
        assert job.last_fault == "the node offers neither C-GET nor C-MOVE"


async def test_where_there_is_no_get_the_node_moves_to_us() -> None:
    binds = [ListenAddress(host="127.0.0.1", port=0)]
    async with world() as here, trio.open_nursery() as nursery:
        server = await nursery.start(partial(serve, ServiceRegistry([here.storage]), binds))
        peer = f"HERE@127.0.0.1:{port_of(server)}"
        async with other_archive(peer, without="get") as (there, port):
            for number in (1, 2, 3):
                await store(there.archive, number)
            await here.add_node(f"ISOCENTER@127.0.0.1:{port}")
            job = await here.done(ALL)
        assert (job.last_fault, job.state, job.progress.done) == ("", JobState.COMPLETED, 3)
        assert await here.instances() == {uid(1), uid(2), uid(3)}
        nursery.cancel_scope.cancel()


async def test_a_running_job_is_paused_goes_on_and_is_cancelled() -> None:
    async with world() as here, lying(here, [1, 2], [1, 2]) as liar:
        begun, go_on = trio.Event(), trio.Event()

        async def wait(_: Operation) -> None:
            begun.set()
            await go_on.wait()

        liar.before_sending = wait
        job_id = await here.submit(ALL)
        with trio.fail_after(PATIENCE):
            await begun.wait()
        assert await here.steer(job_id, Wish.PAUSE)
        paused = await here.until(job_id, lambda job: job.state is JobState.PAUSED)
        assert (paused.progress.total, paused.progress.ended) == (2, 0)
        go_on.set()
        liar.sends_by_name = True
        assert await here.steer(job_id, Wish.RESUME)
        job = await here.until(job_id, lambda job: job.state.is_final)
        assert (job.state, job.progress.done) == (JobState.COMPLETED, 2)
        begun, go_on = trio.Event(), trio.Event()
        again = await here.submit(JobRequest(kind=JobKind.RETRIEVE, node="OTHER", again=True))
        with trio.fail_after(PATIENCE):
            await begun.wait()
        assert await here.steer(again, Wish.CANCEL)
        await here.until(again, lambda job: job.state is JobState.CANCELLED)


async def test_two_jobs_of_a_node_run_one_after_the_other() -> None:
    async with world() as here, lying(here, [1], [1]) as liar:
        running = most = 0
        first, go_on = trio.Event(), trio.Event()

        async def watch(_: Operation) -> None:
            nonlocal running, most
            running += 1
            most = max(most, running)
            first.set()
            await go_on.wait()
            running -= 1

        liar.before_sending = watch
        one = await here.submit(ALL)
        two = await here.submit(JobRequest(kind=JobKind.RETRIEVE, node="OTHER", again=True))
        with trio.fail_after(PATIENCE):
            await first.wait()
        states = [(await here.parts.stores.jobs.get(job)).state for job in (one, two)]  # type: ignore[union-attr]
        assert sorted(state.value for state in states) == ["running", "waiting"]
        go_on.set()
        for job in (one, two):
            await here.until(job, lambda job: job.state.is_final)
        assert most == 1


async def test_nodes_are_destinations_of_c_move() -> None:
    """Of an archive that serves: the settings name no peer."""
    async with world() as here, other_archive() as (there, port):
        binds = [ListenAddress(host="127.0.0.1", port=0)]
        await store(here.parts.archive)
        await here.add_node(f"THERE@127.0.0.1:{port}")
        await here.add_node("http://127.0.0.1:1/dicom-web", "web")
        async with trio.open_nursery() as nursery:
            server = await nursery.start(partial(serve, here.registry, binds))
            peer = Peer("HERE", "127.0.0.1", port_of(server))
            contexts = [(STUDY_ROOT_MOVE, BASIC_SYNTAXES)]
            async with open_association(peer, contexts) as association:
                identifier = partial(build_identifier, [("StudyInstanceUID", STUDY)], "STUDY")
                with trio.fail_after(PATIENCE):
                    while True:
                        try:
                            result = await association.move(identifier, "THERE")
                            break
                        except RetrieveError as error:
                            if error.status != Status.MOVE_DESTINATION_UNKNOWN:
                                raise
                            await trio.testing.wait_all_tasks_blocked(0.01)
            assert (result.completed, result.failed) == (1, 0)
            nursery.cancel_scope.cancel()
        assert await there.stores.index.get([uid(1)])


async def test_jobs_of_a_held_node_wait_and_it_is_no_destination_meanwhile() -> None:
    async with world() as here, other_archive() as (there, port):
        await store(there.archive, 1)
        await here.add_node(f"OTHER@127.0.0.1:{port}")
        limits = here.parts.stores.limits
        assert await limits.hold("OTHER", is_held=True)
        await here.destinations.look()
        job_id = await here.submit(ALL)
        async with serving(here.registry) as server:
            asked = Peer("HERE", "127.0.0.1", port_of(server))
            contexts = [(STUDY_ROOT_MOVE, BASIC_SYNTAXES)]
            async with open_association(asked, contexts) as association:
                keys = [("StudyInstanceUID", STUDY)]
                encode = partial(build_identifier, keys, "STUDY")
                with pytest.raises(RetrieveError, match="A702H"):
                    await association.move(encode, "OTHER")
        waiting = await here.desk.get(job_id)
        assert waiting is not None
        assert (waiting.state, waiting.attempts) == (JobState.WAITING, 0)
        await limits.hold("OTHER", is_held=False)
        await here.destinations.look()
        job = await here.until(job_id, lambda job: job.state.is_final)
        assert job.state is JobState.COMPLETED


async def test_a_node_that_jobs_could_not_reach_is_left_alone_by_rules_too() -> None:
    options = {"jobs__first_retry": 60.0, "jobs__longest_retry": 60.0, "jobs__give_up_after": 90.0}
    async with world(**options) as here:
        await here.add_node(f"AWAY@127.0.0.1:{free_port()}")
        job_id = await here.submit(ALL)
        await here.until(job_id, lambda job: bool(job.last_fault))
        forwards = here.parts.stores.forwards
        assert list(await forwards.left_alone()) == ["OTHER"]
        assert not await forwards.take("OTHER", 9)


async def test_a_job_that_takes_long_gives_way_to_a_short_one_of_its_node(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(turns, "SLICE_SECONDS", 0.0)
    async with world() as here, other_archive() as (there, port):
        for number in range(1, 5):
            data = data_set(number, study=f"1.2.{number}", series=f"1.2.{number}.1")
            await store(there.archive, number, data)
        await here.add_node(f"ISOCENTER@127.0.0.1:{port}")
        long = await here.submit(ALL)
        short = await here.submit(replace(ALL, keys=(("StudyInstanceUID", "1.2.4"),)))
        jobs = [await here.until(one, lambda job: job.state.is_final) for one in (long, short)]
        assert [job.state for job in jobs] == [JobState.COMPLETED] * 2
        assert await here.instances() == set(map(uid, range(1, 5)))
        first, second = (job.ended_at for job in jobs)
        assert first is not None
        assert second is not None
        assert second < first, "the short one did not wait for the end of the long one"
