"""Remote nodes and jobs of a server, or of a command without one."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import date
from pathlib import Path

import trio

from isocenter.engine.fast_init import dataclass
from isocenter.services.archive.archive import Archive
from isocenter.services.archive.ports import Index
from isocenter.services.association.peer import Peer
from isocenter.services.composition.archive import open_archive_parts
from isocenter.services.composition.outgoing_associations import OutgoingAssociations
from isocenter.services.composition.tls_contexts import TlsContexts, files_of_private_ca
from isocenter.services.concurrency import Backoff
from isocenter.services.dicom.pixels.transcoder import Transcoder
from isocenter.services.errors import text_of
from isocenter.services.net.http.client import HttpDeadlines
from isocenter.services.net.tls.contexts import TlsFiles, client_context
from isocenter.services.notices import Notices
from isocenter.services.security.certificates.issued import CA_FOLDER
from isocenter.services.settings.settings import Settings
from isocenter.services.system.exclusive_task import run_exclusively
from isocenter.services.system.pid_file import pid_of_server
from isocenter.services.workflow.jobs.desk import JobDesk
from isocenter.services.workflow.jobs.ports import JobQueue
from isocenter.services.workflow.jobs.runner import JobOptions, JobRunner
from isocenter.services.workflow.nodes.dimse_node import DimseNode
from isocenter.services.workflow.nodes.node import Node
from isocenter.services.workflow.nodes.ports import NodeBook, NodeError, OpenNode, RemoteArchive
from isocenter.services.workflow.nodes.verification import verify_nodes_always
from isocenter.services.workflow.prefetch.prefetcher import Prefetcher, PrefetchOptions
from isocenter.services.workflow.prefetch.priors import PriorRules
from isocenter.storage.stores import Stores


def node_finder(
    book: NodeBook, peers: Mapping[str, Peer]
) -> Callable[[str], Awaitable[Node | None]]:
    """Finds a node by its name: in the database, else among the peers of the settings."""

    async def find(name: str) -> Node | None:
        found = await book.get(name)
        peer = peers.get(name)
        if found is None and peer is not None:
            return node_of_peer(peer)
        return found

    return find


def node_of_peer(peer: Peer) -> Node:
    """A peer of the settings, as a node."""
    return Node(name=peer.ae_title, address=str(peer), tls=peer.tls, verify_host=peer.verify_host)


def node_opener(
    settings: Settings,
    connections: OutgoingAssociations,
    archive: Archive,
    notices: Notices,
    *,
    transcoder: Transcoder | None = None,
    is_serving: bool,
) -> OpenNode:
    """Speaks to nodes.

    Args:
        is_serving: nodes may send to us (C-MOVE).
    """

    @asynccontextmanager
    async def open_node(node: Node) -> AsyncIterator[RemoteArchive]:
        if node.is_web:
            # What needs the extra `web` is imported by those who use it.
            from isocenter.services.web.client.client import DicomWebClient
            from isocenter.services.web.remote_node import WebNode

            tls = None
            if node.address.startswith("https:"):
                ca = Path(node.ca_file) if node.ca_file else None
                tls = client_context(TlsFiles(ca=ca), check_hostname=node.verify_host)
            async with DicomWebClient(
                node.address,
                tls=tls,
                token=_token_of(node),
                deadlines=HttpDeadlines(connect=settings.deadlines.connect),
            ) as client:
                yield WebNode(client, archive, notices)
            return
        yield DimseNode(
            node.peer,
            connections.for_nodes,
            archive,
            notices,
            move_destination=settings.server.ae_title if is_serving else "",
            transcoder=transcoder,
        )

    return open_node


def _token_of(node: Node) -> str:
    if not node.token_file:
        return ""
    try:
        return Path(node.token_file).read_text(encoding="ascii").strip()
    except (OSError, UnicodeError) as error:
        fault = f"the token of node {node.name!r} cannot be read: {text_of(error)}"
        raise NodeError(fault) from error


async def verify_nodes(settings: Settings, book: NodeBook, open_node: OpenNode) -> None:
    """Verify all nodes again and again; one process of a server does it for all."""

    async def work() -> None:
        await verify_nodes_always(
            book, open_node, float(settings.jobs.verify_nodes_every), time.time
        )

    await run_in_one_process(settings, "nodes.lock", work)


async def run_in_one_process(
    settings: Settings, lock: str, work: Callable[[], Awaitable[None]]
) -> None:
    """*work*, in one process of a server at a time."""
    if settings.storage.is_in_memory:
        await work()
    else:
        await run_exclusively(Path(settings.storage.data_dir) / lock, work)


def prefetcher_of(
    settings: Settings,
    index: Index,
    stores: Stores,
    jobs: JobDesk,
    find: Callable[[str], Awaitable[Node | None]],
    open_node: OpenNode,
) -> Prefetcher:
    """Prefetches, as the settings say."""
    prefetch = settings.prefetch
    options = PrefetchOptions(
        nodes=prefetch.nodes,
        rules=PriorRules(
            look_back=prefetch.look_back_days,
            most=prefetch.most_studies,
            same_modality_only=prefetch.same_modality_only,
        ),
        days_ahead=prefetch.days_ahead,
        interval=prefetch.every,
        pause=prefetch.pause,
    )
    return Prefetcher(
        stores.worklist,
        index,
        jobs,
        find,
        open_node,
        options,
        today=date.today,
    )


def job_runner(
    settings: Settings,
    queue: JobQueue,
    archive: Archive,
    find: Callable[[str], Awaitable[Node | None]],
    open_node: OpenNode,
) -> JobRunner:
    """Works jobs off, as the settings say."""
    jobs = settings.jobs
    return JobRunner(
        queue,
        archive,
        find,
        open_node,
        JobOptions(
            at_once=jobs.at_once,
            at_once_per_node=jobs.at_once_per_node,
            backoff=Backoff(
                first_seconds=jobs.first_retry,
                longest_seconds=jobs.longest_retry,
                give_up_after_seconds=jobs.give_up_after,
            ),
            keep_seconds=jobs.keep_days * 86_400.0,
        ),
        now=time.time,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientSide:
    """What a command needs that speaks to nodes.

    Attributes:
        find: a node by its name.
        runner: works jobs off, where no server does; None: a server has the archive.
    """

    stores: Stores
    find: Callable[[str], Awaitable[Node | None]]
    open_node: OpenNode
    runner: JobRunner | None


@asynccontextmanager
async def client_side(settings: Settings, *, runs_jobs: bool = False) -> AsyncIterator[ClientSide]:
    """The archive, and nodes to speak to, for a command; a server may be at work on it.

    Args:
        runs_jobs: work jobs off if no server does.

    Raises:
        StorageError: the data directory cannot be used.
        CertificateError, TlsFileError: what TLS needs cannot be read.
    """
    folder = Path(settings.storage.data_dir)
    is_ours = runs_jobs and pid_of_server(folder) is None
    tls = await trio.to_thread.run_sync(_tls_of, settings)
    peers = {peer.ae_title: peer for peer in settings.peers}
    async with open_archive_parts(settings, lock=is_ours, recover=is_ours) as parts:
        find = node_finder(parts.stores.nodes, peers)
        open_node = node_opener(
            settings,
            OutgoingAssociations(settings, tls),
            parts.archive,
            Notices(),
            is_serving=False,
        )
        runner = None
        if is_ours:
            runner = job_runner(settings, parts.stores.jobs, parts.archive, find, open_node)
        yield ClientSide(stores=parts.stores, find=find, open_node=open_node, runner=runner)


def _tls_of(settings: Settings) -> TlsContexts | None:
    """As a server has it; None where it has none, or has not made its own CA yet."""
    if not settings.tls.enabled:
        return None
    folder = Path(settings.storage.data_dir) / CA_FOLDER
    files = None
    if settings.tls.uses_private_ca:
        files = files_of_private_ca(folder, settings.server.ae_title)
        if files is None:
            return None
    return TlsContexts(settings, folder, as_they_are=files)
