"""Where a server is put together: settings in, adapters and services chosen and joined.

The only module beside the command line that knows the adapters of
`isocenter.storage`.
"""

from __future__ import annotations

import logging
import secrets
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from time import time
from typing import Final

import trio

from isocenter.engine.errors import IsocenterError
from isocenter.services.archive import Archive
from isocenter.services.certificates import ensure_ca, ensure_server_certificate
from isocenter.services.client import ClientAssociation, Connector, Context, open_association
from isocenter.services.commitment.client import CONTEXTS as COMMITMENT_CONTEXTS
from isocenter.services.commitment.service import StorageCommitment
from isocenter.services.commitment.verifying import Verifier
from isocenter.services.deadlines import Deadlines
from isocenter.services.duty import on_duty
from isocenter.services.event_reports import Reporter, RetryPolicy
from isocenter.services.events.keeping import EventKeeping
from isocenter.services.expiry import Expiry, expiries_of
from isocenter.services.find import Find
from isocenter.services.forwarding.commitment import (
    AskingConnector,
    CommitmentAsker,
    CommitmentReports,
)
from isocenter.services.forwarding.forwarder import Forwarder, finish_deletions
from isocenter.services.forwarding.queue import RetryPolicy as ForwardPolicy
from isocenter.services.forwarding.sending import SendingParts, SendOptions
from isocenter.services.get import Get
from isocenter.services.hl7.listener import OrderListener
from isocenter.services.hl7.opening import order_bind, order_listener
from isocenter.services.listening import Bind
from isocenter.services.move import Move
from isocenter.services.mpps.service import PerformedSteps, retrieve_steps
from isocenter.services.notices import Notices
from isocenter.services.operations import Provider
from isocenter.services.peer import Peer
from isocenter.services.ports import DuplicatePolicy, Index, ObjectStore, StorageError
from isocenter.services.query_retrieve import QueryOptions
from isocenter.services.registry import Registry, Service
from isocenter.services.rules.evaluation import Rules
from isocenter.services.scrubbing import scrub
from isocenter.services.server import ServerLimits
from isocenter.services.settings import Settings
from isocenter.services.sop_classes import TRANSFER_SYNTAXES
from isocenter.services.store import Storage
from isocenter.services.tls import TlsFiles, client_context, server_context
from isocenter.services.verification import Verification
from isocenter.services.worklist.service import WorklistQuery
from isocenter.services.worklist.tidying import tidy
from isocenter.services.worklist.watching import watch
from isocenter.storage.commitment_transactions import SqliteCommitments
from isocenter.storage.event_reports import SqliteReports, release_claims
from isocenter.storage.events import SqliteOutbox
from isocenter.storage.filesystem import FileStore, open_file_store
from isocenter.storage.forwarding import SqliteForwards
from isocenter.storage.forwarding_records import release_forward_claims
from isocenter.storage.memory_store import MemoryStore
from isocenter.storage.mpps_steps import Beside as BesideStep
from isocenter.storage.mpps_steps import SqliteSteps
from isocenter.storage.sqlite_index import SqliteIndex, open_sqlite_index
from isocenter.storage.study_completion import EventWriter, SqliteOpenStudies
from isocenter.storage.worklist import Beside as BesideEntry
from isocenter.storage.worklist import SqliteWorklist, following, tell_change

log = logging.getLogger("isocenter.server")

INDEX_FILE: Final = "index.db"


class StartError(IsocenterError):
    """The server cannot start; the message names fault and cure."""


@asynccontextmanager
async def open_archive(
    settings: Settings,
    *,
    lock: bool = True,
    shared: bool = False,
    recover: bool = True,
    rebuild: bool = False,
) -> AsyncIterator[Archive]:
    """The archive that the settings name, whole: locked, migrated and recovered.

    Args:
        lock: own the data directory.
        shared: own it together with the other worker processes of the same server.
        recover: undo what a crash left unfinished; by the owner only.
        rebuild: allow an index that is missing while there are objects, to fill it again.

    Raises:
        StorageError: the data directory cannot be used, or another server uses it.
    """
    storage = settings.storage
    async with AsyncExitStack() as stack:
        store: ObjectStore
        index: Index
        if storage.is_in_memory:
            store = MemoryStore()
            index = await stack.enter_async_context(open_sqlite_index(":memory:"))
            recover = False
        else:
            data_dir = Path(storage.data_dir)
            files = await open_file_store(data_dir, durability=storage.durability)
            stack.push_async_callback(files.aclose)
            if lock:
                files.lock(shared=shared)
            store = files
            index = await stack.enter_async_context(_open_index(settings, files, rebuild))
        archive = await stack.enter_async_context(
            Archive(
                store,
                index,
                naming=storage.naming,
                duplicates=DuplicatePolicy(storage.duplicates),
                memory_budget=settings.limits.bytes_in_flight,
                limits=settings.engine_limits(),
            )
        )
        if recover and lock and isinstance(index, SqliteIndex):
            await index.write(release_claims)
            await index.write(release_forward_claims)
        if recover and not rebuild:
            undone = await archive.recover()
            if undone:
                log.info("undid %d objects that a crash left unfinished", undone)
            if isinstance(index, SqliteIndex):
                await finish_deletions(SqliteForwards(index), archive)
        yield archive


def _open_index(
    settings: Settings, files: FileStore, rebuild: bool
) -> AbstractAsyncContextManager[Index]:
    path = Path(settings.storage.data_dir) / INDEX_FILE

    @asynccontextmanager
    async def opened() -> AsyncIterator[Index]:
        if not path.exists() and not rebuild and await _holds_objects(files):
            raise StorageError(
                f"the index {path} is missing, but there are objects; rebuild it from them with "
                f"isocenter db reindex --data-dir {settings.storage.data_dir}"
            )
        async with open_sqlite_index(path, durability=settings.storage.durability) as index:
            yield index

    return opened()


async def _holds_objects(files: FileStore) -> bool:
    async with files.keys() as blocks:
        async for _ in blocks:
            return True
    return False


async def keep_house(settings: Settings, archive: Archive, notices: Notices) -> None:
    """What one process of a server does beside serving."""
    storage = settings.storage
    if storage.is_in_memory:
        return
    folder = Path(storage.data_dir)

    async def work() -> None:
        async with trio.open_nursery() as nursery:
            if storage.scrub_days:
                nursery.start_soon(
                    partial(
                        scrub,
                        archive,
                        folder / "scrubbing.json",
                        days=storage.scrub_days,
                        notices=notices,
                    )
                )
            if settings.worklist.enabled and isinstance(archive.index, SqliteIndex):
                worklist = worklist_of(settings, archive.index)
                if settings.worklist.keep_days:
                    nursery.start_soon(tidy, worklist.remove_ended, settings.worklist.keep_days)
                if settings.worklist.folder is not None:
                    nursery.start_soon(
                        watch, worklist, settings.worklist.folder, settings.worklist.folder_seconds
                    )

    await on_duty(folder / "duty.lock", work)


class TlsContexts:
    """The TLS contexts of a server, exchanged while it runs by `reload`.

    Attributes:
        expiries: until when what is in use is valid.

    Args:
        ca_directory: where the private CA lies, or is made, when the settings name no files.

    Raises on construction and on `reload`:
        TlsFileError, CertificateError: a file is missing, unreadable, open to others or
            expired; after a failed `reload` the old ones serve on.
    """

    def __init__(self, settings: Settings, ca_directory: Path) -> None:
        self._settings = settings
        self._ca_directory = ca_directory
        self.server: ssl.SSLContext
        self._client: ssl.SSLContext
        self._client_any_host: ssl.SSLContext
        self.ca: Path | None = None
        self.expiries: tuple[Expiry, ...] = ()
        self.reload()

    def reload(self, settings: Settings | None = None) -> None:
        """Read certificates, keys and revocation lists again; *settings* may name others."""
        settings = settings or self._settings
        tls = settings.tls
        if tls.uses_private_ca:
            directory = self._ca_directory
            authority = ensure_ca(directory)
            issued = ensure_server_certificate(directory, settings.server.ae_title)
            files = replace(issued, crl=authority.crl_path)
        else:
            files = TlsFiles(
                certificate=tls.certificate,
                key=tls.key,
                ca=tls.ca,
                crl=tls.crl,
                key_password=tls.key_password,
            )
        server = server_context(files, tls.profile, tls.client_certificates, strict=tls.strict)
        client = client_context(files, tls.profile, strict=tls.strict)
        any_host = client_context(files, tls.profile, check_hostname=False, strict=tls.strict)
        self.server, self._client, self._client_any_host = server, client, any_host
        self.ca, self.expiries, self._settings = files.ca, expiries_of(files), settings

    def client(self, peer: Peer) -> ssl.SSLContext:
        """For connecting to *peer*, with our own certificate."""
        return self._client if peer.verify_host else self._client_any_host


def deadlines_of(settings: Settings) -> Deadlines:
    """The deadlines of associations."""
    return Deadlines(
        **{field.name: getattr(settings.deadlines, field.name) for field in fields(Deadlines)}
    )


def server_limits_of(settings: Settings) -> ServerLimits:
    """What strangers may take together; 0 in a setting is no limit."""
    server = settings.server
    unlimited = 1 << 30
    return ServerLimits(
        connections=server.max_connections or unlimited,
        handshakes=server.max_handshakes or unlimited,
        associations=server.max_associations or unlimited,
        associations_per_address=server.max_associations_per_address or unlimited,
        associations_per_ae_title=server.max_associations_per_ae_title or unlimited,
    )


def binds_of(settings: Settings, tls: TlsContexts | None) -> list[Bind]:
    """Where to listen: the clear first."""
    binds = []
    if settings.plain.enabled:
        binds.append(Bind(host=settings.server.host, port=settings.server.port))
    if settings.tls.enabled and tls is not None:
        binds.append(Bind(host=settings.tls.host, port=settings.tls.port, tls=lambda: tls.server))
    return binds


@dataclass(frozen=True, slots=True)
class Events:
    """What is written beside things that happen, and what is done about it."""

    writer: EventWriter
    keeping: EventKeeping


async def events_of(settings: Settings, archive: Archive, notices: Notices) -> Events | None:
    """From now on what is stored is an event, too; None: events are switched off.

    Raises:
        ConsumerError: a consumer cannot be used.
    """
    events, index = settings.events, archive.index
    if not events.enabled or not isinstance(index, SqliteIndex):
        return None

    async def duty(work: Callable[[], Awaitable[None]]) -> None:
        if settings.storage.is_in_memory:
            await work()
        else:
            await on_duty(Path(settings.storage.data_dir) / "events.lock", work)

    writer = EventWriter(events.rules(), include_patient=events.include_patient)
    keeping = EventKeeping(
        SqliteOutbox(index),
        SqliteOpenStudies(index, include_patient=events.include_patient),
        rules=events.rules(),
        consumers=events.consumers,
        keep_seconds=events.keep_days * 86_400.0,
        on_duty=duty,
        notices=notices,
    )
    await keeping.begin()
    notices.subscribe(keeping.hear)
    index.beside_add.append(writer.stored)
    return Events(writer, keeping)


def worklist_of(settings: Settings, index: SqliteIndex) -> SqliteWorklist:
    """The worklist in the index database; its changes are events, unless those are off."""
    return SqliteWorklist(index, beside=_beside_worklist(settings))


def _beside_worklist(settings: Settings) -> Sequence[BesideEntry]:
    return [tell_change] if settings.events.enabled else []


def order_bind_of(settings: Settings, tls: TlsContexts | None) -> Bind | None:
    """Where to listen for HL7 orders; None: they are not taken."""
    return order_bind(settings, None if tls is None else lambda: tls.server)


def order_listener_of(settings: Settings, archive: Archive, notices: Notices) -> OrderListener:
    """What takes HL7 orders into the worklist of the archive."""
    assert isinstance(archive.index, SqliteIndex)
    return order_listener(settings, worklist_of(settings, archive.index), notices)


def registry_of(
    settings: Settings,
    archive: Archive,
    tls: TlsContexts | None,
    notices: Notices | None = None,
    peers: Mapping[str, Peer] | None = None,
    events: Events | None = None,
) -> Registry:
    """The services of the archive.  A service class more is a line more.

    *peers*: by AE title, looked at whenever one is needed; None: those of the settings.
    """
    ae_title = settings.server.ae_title
    options = QueryOptions(
        relational=settings.query.relational,
        always_relational=settings.query.always_relational,
        max_results=settings.query.max_results,
        max_suboperations=settings.query.max_suboperations,
    )
    if peers is None:
        peers = {peer.ae_title: peer for peer in settings.peers}
    deadlines = deadlines_of(settings)
    suboperations = replace(deadlines, response=settings.deadlines.suboperation)

    def connect(
        peer: Peer, contexts: Sequence[Context], *, operations_window: int = 1
    ) -> AbstractAsyncContextManager[ClientAssociation]:
        return open_association(
            peer,
            contexts,
            calling_ae_title=ae_title,
            tls=_client_tls(peer, tls),
            operations_window=operations_window,
            deadlines=suboperations,
            limits=settings.engine_limits(),
        )

    def connect_as_scp(
        peer: Peer, contexts: Sequence[Context], calling_ae_title: str
    ) -> AbstractAsyncContextManager[ClientAssociation]:
        return open_association(
            peer,
            contexts,
            calling_ae_title=calling_ae_title,
            scp_roles=[uid for uid, _ in contexts],
            tls=_client_tls(peer, tls),
            deadlines=deadlines,
            limits=settings.engine_limits(),
        )

    preferred = settings.transfer_syntaxes.preference
    storage = Storage(
        archive,
        transfer_syntaxes=tuple(dict.fromkeys((*preferred, *TRANSFER_SYNTAXES))),
        private_sop_classes=settings.storage.private_sop_classes,
    )
    workflow: list[Service] = []
    beside: list[Callable[[], Awaitable[None]]] = []
    if isinstance(archive.index, SqliteIndex):
        reporter = Reporter(
            SqliteReports(archive.index),
            peer_of=peers.get,
            connect=connect_as_scp,
            policy=RetryPolicy(
                longest_interval=settings.commitment.longest_retry,
                give_up_after=settings.commitment.give_up_after,
            ),
        )
        beside.append(reporter.run)
        workflow += _steps_of(settings, archive.index, reporter, events)
        if settings.commitment.enabled:
            commitment = _commitment_of(
                settings, archive, archive.index, storage, reporter, notices, events
            )
            workflow.append(commitment)
            beside.append(commitment.run)

        def connect_to_ask(
            peer: Peer, provider: Provider
        ) -> AbstractAsyncContextManager[ClientAssociation]:
            return open_association(
                peer,
                COMMITMENT_CONTEXTS,
                calling_ae_title=ae_title,
                provider=provider,
                tls=_client_tls(peer, tls),
                deadlines=deadlines,
                limits=settings.engine_limits(),
            )

        asker, forwarder = _forwarding_of(
            settings, archive, archive.index, connect, connect_to_ask, peers, notices
        )
        beside.append(forwarder.run)
        scp = workflow.pop() if settings.commitment.enabled else None
        workflow.append(
            CommitmentReports(asker, scp, is_wanted=lambda: archive.rules.ask_for_commitment)
        )
    if events is not None:
        beside.append(events.keeping.run)
    return Registry(
        [
            Verification(),
            storage,
            *workflow,
            Find(archive, ae_title=ae_title, options=options),
            Get(archive, options=options),
            Move(
                archive,
                destination=peers.get,
                connect=connect,
                options=options,
                associations=settings.query.move_associations,
            ),
        ],
        beside=beside,
    )


def _steps_of(
    settings: Settings, index: SqliteIndex, reporter: Reporter, events: Events | None
) -> list[Service]:
    """What is scheduled, and what was performed of it."""
    services: list[Service] = []
    follow: list[BesideStep] = [] if events is None else [events.writer.step_changed]
    if settings.worklist.enabled:
        services.append(
            WorklistQuery(
                worklist_of(settings, index),
                states=settings.worklist.offer,
                max_results=settings.worklist.max_results,
            )
        )
        follow.append(
            following(settings.worklist.discontinued.state, beside=_beside_worklist(settings))
        )
    if settings.mpps.enabled:
        steps = SqliteSteps(index, beside=follow)
        services += [
            PerformedSteps(
                steps,
                strict=settings.mpps.strict,
                notify=settings.mpps.notify,
                on_change=reporter.look,
            ),
            retrieve_steps(steps),
        ]
    return services


def _commitment_of(
    settings: Settings,
    archive: Archive,
    index: SqliteIndex,
    storage: Storage,
    reporter: Reporter,
    notices: Notices | None,
    events: Events | None,
) -> StorageCommitment:
    return StorageCommitment(
        SqliteCommitments(
            index, beside=() if events is None else [events.writer.commitment_changed]
        ),
        Verifier(
            archive,
            is_supported=lambda uid: storage.offer(uid) is not None,
            checksums=settings.commitment.checksums,
            concurrency=settings.commitment.readers,
        ),
        reporter,
        retrieve_ae_title=settings.server.ae_title,
        same_association=settings.commitment.same_association,
        notices=notices,
    )


def _forwarding_of(
    settings: Settings,
    archive: Archive,
    index: SqliteIndex,
    connect: Connector,
    connect_to_ask: AskingConnector,
    peers: Mapping[str, Peer],
    notices: Notices | None,
) -> tuple[CommitmentAsker, Forwarder]:
    """Rules for what comes in from now on, and what sends what they queue."""
    forwarding = settings.forwarding
    queue = SqliteForwards(index)
    policy = ForwardPolicy(
        first=forwarding.first_retry,
        longest=forwarding.longest_retry,
        give_up_after=forwarding.give_up_after,
    )
    asker = CommitmentAsker(queue, connect_to_ask, policy=policy, wait=forwarding.commit_wait)
    forwarder = Forwarder(
        SendingParts(
            worker=secrets.token_hex(8),
            queue=queue,
            archive=archive,
            connect=connect,
            policy=policy,
            options=SendOptions(
                associations=forwarding.associations,
                batch=forwarding.batch,
                accept_warnings=forwarding.warnings == "accept",
            ),
            notices=Notices() if notices is None else notices,
            now=time,
        ),
        peer_of=peers.get,
        asker=asker,
        keep_days=forwarding.keep_days,
    )
    asker.on_report = forwarder.look
    index.beside_add.append(queue.beside_add)
    archive.rules = Rules(settings.rules)
    archive.system = settings.server.ae_title
    archive.routed = forwarder.look
    return asker, forwarder


def _client_tls(peer: Peer, tls: TlsContexts | None) -> ssl.SSLContext | None:
    if not peer.tls:
        return None
    if tls is None:
        raise StartError(f"{peer} wants TLS, which is switched off here")
    return tls.client(peer)
