"""Decisions on A-ASSOCIATE-RQ: who may come, whether there is room, what is agreed on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from isocenter.engine.ae import printable_ae_title
from isocenter.engine.fast_init import dataclass
from isocenter.engine.negotiation import Acceptor, negotiate
from isocenter.engine.pdu import AssociateAccept, AssociateReject, AssociateRequest
from isocenter.services.association.access import (
    LOCAL_LIMIT_EXCEEDED,
    AccessControl,
    Admitted,
    ConnectionOrigin,
    Grant,
    RefusedContext,
    Rejected,
)
from isocenter.services.association.server.syntax_orders import SyntaxOrder, ordered
from isocenter.services.notices import Caller


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Answer to an association request, and what follows from it.

    Attributes:
        answer: what to send.
        caller: who asks: as it names itself, and the user that it proved to be.
        grant: what it may have performed; None: everything.
        why: of a rejection, for log and audit.
        cure: the command that would have admitted the caller; empty: there is none.
        refused: presentation contexts that the caller may not use.
    """

    answer: AssociateAccept | AssociateReject
    caller: Caller
    grant: Grant | None = None
    why: str = ""
    cure: str = ""
    refused: tuple[RefusedContext, ...] = ()


class RequestHandler:
    """Decides on association requests; what follows from it is for the caller to do.

    Args:
        access: who may associate.
        acceptor: what negotiation accepts.
        limit_reached: why an association of a host with a calling AE title is one too many;
            empty: it is not.
        syntax_orders: which transfer syntaxes some callers get.
    """

    def __init__(
        self,
        access: AccessControl,
        acceptor: Acceptor,
        limit_reached: Callable[[str, str], str],
        syntax_orders: Sequence[SyntaxOrder] = (),
    ) -> None:
        self._access = access
        self._acceptor = acceptor
        self._limit_reached = limit_reached
        self._syntax_orders = syntax_orders

    async def handle(
        self, request: AssociateRequest, origin: ConnectionOrigin, caller: Caller
    ) -> Decision:
        """Decide on *request*; between the look at the limits and the end nothing waits.

        Args:
            caller: what is known of who asks without the request.
        """
        verdict = await self._access.admit(request, origin)
        caller = Caller(
            association=caller.association,
            address=caller.address,
            calling_ae_title=printable_ae_title(request.calling_ae_title),
            called_ae_title=printable_ae_title(request.called_ae_title),
            is_tls=caller.is_tls,
            certificate=caller.certificate,
            user=verdict.user if isinstance(verdict, Admitted) else "",
        )
        if isinstance(verdict, Admitted):
            full = self._limit_reached(origin.host, request.calling_ae_title)
            if full:
                verdict = Rejected(LOCAL_LIMIT_EXCEEDED, full)
        if isinstance(verdict, Rejected):
            return Decision(
                answer=verdict.reject, caller=caller, why=verdict.text, cure=verdict.cure
            )
        answer = negotiate(request, self._acceptor_for(request.calling_ae_title))
        if isinstance(answer, AssociateReject):
            why = "protocol version or application context name is not supported"
            return Decision(answer=answer, caller=caller, why=why)
        refused: tuple[RefusedContext, ...] = ()
        if verdict.grant is not None:
            answer, refused = verdict.grant.restrict_contexts(request, answer)
        if verdict.response is not None:
            info = replace(answer.user_information, user_identity_response=verdict.response)
            answer = replace(answer, user_information=info)
        return Decision(answer=answer, caller=caller, grant=verdict.grant, refused=refused)

    def _acceptor_for(self, calling_ae_title: str) -> Acceptor:
        if not self._syntax_orders:
            return self._acceptor
        offer = ordered(self._acceptor.offer, self._syntax_orders, calling_ae_title)
        return replace(self._acceptor, offer=offer)
