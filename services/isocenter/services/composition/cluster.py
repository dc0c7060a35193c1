"""Composition of a node of an archive, and of its duties."""

from __future__ import annotations

import os
import platform
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Final

import trio

from isocenter.services.archive.archive import Archive
from isocenter.services.archive.object_location import StoreKind
from isocenter.services.association.server import Server
from isocenter.services.cluster.duties import Duties, OneMachine, OneProcess
from isocenter.services.cluster.leasing import Leasing
from isocenter.services.cluster.member import NodeIdentity
from isocenter.services.cluster.membership import Membership
from isocenter.services.cluster.ports import Document
from isocenter.services.cluster.sharing import SharedFile, Sharing
from isocenter.services.composition.objects import BucketPlace
from isocenter.services.errors import StorageError, text_of
from isocenter.services.net.listeners import Listening
from isocenter.services.security.access.errors import PolicyError
from isocenter.services.security.access.policy_file import ACCESS_FOLDER, PolicyFile
from isocenter.services.security.certificates.issued import AUTHORITIES, REVOCATIONS
from isocenter.services.settings.settings import Settings
from isocenter.services.settings.shared_changes import NAME as SETTINGS_NAME
from isocenter.services.settings.shared_changes import SharedChanges
from isocenter.services.system.file_lock import open_lock_file, try_lock, wait_for_lock
from isocenter.services.system.private_files import PRIVATE_FILE, match_owner, write_file
from isocenter.storage.objects.files.journal import has_segments
from isocenter.storage.objects.files.store import open_file_store
from isocenter.storage.stores import Stores

#: In the data directory: what tells it from those of other nodes.
_IDENTITY: Final = "node.id"
#: Beside it, locked by all processes of the node.
_PROCESSES: Final = "node.lock"
_LOCK_AGAIN_SECONDS: Final = 0.02
_ANY: Final = ("0.0.0.0", "::")  # noqa: S104  (they are compared)
#: The shared document that tells the place of the objects from all others.
OBJECTS: Final = "objects"


def duties_of(settings: Settings, stores: Stores) -> Duties:
    """Who of all processes of an archive does what."""
    if settings.storage.is_in_memory:
        return OneProcess()
    if settings.is_shared:
        return Leasing(stores.leases)
    return OneMachine(Path(settings.storage.data_dir))


def identity_of(settings: Settings, *, address: str = "", version: str = "") -> NodeIdentity:
    """What this node says of itself.

    Raises:
        StorageError: the data directory cannot be written.
    """
    path = Path(settings.storage.data_dir) / _IDENTITY
    try:
        place = path.read_text("ascii").strip()
    except FileNotFoundError:
        place = ""
    except (OSError, UnicodeDecodeError) as error:
        raise StorageError(f"{path} cannot be read: {text_of(error)}") from error
    if not place:
        place = secrets.token_hex(16)
        try:
            write_file(path, f"{place}\n".encode("ascii"), PRIVATE_FILE, replace=True)
        except OSError as error:
            raise StorageError(f"cannot write {path}: {text_of(error)}") from error
    return NodeIdentity(name=settings.cluster.name, place=place, address=address, version=version)


async def begin_node(settings: Settings, stores: Stores, *, is_alone: bool) -> None:
    """At the start of a node: free what its earlier processes had claimed.

    Args:
        is_alone: no other node may live, since all of the index is made again.

    Raises:
        StorageError: one does.
    """
    node = await trio.to_thread.run_sync(lambda: identity_of(settings))
    if is_alone:
        alive = [member.name for member in await stores.members.list() if member.is_alive]
        if alive:
            raise StorageError(
                f"nodes are at work on this archive ({', '.join(alive)}); stop all of them first "
                "(isocenter nodes drain NAME)"
            )
    await stores.members.free_claims(node)


class ClusterNode:
    """This server as one of the nodes.

    Attributes:
        is_behind: what other nodes had changed came when it joined.
    """

    def __init__(
        self,
        settings: Settings,
        stores: Stores,
        node: NodeIdentity,
        sharing: Sharing,
        *,
        is_behind: bool,
    ) -> None:
        self.is_behind = is_behind
        self._settings = settings
        self._members = stores.members
        self._node = node
        self._sharing = sharing

    async def run(
        self,
        server: Server,
        look_at_policy: Callable[[], object],
        reload: Callable[[], Awaitable[None]],
    ) -> None:
        """Live with the other nodes, until cancelled.

        Args:
            look_at_policy: another node has changed it.
            reload: another node has changed settings, CAs or what these have revoked.
        """

        async def on_change(name: str) -> None:
            if name in (SETTINGS_NAME, REVOCATIONS, AUTHORITIES):
                await reload()
            else:
                # What cannot be used is told by whoever looks.
                with suppress(PolicyError):
                    look_at_policy()

        folder = Path(self._settings.storage.data_dir)
        one_process = OneMachine(folder)
        async with _among_processes(folder) as is_last, trio.open_nursery() as nursery:

            def drain() -> None:
                nursery.start_soon(_drain, self._settings, server)

            membership = Membership(self._members, self._node, on_drain=drain, is_last=is_last)
            nursery.start_soon(membership.run)
            await one_process.run("sharing", partial(self._sharing.run, on_change))


@asynccontextmanager
async def _among_processes(folder: Path) -> AsyncIterator[Callable[[], bool]]:
    """Be one of the processes of a node; what tells at the end whether it is the last of them.

    All share a lock.  Who ends asks for it alone, which also gives up its share: of several that
    end at once the last one to ask is told so.
    """
    descriptor = open_lock_file(folder / _PROCESSES)
    try:
        match_owner(folder, descriptor)
        await wait_for_lock(descriptor, look_seconds=_LOCK_AGAIN_SECONDS, shared=True)
        yield partial(try_lock, descriptor)
    finally:
        os.close(descriptor)


async def join_cluster(
    settings: Settings, stores: Stores, listeners: Listening, version: str
) -> ClusterNode:
    """Make this server one of the nodes.

    Raises:
        StorageError: another node of that name lives, or the database does not answer.
    """
    address = address_of(settings, listeners)
    node = await trio.to_thread.run_sync(
        lambda: identity_of(settings, address=address, version=version)
    )
    await stores.members.join(node)
    sharing = sharing_of(settings, stores)
    came = await sharing.look()
    return ClusterNode(settings, stores, node, sharing, is_behind=bool(came))


def address_of(settings: Settings, listeners: Listening) -> str:
    """Where this node takes associations, for people: the first of them."""
    for sock, bind in listeners:
        host, port = sock.getsockname()[:2]
        shown = platform.node() if host in _ANY else host
        return f"{settings.server.ae_title}@{shown}:{port}" + (" (TLS)" if bind.tls else "")
    return ""


async def _drain(settings: Settings, server: Server) -> None:
    """End a node when what it does is done: a load balancer has some time to notice, then it takes
    no connections any more, then it waits for the last association."""
    server.is_leaving = True
    await trio.sleep(settings.cluster.drain_notice)
    server.drain()


def sharing_of(settings: Settings, stores: Stores) -> Sharing:
    """Keeps the same on all nodes: the access policy with its users, changed settings, and which
    certificates are trusted."""
    # Late: all of X.509, which a server that is no node does not need at its start.
    from isocenter.services.composition.shared_trust import shared_trust

    folder = Path(settings.storage.data_dir)
    return Sharing(
        stores.documents,
        (
            SharedFile("policy", PolicyFile(folder / ACCESS_FOLDER).path),
            SharedChanges(folder),
            *shared_trust(settings),
        ),
        folder,
    )


async def check_objects(place: BucketPlace, stores: Stores, *, is_new: bool) -> None:
    """Whether the objects at *place* are those that the database knows of.

    Args:
        is_new: the database knows of none yet.

    Raises:
        StorageError: they are not.
    """
    bucket = place.bucket
    known = (await stores.documents.get(OBJECTS)).content
    if is_new and not known:
        mark = await bucket.set_mark(secrets.token_hex(16))
        await stores.documents.put(Document(name=OBJECTS, version=0, content=mark))
        known = (await stores.documents.get(OBJECTS)).content
    found = await bucket.mark()
    if found != known:
        seen = "those of another archive" if found else "empty, or not mounted"
        raise StorageError(
            f"{bucket.place} is {seen}, and not where the objects of this database are; correct "
            "objects.url, or database.url, or have it mounted"
        )


async def take_over_folder(settings: Settings, archive: Archive, *, rebuild: bool) -> None:
    """Before nodes shared the folder of objects, one server kept a journal in it: what it had not
    brought to its end is brought there.

    Args:
        rebuild: the index does not know it.

    Raises:
        StorageError: such a server runs, or it cannot be done.
    """
    location = settings.object_store
    if location is None or location.kind is not StoreKind.FILES:
        return
    folder = Path(location.bucket)
    if not await trio.to_thread.run_sync(has_segments, str(folder / "journal")):
        return
    files = await open_file_store(folder, durability=settings.storage.durability)
    try:
        files.lock()
        alone = Archive(files, archive.index)
        if rebuild:
            await alone.salvage()
        else:
            await alone.recover()
    finally:
        await files.aclose()
