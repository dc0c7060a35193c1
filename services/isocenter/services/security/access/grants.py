"""Grant of one association: presentation contexts and operations."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Collection, Mapping
from dataclasses import field, replace
from typing import Final

from isocenter.engine.ae import is_ae_title
from isocenter.engine.dimse.message_codec import Request
from isocenter.engine.dimse.message_fields import operation_name
from isocenter.engine.fast_init import dataclass
from isocenter.engine.items import ContextResult, RoleSelection
from isocenter.engine.negotiation import ACCEPTANCE
from isocenter.engine.pdu import AssociateAccept, AssociateRequest
from isocenter.engine.uid import VERIFICATION
from isocenter.services.association.access import RefusedContext
from isocenter.services.security.access.permissions import (
    NEEDS,
    OwnNeeds,
    Permissions,
    missing,
    needs_on,
    operations_for,
)

#: Result of a presentation context (PS3.8 Table 9-18).
USER_REJECTION: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Rights:
    """What a caller may do.

    Attributes:
        ae_title: whose rights they are, for the cure.
        sop_classes: the only abstract syntaxes, beside Verification; empty: all.
        turned_away: why it would not be admitted any more; empty: it would.
        own_needs: of SOP classes that say themselves what is asked for on them.
    """

    ae_title: str
    permissions: Permissions
    sop_classes: frozenset[str] = frozenset()
    turned_away: str = ""
    own_needs: OwnNeeds = field(default_factory=dict)

    def operations_for(self, abstract_syntax: str) -> Collection[str]:
        """The operations that a requestor asks for on *abstract_syntax*."""
        return self.own_needs.get(abstract_syntax) or operations_for(abstract_syntax)

    def refusal(self, operation: str, abstract_syntax: str) -> str:
        """Why *operation* is not allowed, with the cure; empty: it is."""
        if self.turned_away:
            return self.turned_away
        if (
            self.sop_classes
            and abstract_syntax not in self.sop_classes
            and abstract_syntax != VERIFICATION
        ):
            cure = ae_command("allow", self.ae_title, "--sop-class", abstract_syntax)
            return f"{self.ae_title} may not use {abstract_syntax}; allow it with {cure}"
        own = (self.own_needs.get(abstract_syntax) or needs_on(abstract_syntax)).get(operation)
        lacking = missing(self.permissions, operation, own)
        if lacking:
            cure = ae_command("allow", self.ae_title, *lacking.split())
            return f"{self.ae_title} lacks {lacking} for {operation}; allow it with {cure}"
        return ""


class PolicyGrant:
    """The rights of one association, as they are now.

    Args:
        rights: the rights now; None: everything is allowed.

    When the policy changes, it holds for the next operation: *rights* is asked each time.
    """

    __slots__ = ("_judged", "_known", "_rights")

    def __init__(self, rights: Callable[[], Rights | None]) -> None:
        self._rights = rights
        self._known: Rights | None = None
        #: (kind of request, abstract syntax) → the refusal, by the rights that are known.
        self._judged: dict[tuple[type[Request], str], str] = {}

    @property
    def project(self) -> str:
        """None: `isocenter.services.security.access.deidentified_callers` knows of them."""
        return ""

    def refusal(self, abstract_syntax: str, request: Request) -> str:
        """Why the peer may not have *request* performed; empty: it may."""
        rights = self._rights()
        if rights is None:
            return ""
        if rights is not self._known:
            self._known, self._judged = rights, {}
        key = type(request), abstract_syntax
        refusal = self._judged.get(key)
        if refusal is None:
            operation = operation_name(type(request))
            # What is unrecognized gets a status of its own.
            refusal = rights.refusal(operation, abstract_syntax) if operation in NEEDS else ""
            self._judged[key] = refusal
        return refusal

    def is_given(self, operation: str) -> bool:
        """See `Grant.is_given`."""
        rights = self._rights()
        if rights is None or rights.turned_away:
            return False
        return not missing(rights.permissions, operation)

    def restrict_contexts(
        self, request: AssociateRequest, accept: AssociateAccept
    ) -> tuple[AssociateAccept, tuple[RefusedContext, ...]]:
        """Of *accept*, what the peer may use; the other contexts get result 1 (user-rejection)."""
        rights = self._rights()
        if rights is None:
            return accept, ()
        syntax_of = {one.context_id: one.abstract_syntax for one in request.presentation_contexts}
        offers_scp = {
            one.sop_class_uid for one in request.user_information.role_selections if one.scp_role
        }
        judged: dict[str, RefusedContext | None] = {}
        results = []
        for result in accept.presentation_contexts:
            if result.result == ACCEPTANCE:
                syntax = syntax_of[result.context_id]
                if syntax not in judged:
                    judged[syntax] = _judge(rights, syntax, syntax in offers_scp)
                if judged[syntax] is not None:
                    result = ContextResult(result.context_id, USER_REJECTION)
            results.append(result)
        refused = {syntax: one for syntax, one in judged.items() if one is not None}
        info = accept.user_information
        narrowed = replace(
            accept,
            presentation_contexts=tuple(results),
            user_information=replace(
                info,
                role_selections=_roles(rights, info.role_selections, refused),
                extended_negotiations=tuple(
                    one for one in info.extended_negotiations if one.sop_class_uid not in refused
                ),
            ),
        )
        return narrowed, tuple(refused.values())


def _judge(rights: Rights, syntax: str, offers_scp: bool) -> RefusedContext | None:
    """None: something can be asked for on it.  What C-GET brings comes on storage contexts."""
    wanted = sorted(rights.operations_for(syntax)) + (["C-GET"] if offers_scp else [])
    whys = [rights.refusal(operation, syntax) for operation in wanted]
    return None if "" in whys else RefusedContext(wanted[0], syntax, whys[0])


def _roles(
    rights: Rights, roles: tuple[RoleSelection, ...], refused: Mapping[str, RefusedContext]
) -> tuple[RoleSelection, ...]:
    """The peer is SCU only of what it may ask for (PS3.7 D.3.3.4)."""
    return tuple(
        replace(
            one,
            scu_role=one.scu_role
            and any(
                not rights.refusal(operation, one.sop_class_uid)
                for operation in rights.operations_for(one.sop_class_uid)
            ),
        )
        for one in roles
        if one.sop_class_uid not in refused
    )


def ae_command(action: str, ae_title: str, *options: str) -> str:
    """What an operator may paste; empty for a title that no command line should hold."""
    if not is_ae_title(ae_title) or ae_title[0] in "-+":
        return ""
    return shlex.join(("isocenter", "ae", action, ae_title, *options))
