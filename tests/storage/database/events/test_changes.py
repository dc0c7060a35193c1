"""Events of workitems, jobs and nodes, in the transactions that change them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import orjson
import pytest

from isocenter.services.service_classes.ups.rules import workitem_after_action, workitem_of_create
from isocenter.services.service_classes.ups.workitem import Workitem
from isocenter.services.workflow.events.ports import EventSelection
from isocenter.services.workflow.events.study_completion import CompletionRules
from isocenter.services.workflow.jobs.job import JobKind, JobRequest, JobState
from isocenter.services.workflow.jobs.ports import Wish
from isocenter.services.workflow.nodes.node import Node, NodeState
from isocenter.services.workflow.nodes.ports import NodeCheck
from isocenter.storage.stores import Stores, StoresOptions, join_stores
from services.service_classes.ups.samples import LOCK, UID, attributes, scheduled
from storage.databases import open_database

pytestmark = pytest.mark.usefixtures("each_database")
RULES = CompletionRules(quiet_seconds=60, settle_seconds=5, longest_wait_seconds=1_000)
STUDY = f"{UID}.7"


@pytest.fixture
async def stores(each_database: str) -> AsyncIterator[Stores]:
    async with open_database() as database:
        yield join_stores(database, StoresOptions(completion=RULES))


async def told(stores: Stores, *names: str) -> list[tuple[Any, ...]]:
    """Kind and some members of all events so far."""
    events = await stores.event_log.events(EventSelection(limit=100))
    bodies = [{"kind": each.kind} | orjson.loads(each.body) for each in events]
    return [tuple(body[name] for name in ("kind", *names)) for body in bodies]


async def test_workitems_are_told_of_when_they_come_and_have_another_state(stores: Stores) -> None:
    new = scheduled(StudyInstanceUID=STUDY, PatientName="SEED^ONE")
    workitem, _ = workitem_of_create(UID, attributes(new), now=1.0)
    await stores.workitems.create(workitem)

    def nothing(before: Workitem) -> Sequence[Workitem]:
        return [before]

    def begin(before: Workitem) -> Sequence[Workitem]:
        return [workitem_after_action(before, "IN PROGRESS", LOCK, now=2.0)[0]]

    await stores.workitems.change(UID, nothing)
    await stores.workitems.change(UID, begin)
    assert await told(stores, "sop_instance_uid", "study_instance_uid", "state") == [
        ("workitem.changed", UID, STUDY, "SCHEDULED"),
        ("workitem.changed", UID, STUDY, "IN PROGRESS"),
    ]
    assert "SEED" not in str(await stores.event_log.events(EventSelection(limit=100)))


async def test_jobs_are_told_of_but_for_those_of_rules(stores: Stores) -> None:
    request = JobRequest(
        kind=JobKind.RETRIEVE, node="PACS", keys=(("PatientID", "P1"),), requested_by="somebody"
    )
    job_id, _ = await stores.jobs.submit(request)
    await stores.jobs.submit(request)  # it is asked for already
    for wish in (Wish.PAUSE, Wish.RESUME):
        assert await stores.jobs.wish(job_id, wish)
    claimed = await stores.jobs.claim("w", 60, not_for=())
    assert claimed is not None
    await stores.jobs.again(claimed, "it does not answer", 0)
    claimed = await stores.jobs.claim("w", 60, not_for=())
    assert claimed is not None
    await stores.jobs.end(claimed, JobState.FAILED, "no")
    assert await stores.jobs.wish(job_id, Wish.RETRY)
    # Cancelled while it runs: whoever had it did not hear of it any more.
    claimed = await stores.jobs.claim("w", 60, not_for=())
    assert claimed is not None
    assert await stores.jobs.wish(job_id, Wish.CANCEL)
    await stores.jobs.release(claimed)
    standing = await stores.jobs.take(JobKind.FORWARD, "PACS", "w", 60)
    assert standing is not None
    await stores.jobs.end(standing, JobState.COMPLETED)
    states = ("waiting", "paused", "waiting", "failed", "waiting", "cancelled")
    assert await told(stores, "job", "what", "node", "state") == [
        ("job.changed", job_id, "retrieve", "PACS", state) for state in states
    ]
    assert "P1" not in str(await stores.event_log.events(EventSelection(limit=100)))


async def test_nodes_are_told_of_when_they_answer_no_more(stores: Stores) -> None:
    await stores.nodes.add(Node(name="PACS", address="PACS@127.0.0.1:104"))
    node = await stores.nodes.get("PACS")
    assert node is not None
    for at, (state, fault) in enumerate(
        [
            (NodeState.ONLINE, ""),
            (NodeState.ONLINE, ""),
            (NodeState.OFFLINE, "connection refused"),
            (NodeState.OFFLINE, "connection refused"),
        ]
    ):
        await stores.nodes.note_check(
            node, NodeCheck(state=state, at=float(at), fault=fault, response_seconds=None)
        )
    assert await told(stores, "node", "state", "why") == [
        ("node.changed", "PACS", "online", ""),
        ("node.changed", "PACS", "offline", "connection refused"),
    ]


async def test_without_events_nothing_is_written(each_database: str) -> None:
    async with open_database() as database:
        stores = join_stores(database, StoresOptions())
        workitem, _ = workitem_of_create(UID, attributes(scheduled()), now=1.0)
        await stores.workitems.create(workitem)
        await stores.jobs.submit(JobRequest(kind=JobKind.RETRIEVE, node="PACS"))
        assert await stores.event_log.events(EventSelection(limit=100)) == []
