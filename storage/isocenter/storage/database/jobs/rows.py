"""Rows of jobs, as values."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import Any, Final

import orjson

from isocenter.services.cluster.member import ALIVE_SECONDS
from isocenter.services.workflow.jobs.asker import asker_of_text
from isocenter.services.workflow.jobs.job import (
    Job,
    JobKind,
    JobPriority,
    JobProgress,
    JobRequest,
    JobState,
)
from isocenter.storage.database.database import Connection
from isocenter.storage.database.dialect import CLOCK
from isocenter.storage.database.text import replace_surrogates

FAULT_LENGTH: Final = 500
#: Bytes of a text that PostgreSQL keeps in an index, with room to spare (its limit is 2,704).
_MOST_KEY: Final = 2_000
DUE: Final = "due"
SHOWN: Final = """
    job_pk, job_id, kind, node, parameters, priority, requested_by, state, wish, is_planned, total,
    done, skipped, failed, size, attempts, claims, created_at, since, due_at, started_at, ended_at,
    claimed_until, last_fault, asker, host
"""
#: For people: also whether the node of the archive that alone can do it is gone.
LISTED: Final = f"""
    {SHOWN}, CASE WHEN host = '' OR EXISTS (
        SELECT 1 FROM cluster_node c WHERE c.name = job.host AND c.state IN ('up', 'draining')
          AND c.seen_at > {CLOCK} - {ALIVE_SECONDS}) THEN 0 ELSE 1 END AS is_host_gone
"""  # noqa: S608
#: Somebody has asked for it; what stands for work that is queued elsewhere is taken by its node.
NOT_STANDING: Final = "kind NOT IN ({})".format(
    ", ".join(f"'{kind.value}'" for kind in JobKind if kind.is_standing)
)
_KINDS: Final = {kind.value: kind for kind in JobKind if kind is not JobKind.UNKNOWN}
#: Somebody has asked for it, and it is something that this version can do.
CAN_BE_CLAIMED: Final = "kind IN ({})".format(
    ", ".join(f"'{name}'" for name, kind in _KINDS.items() if not kind.is_standing)
)
#: What a newer version has asked for.
IS_UNKNOWN: Final = "kind NOT IN ({})".format(", ".join(f"'{name}'" for name in _KINDS))
#: Somebody works on it: he is to be told.
IS_RUNNING: Final = "state = 'due' AND claimed_until > :now"
#: Nobody does.
IS_WAITING: Final = "state = 'due' AND claimed_until <= :now"


def parameters_of(request: JobRequest) -> str:
    """What of the node, or of the archive, as JSON."""
    said: dict[str, object] = {"keys": request.keys, "again": request.again}
    if request.detail:
        said["detail"] = replace_surrogates(request.detail)
    return orjson.dumps(said).decode()


def place_of(node: str, host: str) -> str:
    """Where a job is done: the same folder of another node of the archive is another one."""
    return f"{node}@{host}" if host else node


def open_key(kind: str, node: str, parameters: str) -> str:
    """What no second job may want while this one is not over; short enough for an index."""
    key = f"{kind} {node} {parameters}"
    data = key.encode()
    return key if len(data) <= _MOST_KEY else f"{kind} {sha256(data).hexdigest()}"


def job_of(row: Mapping[str, Any], *, now: float) -> Job:
    """A row of `SHOWN`."""
    said = orjson.loads(row["parameters"])
    state = row["state"]
    if state == DUE:
        found = JobState.RUNNING if row["claimed_until"] > now else JobState.WAITING
    else:
        found = JobState(state)
    fault = row["last_fault"]
    if found is JobState.WAITING and row.get("is_host_gone"):
        fault = (
            f"it waits for the node {row['host']} of this archive, which says nothing: start it, "
            "or cancel the job and ask for it at a node that has the folder"
        )
    return Job(
        number=row["job_pk"],
        job_id=row["job_id"],
        request=JobRequest(
            kind=_KINDS.get(row["kind"], JobKind.UNKNOWN),
            node=row["node"],
            keys=tuple((name, value) for name, value in said["keys"]),
            priority=JobPriority(row["priority"]),
            again=said["again"],
            detail=said.get("detail", ""),
            requested_by=row["requested_by"],
            asker=asker_of_text(row["asker"]),
            host=row["host"],
        ),
        state=found,
        progress=JobProgress(
            total=row["total"] if row["is_planned"] else None,
            done=row["done"],
            skipped=row["skipped"],
            failed=row["failed"],
            size=row["size"],
        ),
        attempts=row["attempts"],
        claim=row["claims"],
        created_at=row["created_at"],
        since=row["since"],
        due_at=row["due_at"],
        started_at=row["started_at"],
        ended_at=row["ended_at"],
        last_fault=fault,
        wish=row["wish"],
    )


def short_fault(fault: str) -> str:
    """A fault as it is kept: peers' words are in it."""
    return replace_surrogates(fault)[:FAULT_LENGTH]


def change(connection: Connection, statement: str, values: Mapping[str, Any]) -> bool:
    """One statement; whether it changed something."""
    return bool(connection.execute(statement, values).rowcount)
