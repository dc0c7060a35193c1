"""A server in the test's own event loop, with services whose every step the test decides."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import trio

from isocenter.engine.negotiation import Offer
from isocenter.engine.uid import EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN
from isocenter.services.association.operation import Operation
from isocenter.services.association.server import ListenAddress, Server, serve
from isocenter.services.association.service_registry import Service, ServiceRegistry
from isocenter.services.service_classes.verification import VerificationScp


class Scripted:
    """A service for some SOP classes that does what *perform* says."""

    name = "scripted"

    def __init__(
        self, sop_classes: Sequence[str], perform: Callable[[Operation], Awaitable[None]]
    ) -> None:
        self._sop_classes = frozenset(sop_classes)
        self._perform = perform
        self._offer = Offer(
            transfer_syntaxes=(EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN),
            scu_role=True,
            scp_role=True,
        )

    def offer(self, abstract_syntax: str) -> Offer | None:
        return self._offer if abstract_syntax in self._sop_classes else None

    async def perform(self, operation: Operation) -> None:
        await self._perform(operation)


@asynccontextmanager
async def serving(
    *services: Service, binds: Sequence[ListenAddress] | None = None, **options: Any
) -> AsyncIterator[Server]:
    """A server with these services before Verification; cancelled at the end."""
    binds = binds or [ListenAddress(host="127.0.0.1", port=0)]
    registry = ServiceRegistry([*services, VerificationScp()])
    async with trio.open_nursery() as nursery:
        server: Server = await nursery.start(
            lambda task_status: serve(registry, binds, task_status=task_status, **options)
        )
        yield server
        nursery.cancel_scope.cancel()


def port_of(server: Server, *, tls: bool = False) -> int:
    """Where it listens."""
    return next(port for _, port, is_tls in server.addresses if is_tls == tls)
