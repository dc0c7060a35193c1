"""Access control that gives the callers of a project of de-identification nothing else.

Which project that is stands in their grant; a service that does not say that it answers by it
(`isocenter.services.association.service_registry.GivesDeidentified`) refuses them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from isocenter.engine.dimse.message_codec import Request
from isocenter.engine.pdu import AssociateAccept, AssociateRequest
from isocenter.services.association.access import (
    AccessControl,
    Admitted,
    ConnectionOrigin,
    Grant,
    RefusedContext,
    Rejected,
)
from isocenter.services.security.access.policy import Policy
from isocenter.services.security.access.recipients import SEVERAL, Recipients


class DeidentifiedCallers:
    """`AccessControl` that also says to which project a caller belongs.

    Args:
        access: decides about everything else.
        policy: that of the moment, for roles; None: nobody has any.
    """

    def __init__(
        self,
        access: AccessControl,
        recipients: Recipients,
        policy: Callable[[], Policy] | None = None,
    ) -> None:
        self._access = access
        self._recipients = recipients
        self._policy = policy

    async def admit(
        self, request: AssociateRequest, origin: ConnectionOrigin
    ) -> Admitted | Rejected:
        """Whether, and for what, *request* may have its association."""
        verdict = await self._access.admit(request, origin)
        if isinstance(verdict, Rejected) or not self._recipients:
            return verdict
        user_name = verdict.user

        def project() -> str:
            return self._project_of(request.calling_ae_title, origin, user_name)

        return replace(verdict, grant=_ProjectGrant(verdict.grant, project))

    def _project_of(self, title: str, origin: ConnectionOrigin, user_name: str) -> str:
        roles: tuple[str, ...] = ()
        if self._policy is not None:
            policy = self._policy()
            entity = policy.entity(title)
            user = policy.user(user_name) if user_name else None
            # Also those of who is behind the AE title by now: it only narrows.
            roles = (*policy.roles_of(entity, user), *policy.roles_of(entity, None))
        return self._recipients.project_of(
            titles=[title], identity=origin.identity, host=origin.host, roles=roles
        )


class _ProjectGrant:
    """The rights of one association, and the project it belongs to now."""

    def __init__(self, grant: Grant | None, project: Callable[[], str]) -> None:
        self._grant = grant
        self._project = project

    @property
    def project(self) -> str:
        """See `Grant.project`."""
        return self._project()

    def refusal(self, abstract_syntax: str, request: Request) -> str:
        """Why the peer may not have *request* performed; empty: it may."""
        if self._project() == SEVERAL:
            return "it belongs to several projects of [[deidentification]]; leave it one"
        return "" if self._grant is None else self._grant.refusal(abstract_syntax, request)

    def is_given(self, operation: str) -> bool:
        """See `Grant.is_given`."""
        return self._grant is not None and not self._project() and self._grant.is_given(operation)

    def restrict_contexts(
        self, request: AssociateRequest, accept: AssociateAccept
    ) -> tuple[AssociateAccept, tuple[RefusedContext, ...]]:
        """Of *accept*, what the peer may use."""
        if self._grant is None:
            return accept, ()
        return self._grant.restrict_contexts(request, accept)
