"""A server in the test's own event loop, with services whose every step the test decides."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from isocenter.engine.negotiation import Offer
from isocenter.engine.uid import EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN
from isocenter.services.association.operation import Operation
from isocenter.services.association.server import Server
from isocenter.services.testing.associations import served as serving

__all__ = ["Scripted", "port_of", "serving"]


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


def port_of(server: Server, *, tls: bool = False) -> int:
    """Where it listens."""
    return next(port for _, port, is_tls in server.addresses if is_tls == tls)
