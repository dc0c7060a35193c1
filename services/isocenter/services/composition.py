"""Where a server is put together: settings in, adapters and services chosen and joined.

The only module beside the command line that knows the adapters of
`isocenter.storage`.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import Final

from isocenter.engine.errors import IsocenterError
from isocenter.services.access import AccessPolicy
from isocenter.services.archive import Archive
from isocenter.services.certificates import ensure_ca, ensure_server_certificate
from isocenter.services.client import ClientAssociation, Context, open_association
from isocenter.services.deadlines import Deadlines
from isocenter.services.find import Find
from isocenter.services.get import Get
from isocenter.services.listening import Bind
from isocenter.services.move import Move
from isocenter.services.peer import Peer
from isocenter.services.ports import DuplicatePolicy, Index, ObjectStore, StorageError
from isocenter.services.query_retrieve import QueryOptions
from isocenter.services.registry import Registry
from isocenter.services.server import ServerLimits
from isocenter.services.settings import Settings, TlsIdentity
from isocenter.services.sop_classes import TRANSFER_SYNTAXES
from isocenter.services.store import Storage
from isocenter.services.tls import TlsFiles, client_context, server_context
from isocenter.services.verification import Verification
from isocenter.storage.filesystem import FileStore, open_file_store
from isocenter.storage.memory_index import MemoryIndex
from isocenter.storage.memory_store import MemoryStore
from isocenter.storage.sqlite_index import open_sqlite_index

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
            store, index = MemoryStore(), MemoryIndex()
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
        if recover and not rebuild:
            undone = await archive.recover()
            if undone:
                log.info("undid %d objects that a crash left unfinished", undone)
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


class TlsContexts:
    """The TLS contexts of a server, exchanged while it runs by `reload`.

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
        self.reload()

    def reload(self) -> None:
        """Read certificates, keys and revocation lists again."""
        tls = self._settings.tls
        if tls.uses_private_ca:
            directory = self._ca_directory
            authority = ensure_ca(directory)
            issued = ensure_server_certificate(directory, self._settings.server.ae_title)
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
        self.ca = files.ca

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
        associations=server.max_associations or unlimited,
        associations_per_address=server.max_associations_per_address or unlimited,
        associations_per_ae_title=server.max_associations_per_ae_title or unlimited,
    )


def access_of(settings: Settings) -> AccessPolicy:
    """Who may associate."""
    server = settings.server
    return AccessPolicy(
        ae_titles=frozenset()
        if server.accept_any_called_ae_title
        else frozenset((server.ae_title, *server.additional_ae_titles)),
        allow=settings.access.allow,
        certificate_owns_ae_title=settings.tls.identity is TlsIdentity.CN,
    )


def binds_of(settings: Settings, tls: TlsContexts | None) -> list[Bind]:
    """Where to listen: the clear first."""
    binds = []
    if settings.plain.enabled:
        binds.append(Bind(host=settings.server.host, port=settings.server.port))
    if settings.tls.enabled and tls is not None:
        binds.append(Bind(host=settings.tls.host, port=settings.tls.port, tls=lambda: tls.server))
    return binds


def registry_of(settings: Settings, archive: Archive, tls: TlsContexts | None) -> Registry:
    """The services of the archive.  A service class more is a line more."""
    ae_title = settings.server.ae_title
    options = QueryOptions(
        relational=settings.query.relational,
        always_relational=settings.query.always_relational,
        max_results=settings.query.max_results,
    )
    peers = {peer.ae_title: peer for peer in settings.peers}
    deadlines = deadlines_of(settings)
    suboperations = replace(deadlines, response=settings.deadlines.suboperation)

    def connect(
        peer: Peer, contexts: Sequence[Context], *, operations_window: int = 1
    ) -> AbstractAsyncContextManager[ClientAssociation]:
        if peer.tls and tls is None:
            raise StartError(f"{peer} wants TLS, which is switched off here")
        return open_association(
            peer,
            contexts,
            calling_ae_title=ae_title,
            tls=tls.client(peer) if peer.tls and tls is not None else None,
            operations_window=operations_window,
            deadlines=suboperations,
            limits=settings.engine_limits(),
        )

    preferred = settings.transfer_syntaxes.preference
    return Registry(
        [
            Verification(),
            Storage(
                archive,
                transfer_syntaxes=tuple(dict.fromkeys((*preferred, *TRANSFER_SYNTAXES))),
                private_sop_classes=settings.storage.private_sop_classes,
            ),
            Find(archive, ae_title=ae_title, options=options),
            Get(archive, options=options),
            Move(
                archive,
                destination=peers.get,
                connect=connect,
                options=options,
                associations=settings.query.move_associations,
            ),
        ]
    )
