"""The answer to an A-ASSOCIATE-RQ: who may come, whether there is room, what is agreed on."""

from __future__ import annotations

import logging
from dataclasses import replace

from isocenter.engine.ae import printable_ae_title
from isocenter.engine.negotiation import Acceptor, negotiate
from isocenter.engine.pdu import AssociateAccept, AssociateReject, AssociateRequest
from isocenter.services.association import AssociationTask
from isocenter.services.association.access import LOCAL_LIMIT_EXCEEDED, Turned
from isocenter.services.association.server.admission import Admission, Connection
from isocenter.services.association.server.statistics import Statistics
from isocenter.services.net.transport import Transport
from isocenter.services.notices import (
    AccessDenied,
    AssociationEstablished,
    AssociationRejected,
    Caller,
    Notices,
)
from isocenter.services.security.access.access_control import AccessControl, Admitted, Arrival
from isocenter.services.security.access.grants import summary

log = logging.getLogger("isocenter.server")


class Answering:
    """Answers association requests, and tells of each."""

    def __init__(
        self,
        access: AccessControl,
        acceptor: Acceptor,
        admission: Admission,
        statistics: Statistics,
        notices: Notices,
    ) -> None:
        self._access = access
        self._acceptor = acceptor
        self._admission = admission
        self._statistics = statistics
        self._notices = notices

    async def answer(
        self, request: AssociateRequest, transport: Transport, connection: Connection
    ) -> AssociateAccept | AssociateReject:
        """What to send; who is accepted is counted, and its deadline is over."""
        arrival = Arrival(
            host=connection.host, is_tls=connection.is_tls, identity=transport.identity
        )
        verdict = await self._access.admit(request, arrival)
        connection.scope.deadline = float("inf")
        task = connection.task
        assert task is not None
        task.caller = caller = replace(
            task.caller,
            calling_ae_title=printable_ae_title(request.calling_ae_title),
            called_ae_title=printable_ae_title(request.called_ae_title),
            user=verdict.user if isinstance(verdict, Admitted) else "",
        )
        if isinstance(verdict, Admitted):
            full = self._admission.why_full_for(connection.host, request.calling_ae_title)
            if full:
                verdict = Turned(LOCAL_LIMIT_EXCEEDED, full)
        answer: AssociateAccept | AssociateReject
        cure = ""
        if isinstance(verdict, Turned):
            answer, why, cure = verdict.reject, verdict.text, verdict.cure
        else:
            answer = negotiate(request, self._acceptor)
            why = "protocol version or application context name is not supported"
            if isinstance(answer, AssociateAccept):
                answer = self._grant(request, answer, verdict, task)
        if isinstance(answer, AssociateReject):
            self._rejected(answer, caller, why, cure)
        else:
            self._admission.associate(connection, request.calling_ae_title)
            self._accepted(request, answer, caller)
        return answer

    def _grant(
        self,
        request: AssociateRequest,
        accept: AssociateAccept,
        admitted: Admitted,
        task: AssociationTask,
    ) -> AssociateAccept:
        """The contexts that the caller may use, and the answer to its user identity item."""
        task.grant = admitted.grant
        accept, refused = admitted.grant.narrow(request, accept)
        if refused:
            log.warning("%s: not allowed: %s", task.caller.address, summary(refused))
        for operation, one in {each.operation: each for each in refused}.items():
            self._notices.tell(
                AccessDenied(
                    caller=task.caller,
                    command=operation,
                    sop_class_uid=one.abstract_syntax,
                    why=one.why,
                )
            )
        if admitted.response is None:
            return accept
        info = replace(accept.user_information, user_identity_response=admitted.response)
        return replace(accept, user_information=info)

    def _rejected(self, answer: AssociateReject, caller: Caller, why: str, cure: str) -> None:
        self._statistics.rejected += 1
        log.warning("%s: rejected: %s", caller.address, why)
        self._notices.tell(
            AssociationRejected(
                caller=caller,
                result=answer.result,
                source=answer.source,
                reason=answer.reason,
                why=why,
                cure=cure,
            )
        )

    def _accepted(self, request: AssociateRequest, answer: AssociateAccept, caller: Caller) -> None:
        self._statistics.associations += 1
        proposed = len(answer.presentation_contexts)
        accepted = sum(context.result == 0 for context in answer.presentation_contexts)
        log.info(
            "%s: %r associated as %r, %d of %d presentation contexts accepted",
            caller.address,
            request.calling_ae_title,
            request.called_ae_title,
            accepted,
            proposed,
        )
        self._notices.tell(
            AssociationEstablished(
                caller=caller,
                contexts_proposed=proposed,
                contexts_accepted=accepted,
                max_pdu_length=request.user_information.max_pdu_length,
            )
        )
