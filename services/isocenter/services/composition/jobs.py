"""Remote nodes and jobs of a server, or of a command without one."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import date
from functools import partial
from pathlib import Path

import trio

from isocenter.engine.errors import IsocenterError
from isocenter.engine.fast_init import dataclass
from isocenter.services.archive.archive import Archive
from isocenter.services.archive.export.service import Exporter
from isocenter.services.archive.ports import Index
from isocenter.services.association.destination_slots import Places
from isocenter.services.association.peer import Peer
from isocenter.services.cluster.duties import Duties
from isocenter.services.composition.access import policy_of
from isocenter.services.composition.analyses import analysis_work
from isocenter.services.composition.archive import open_archive_parts
from isocenter.services.composition.audit import active_process_of, record_now
from isocenter.services.composition.export import export_recorder
from isocenter.services.composition.import_audit import ImportAudit
from isocenter.services.composition.node_tokens import token_of
from isocenter.services.composition.outgoing_associations import OutgoingAssociations
from isocenter.services.composition.sharing import fetch_work, publishing_of
from isocenter.services.composition.tls_contexts import TlsContexts, files_of_private_ca
from isocenter.services.concurrency import Backoff
from isocenter.services.dicom.pixels.transcoder import Transcoder
from isocenter.services.integration.ai.analysis_work import AnalysisWork
from isocenter.services.net.http.client import HttpDeadlines
from isocenter.services.net.tls.contexts import TlsFiles, client_context
from isocenter.services.notices import AccessDenied, Caller, NodesChanged, Notice, Notices
from isocenter.services.security.access.api_tokens import ApiTokenVerifier
from isocenter.services.security.access.policy import Policy
from isocenter.services.security.audit.alert_messages import access_denied, nodes_changed
from isocenter.services.security.audit.participants import ActiveProcess
from isocenter.services.security.certificates.issued import CA_FOLDER
from isocenter.services.settings.settings import Settings
from isocenter.services.system.pid_file import pid_of_server
from isocenter.services.workflow.forwarding.forwarder import Forwarder
from isocenter.services.workflow.jobs.compressing import CompressionWork
from isocenter.services.workflow.jobs.desk import JobDesk
from isocenter.services.workflow.jobs.importing import ImportWork
from isocenter.services.workflow.jobs.job import JobKind
from isocenter.services.workflow.jobs.local_works import LocalWorks
from isocenter.services.workflow.jobs.permission import JobPermission
from isocenter.services.workflow.jobs.runner import JobOptions, JobRunner
from isocenter.services.workflow.nodes.changes import NodeChanges
from isocenter.services.workflow.nodes.destinations import NodeDestinations
from isocenter.services.workflow.nodes.dimse_node import DimseNode
from isocenter.services.workflow.nodes.node import Node
from isocenter.services.workflow.nodes.ports import NodeBook, OpenNode, RemoteArchive
from isocenter.services.workflow.nodes.verification import verify_nodes_always
from isocenter.services.workflow.prefetch.prefetcher import Prefetcher, PrefetchOptions
from isocenter.services.workflow.prefetch.priors import PriorRules
from isocenter.storage.stores import Stores

log = logging.getLogger("isocenter.jobs")


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
    return Node(
        name=peer.ae_title,
        address=str(peer),
        tls=peer.tls,
        verify_host=peer.verify_host,
        server_name=peer.server_name,
    )


def node_opener(
    settings: Settings,
    connections: OutgoingAssociations,
    archive: Archive,
    notices: Notices,
    *,
    transcoder: Transcoder | None = None,
    places: Places | None = None,
    is_serving: bool,
) -> OpenNode:
    """Speaks to nodes.

    Args:
        places: how many associations objects go over at once; None: as many as are asked for.
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
                token=await trio.to_thread.run_sync(token_of, node, settings),
                deadlines=HttpDeadlines(connect=settings.deadlines.connect),
            ) as client:
                yield WebNode(client, archive, notices, transcoder)
            return
        yield DimseNode(
            node.peer,
            connections.for_nodes,
            archive,
            notices,
            move_destination=settings.server.ae_title if is_serving else "",
            transcoder=transcoder,
            places=places,
        )

    return open_node


async def verify_nodes(
    settings: Settings,
    duties: Duties,
    book: NodeBook,
    open_node: OpenNode,
    now: Callable[[], float],
) -> None:
    """Verify all nodes again and again; one process of an archive does it for all."""

    async def work() -> None:
        await verify_nodes_always(book, open_node, float(settings.jobs.verify_nodes_every), now)

    await duties.run("nodes", work)


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
            modalities=frozenset(prefetch.modalities),
            not_modalities=frozenset(prefetch.not_modalities),
        ),
        days_ahead=prefetch.days_ahead,
        interval=prefetch.every,
        pause=prefetch.pause,
        most_per_minute=prefetch.most_per_minute,
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
    archive: Archive,
    find: Callable[[str], Awaitable[Node | None]],
    open_node: OpenNode,
    stores: Stores,
    nodes: NodeDestinations,
    analyses: AnalysisWork,
    forwarder: Forwarder | None = None,
    *,
    notices: Notices,
    enforces: Callable[[Policy], bool] | None = None,
) -> JobRunner:
    """Works jobs off, as the settings say.

    Args:
        enforces: whether a policy decides what application entities may do; None: as the settings
            say.
        analyses: has series analysed.
        forwarder: sends what rules have queued; None: nobody does.
        notices: told of objects that come from imaging document sources, and of jobs whose asker
            may not have them done any more.
    """
    jobs = settings.jobs
    if enforces is None:
        enforces = partial(_enforces, settings)
    local = LocalWorks(
        archive,
        Exporter(archive, record=export_recorder(settings, archive.index, "isocenter serve")),
        jobs.export_folder,
    ).by_kind()
    imports = ImportWork(
        archive,
        jobs.import_folders,
        lambda place, person: ImportAudit(
            settings, [place], person=person, process_name="isocenter serve"
        ),
    )
    local = {**local, JobKind.IMPORT: imports.take_in}
    if forwarder is not None:  # it is the server that compresses
        compression = CompressionWork(archive, stores.compressions)
        local = {**local, JobKind.COMPRESS: compression.compress}
    publishing = publishing_of(settings, archive.index, stores, "isocenter serve")
    local = {
        **local,
        JobKind.PUBLISH: publishing.work,
        JobKind.FETCH: fetch_work(settings, archive, notices),
    }
    return JobRunner(
        stores.jobs,
        archive,
        find,
        open_node,
        JobOptions(
            at_once=jobs.at_once if jobs.enabled else 0,
            at_once_per_node=jobs.at_once_per_node,
            backoff=Backoff(
                first_seconds=jobs.first_retry,
                longest_seconds=jobs.longest_retry,
                give_up_after_seconds=jobs.give_up_after,
            ),
            keep_seconds=jobs.keep_days * 86_400.0,
        ),
        forwards=stores.forwards,
        closed=nodes.closed,
        local={**local, JobKind.ANALYSE: analyses.work},
        standing={} if forwarder is None else {JobKind.FORWARD: forwarder},
        permission=JobPermission(
            policy_of(settings),
            enforces,
            ApiTokenVerifier(stores.tokens, now=stores.clock).still_valid,
            notices,
        ),
        now=stores.clock,
    )


def _enforces(settings: Settings, policy: Policy) -> bool:
    return settings.access.enforce.holds(bool(policy.entities))


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientSide:
    """What a command needs that speaks to nodes.

    Attributes:
        find: a node by its name.
        changes: changes nodes, and tells the audit trail of it.
        caller: who gives the command.
        runner: works jobs off, where no server does; None: a server has the archive.
    """

    stores: Stores
    find: Callable[[str], Awaitable[Node | None]]
    open_node: OpenNode
    changes: NodeChanges
    caller: Caller
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
    here = active_process_of(settings, "isocenter node")
    notices = Notices()
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
            nodes = NodeDestinations(
                parts.stores.nodes, parts.stores.limits, is_peer=peers.__contains__
            )
            await nodes.look()
            runner = job_runner(
                settings,
                parts.archive,
                find,
                open_node,
                parts.stores,
                nodes,
                analysis_work(settings, parts.archive, parts.stores, Notices()),
                notices=notices,
            )
        notices.subscribe(partial(_record, settings, here), (NodesChanged, AccessDenied))
        yield ClientSide(
            stores=parts.stores,
            find=find,
            open_node=open_node,
            changes=NodeChanges(
                parts.stores.nodes,
                parts.stores.limits,
                find,
                open_node,
                notices,
                now=parts.stores.clock,
            ),
            caller=Caller(association="", address=here.machine, user=f"{here.user}@{here.machine}"),
            runner=runner,
        )


def record_node_change(settings: Settings, here: ActiveProcess, node: str, what: str) -> None:
    """Note in the audit trail what a command has done with a node of this archive."""
    caller = Caller(association="", address=here.machine, user=f"{here.user}@{here.machine}")
    _record(settings, here, NodesChanged(caller=caller, what=f"node {node} of this archive {what}"))


def _record(settings: Settings, here: ActiveProcess, notice: Notice) -> None:
    if isinstance(notice, NodesChanged):
        message = nodes_changed(here, notice)
    elif isinstance(notice, AccessDenied):
        message = access_denied(here, notice)
    else:
        return
    try:
        record_now(settings, here, [message])
    except (OSError, IsocenterError) as error:
        log.error("the change stands, and the audit trail cannot be written: %s", error)


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
