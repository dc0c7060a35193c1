"""Storage commitment as one or more processes of a server, and a modality that listens."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import trio

from isocenter.engine.uid import EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN
from isocenter.services.archive.archive import Archive
from isocenter.services.association.peer import Peer
from isocenter.services.association.server import ListenAddress, Server
from isocenter.services.concurrency import Backoff
from isocenter.services.notices import Notices
from isocenter.services.service_classes.client import open_association
from isocenter.services.service_classes.commitment.instance_check import InstanceChecker
from isocenter.services.service_classes.commitment.scp import StorageCommitmentScp
from isocenter.services.service_classes.commitment.scu import CONTEXTS, CommitmentResults
from isocenter.services.service_classes.commitment.transaction import Reference
from isocenter.services.service_classes.normalized.report_delivery import (
    DEFAULT_BACKOFF,
    EventReportSender,
)
from isocenter.storage.database.commitments import DatabaseCommitments
from isocenter.storage.database.event_reports import DatabaseReports
from isocenter.storage.database.sqlite.database import SqliteDatabase
from services.archive_support import CT, uid
from support.serving import port_of, serving

MODALITY = "CT1"


class Clock:
    """Seconds since 1970, as a test moves them."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Process:
    """One worker process of a server."""

    server: Server
    reporter: EventReportSender
    service: StorageCommitmentScp
    peers: dict[str, Peer]

    @property
    def peer(self) -> Peer:
        return Peer("ISOCENTER", "127.0.0.1", port_of(self.server))


def references(*numbers: int, sop_class: str = CT) -> list[Reference]:
    return [Reference(sop_class, uid(number)) for number in numbers]


@asynccontextmanager
async def process(
    archive: Archive,
    database: SqliteDatabase,
    *,
    clock: Callable[[], float],
    backoff: Backoff = DEFAULT_BACKOFF,
    same_association: bool = True,
    runs: bool = True,
    commitments: Any = None,
    notices: Notices | None = None,
    is_supported: Callable[[str], bool] = CT.__eq__,
) -> AsyncIterator[Process]:
    """A server with storage commitment; *runs*: whether it does what follows the request."""
    peers: dict[str, Peer] = {}
    reporter = EventReportSender(
        DatabaseReports(database, now=clock),
        peer_of=peers.get,
        connect=lambda peer, contexts, calling: open_association(
            peer,
            contexts,
            calling_ae_title=calling,
            scp_roles=[abstract_syntax for abstract_syntax, _ in contexts],
        ),
        backoff=backoff,
        now=clock,
    )
    service = StorageCommitmentScp(
        commitments or DatabaseCommitments(database, now=clock),
        InstanceChecker(archive, is_supported=is_supported),
        reporter,
        retrieve_ae_title="ISOCENTER",
        same_association=same_association,
        notices=notices,
    )
    async with serving(service) as server, trio.open_nursery() as nursery:
        if runs:
            nursery.start_soon(reporter.run)
            nursery.start_soon(service.run)
        yield Process(server, reporter, service, peers)
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def modality(*processes: Process) -> AsyncIterator[CommitmentResults]:
    """A modality that listens, and that all *processes* know."""
    results = CommitmentResults()
    async with results.listening(ListenAddress(host="127.0.0.1", port=0)) as server:
        for each in processes:
            each.peers[MODALITY] = Peer(MODALITY, "127.0.0.1", port_of(server))
        yield results


def opener(peer: Peer, *, calling: str = MODALITY, syntaxes: Sequence[str] = ()) -> Any:
    """What `request_commitment` opens its association with."""
    syntaxes = syntaxes or (EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN)
    contexts = [(abstract_syntax, syntaxes) for abstract_syntax, _ in CONTEXTS]
    return lambda provider: open_association(
        peer, contexts, calling_ae_title=calling, provider=provider
    )
