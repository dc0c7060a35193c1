"""Associations that the archive itself requests."""

from __future__ import annotations

import ssl
from collections.abc import Collection, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import fields, replace

from isocenter.engine.deadlines import Deadlines
from isocenter.engine.errors import IsocenterError
from isocenter.engine.fast_init import dataclass
from isocenter.services.association.operation import Provider
from isocenter.services.association.peer import Peer
from isocenter.services.association.requestor import Context
from isocenter.services.composition.tls_contexts import TlsContexts
from isocenter.services.service_classes.client import ClientAssociation, open_association
from isocenter.services.service_classes.commitment.scu import CONTEXTS as COMMITMENT_CONTEXTS
from isocenter.services.settings.settings import Settings

_Connecting = AbstractAsyncContextManager[ClientAssociation]


class StartError(IsocenterError):
    """The server cannot start; the message names fault and cure."""


def build_deadlines(settings: Settings) -> Deadlines:
    """The deadlines of associations."""
    return Deadlines(
        **{field.name: getattr(settings.deadlines, field.name) for field in fields(Deadlines)}
    )


@dataclass(frozen=True)
class OutgoingAssociations:
    """Opens associations with peers, under our AE title, by our settings."""

    settings: Settings
    tls: TlsContexts | None

    def for_storage(
        self, peer: Peer, contexts: Sequence[Context], *, operations_window: int = 1
    ) -> _Connecting:
        """For C-STORE sub-operations and what is forwarded."""
        settings = self.settings
        return open_association(
            peer,
            contexts,
            calling_ae_title=settings.server.ae_title,
            tls=self._tls_for(peer),
            operations_window=operations_window,
            deadlines=replace(build_deadlines(settings), response=settings.deadlines.suboperation),
            limits=settings.engine_limits(),
        )

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
        return open_association(
            peer,
            contexts,
            calling_ae_title=settings.server.ae_title,
            scp_roles=scp_roles,
            tls=self._tls_for(peer),
            operations_window=operations_window,
            deadlines=replace(build_deadlines(settings), response=settings.deadlines.suboperation),
            limits=settings.engine_limits(),
        )

    def for_event_reports(
        self, peer: Peer, contexts: Sequence[Context], calling_ae_title: str
    ) -> _Connecting:
        """For event reports: as SCP, under the AE title by which the peer knows us."""
        return open_association(
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
        return open_association(
            peer,
            contexts,
            calling_ae_title=self.settings.server.ae_title,
            operations_window=operations_window,
            tls=self._tls_for(peer),
            deadlines=build_deadlines(self.settings),
            limits=self.settings.engine_limits(),
        )

    def for_commitment(self, peer: Peer, provider: Provider) -> _Connecting:
        """For storage commitment as SCU; *provider* takes reports on the same association."""
        return open_association(
            peer,
            COMMITMENT_CONTEXTS,
            calling_ae_title=self.settings.server.ae_title,
            provider=provider,
            tls=self._tls_for(peer),
            deadlines=build_deadlines(self.settings),
            limits=self.settings.engine_limits(),
        )

    def _tls_for(self, peer: Peer) -> ssl.SSLContext | None:
        if not peer.tls:
            return None
        if self.tls is None:
            raise StartError(f"{peer} wants TLS, which is switched off here")
        return self.tls.client(verify_host=peer.verify_host)
