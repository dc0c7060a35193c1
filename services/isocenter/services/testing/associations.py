"""Associations in memory: services and whoever asks them, without a socket."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import trio
import trio.testing

from isocenter.engine.limits import DEFAULT_LIMITS
from isocenter.engine.negotiation import Acceptor, Role, negotiate
from isocenter.engine.pdu import AssociateAccept, AssociateReject, AssociateRequest
from isocenter.services.association.access import Grant
from isocenter.services.association.driver import AssociationDriver
from isocenter.services.association.peer import Peer
from isocenter.services.association.requestor import Context
from isocenter.services.association.server import Server, serve
from isocenter.services.association.service_registry import Service, ServiceRegistry
from isocenter.services.net.listeners import ListenAddress
from isocenter.services.net.transport import StreamTransport
from isocenter.services.notices import Caller, Notices
from isocenter.services.service_classes.client import ClientAssociation, open_association
from isocenter.services.service_classes.verification import VerificationScp

_HERE: Final = "memory"
#: Names the acceptor of an association in memory; nobody connects to it.
PEER: Final = Peer("TEST_SCP", "localhost", 1)


@asynccontextmanager
async def associated(
    services: Iterable[Service],
    contexts: Sequence[Context],
    *,
    operations_window: int = 1,
    notices: Notices | None = None,
    grant: Grant | None = None,
    **options: Any,
) -> AsyncIterator[ClientAssociation]:
    """An association with *services*, and Verification, over a pair of streams in memory.

    Args:
        contexts: what is proposed, as `open_association` takes it, and *options* likewise.
        operations_window: operations at once, each way.
        notices: are told what the acceptor does.
        grant: what we may have performed; None: everything.

    What the services raise beside `OperationError` ends the association, as in a server.
    """
    registry = ServiceRegistry([VerificationScp(), *services])
    near, far = trio.testing.memory_stream_pair()
    acceptor = Acceptor(
        offer=registry.offer,
        max_pdu_length=DEFAULT_LIMITS.max_pdu_length,
        max_operations_performed=operations_window,
        max_operations_invoked=operations_window,
    )

    async def decide(request: AssociateRequest) -> AssociateAccept | AssociateReject:
        return negotiate(request, acceptor)

    driver = AssociationDriver(
        StreamTransport(far, _HERE),
        Role.ACCEPTOR,
        provider=registry.perform,
        respond_immediately=registry.respond_immediately,
        decide=decide,
        caller=Caller(association=_HERE, address=_HERE),
        notices=notices,
    )
    driver.grant = grant
    failure: Exception | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(driver.run)
        try:
            async with open_association(
                PEER,
                contexts,
                transport=StreamTransport(near, _HERE),
                operations_window=operations_window,
                **options,
            ) as association:
                yield association
        except Exception as error:
            failure = error  # the nursery would wrap it
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure


@asynccontextmanager
async def served(
    *services: Service, addresses: Sequence[ListenAddress] = (), **options: Any
) -> AsyncIterator[Server]:
    """A server with *services*, and Verification, on a free port of this machine; cancelled at the
    end.  *options* are those of `serve`."""
    where = addresses or [ListenAddress(host="127.0.0.1", port=0)]
    registry = ServiceRegistry([VerificationScp(), *services])
    failure: Exception | None = None
    async with trio.open_nursery() as nursery:
        server: Server = await nursery.start(
            lambda task_status: serve(registry, where, task_status=task_status, **options)
        )
        try:
            yield server
        except Exception as error:
            failure = error
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure
