"""Associations that the archive itself requests."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import fields, replace
from functools import partial
from typing import Any

from isocenter.engine.deadlines import Deadlines
from isocenter.engine.error_codes import ErrorCode
from isocenter.engine.errors import IsocenterError
from isocenter.engine.fast_init import dataclass
from isocenter.services.association.operation import Provider
from isocenter.services.association.peer import Peer
from isocenter.services.association.pool import AssociationPool, Proposal
from isocenter.services.association.requestor import Context
from isocenter.services.composition.tls_contexts import TlsContexts
from isocenter.services.net.connect import connect
from isocenter.services.net.throttle import Throttle, ThrottledTransport
from isocenter.services.service_classes.client import ClientAssociation, open_association
from isocenter.services.service_classes.commitment.scu import CONTEXTS as COMMITMENT_CONTEXTS
from isocenter.services.service_classes.print.scu import take_event
from isocenter.services.settings.settings import Settings
from isocenter.services.workflow.nodes.destinations import NodeDestinations

_Connecting = AbstractAsyncContextManager[ClientAssociation]


class StartError(IsocenterError):
    """The server cannot start; the message names fault and cure."""

    error_code = ErrorCode.START


def build_deadlines(settings: Settings) -> Deadlines:
    """The deadlines of associations."""
    return Deadlines(
        **{field.name: getattr(settings.deadlines, field.name) for field in fields(Deadlines)}
    )


@dataclass(frozen=True)
class OutgoingAssociations:
    """Opens associations with peers, under our AE title, by our settings.

    Attributes:
        nodes: knows the bandwidth of destinations; None: nobody has said any.
        pool: keeps associations for the next use; None: nobody does.
    """

    settings: Settings
    tls: TlsContexts | None
    nodes: NodeDestinations | None = None
    pool: AssociationPool[ClientAssociation] | None = None

    def for_storage(
        self, peer: Peer, contexts: Sequence[Context], *, operations_window: int = 1
    ) -> _Connecting:
        """For C-STORE sub-operations and what is forwarded."""
        return self.for_nodes(peer, contexts, operations_window=operations_window)

    def for_nodes(
        self,
        peer: Peer,
        contexts: Sequence[Context],
        *,
        operations_window: int = 1,
        scp_roles: Collection[str] = (),
    ) -> _Connecting:
        """For what jobs ask of remote nodes, and send to them.

        Args:
            scp_roles: SOP classes of objects that C-GET brings.
        """
        settings = self.settings
        throttle = None if self.nodes is None else self.nodes.throttle_of(peer.ae_title)
        tls = self._tls_for(peer)
        deadlines = replace(build_deadlines(settings), response=settings.deadlines.suboperation)
        opened = partial(
            open_association,
            peer,
            contexts,
            calling_ae_title=settings.server.ae_title,
            scp_roles=scp_roles,
            operations_window=operations_window,
            deadlines=deadlines,
            limits=settings.engine_limits(),
        )
        if throttle is None:
            opened = partial(opened, tls=tls)
        else:
            opened = partial(_throttled, peer, tls, deadlines, throttle, opened)
        if self.pool is None:
            return opened()
        # One with certificates of before, or of another bandwidth, is none of these.
        proposal = Proposal(
            peer, contexts, frozenset(scp_roles), operations_window, (id(tls), id(throttle))
        )
        return self.pool.association(proposal, opened)

    def for_event_reports(
        self, peer: Peer, contexts: Sequence[Context], calling_ae_title: str
    ) -> _Connecting:
        """For event reports: as SCP, under the AE title by which the peer knows us."""
        return self._alone(
            peer,
            contexts,
            calling_ae_title=calling_ae_title,
            scp_roles=[uid for uid, _ in contexts],
            tls=self._tls_for(peer),
            deadlines=build_deadlines(self.settings),
            limits=self.settings.engine_limits(),
        )

    def for_notifications(
        self, peer: Peer, contexts: Sequence[Context], *, operations_window: int = 1
    ) -> _Connecting:
        """For what we create at a peer, and for plug-ins."""
        return self._alone(
            peer,
            contexts,
            calling_ae_title=self.settings.server.ae_title,
            operations_window=operations_window,
            tls=self._tls_for(peer),
            deadlines=build_deadlines(self.settings),
            limits=self.settings.engine_limits(),
        )

    def for_printing(self, peer: Peer, contexts: Sequence[Context]) -> _Connecting:
        """For films on a printer, which may tell of itself meanwhile."""
        return self._alone(
            peer,
            contexts,
            calling_ae_title=self.settings.server.ae_title,
            provider=take_event,
            tls=self._tls_for(peer),
            deadlines=build_deadlines(self.settings),
            limits=self.settings.engine_limits(),
        )

    def for_commitment(self, peer: Peer, provider: Provider) -> _Connecting:
        """For storage commitment as SCU; *provider* takes reports on the same association."""
        return self._alone(
            peer,
            COMMITMENT_CONTEXTS,
            calling_ae_title=self.settings.server.ae_title,
            provider=provider,
            tls=self._tls_for(peer),
            deadlines=build_deadlines(self.settings),
            limits=self.settings.engine_limits(),
        )

    @asynccontextmanager
    async def _alone(
        self, peer: Peer, contexts: Sequence[Context], **options: Any
    ) -> AsyncIterator[ClientAssociation]:
        """One that is not kept; a peer may bear no second one beside it."""
        if self.pool is not None:
            await self.pool.release_idle(peer)
        async with open_association(peer, contexts, **options) as association:
            yield association

    def _tls_for(self, peer: Peer) -> ssl.SSLContext | None:
        if not peer.tls:
            return None
        if self.tls is None:
            raise StartError(f"{peer} wants TLS, which is switched off here")
        return self.tls.client(verify_host=peer.verify_host)


@asynccontextmanager
async def _throttled(
    peer: Peer,
    tls: ssl.SSLContext | None,
    deadlines: Deadlines,
    throttle: Throttle,
    opened: Callable[..., _Connecting],
) -> AsyncIterator[ClientAssociation]:
    """An association over which no more leaves than *throttle* lets."""
    transport = await connect(peer.host, peer.port, tls, deadlines, peer.tls_name)
    async with opened(transport=ThrottledTransport(transport, throttle)) as association:
        yield association
