"""Negotiation: pure functions from a proposal to an answer (PS3.8 7.1, PS3.7 D.3).

PS3.8 7.1.1 and PS3.7 D.3, for both roles.  Who may associate (AE titles, identity) is not
asked here, only that both have an AE title; that is the service-user's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import field
from enum import Enum
from types import MappingProxyType
from typing import Final

from isocenter.engine.ae import is_padded_ae_title
from isocenter.engine.dimse.messages import NEventReportRequest, Request
from isocenter.engine.errors import (
    INVALID_PDU_PARAMETER_VALUE,
    LocalProtocolError,
    RemoteProtocolError,
)
from isocenter.engine.fast_init import dataclass
from isocenter.engine.items import (
    AsynchronousOperationsWindow,
    CommonExtendedNegotiation,
    ContextResult,
    ExtendedNegotiation,
    ProposedContext,
    RoleSelection,
    UserIdentity,
    UserInformation,
)
from isocenter.engine.limits import DEFAULT_LIMITS
from isocenter.engine.pdu import AssociateAccept, AssociateReject, AssociateRequest
from isocenter.engine.uid import (
    APPLICATION_CONTEXT,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLEMENTATION_CLASS_UID,
    IMPLEMENTATION_VERSION_NAME,
    STORAGE_ROOT,
    UNCOMPRESSED,
    VERIFICATION,
)

#: Results of a presentation context (PS3.8 Table 9-18).
ACCEPTANCE: Final = 0
ABSTRACT_SYNTAX_NOT_SUPPORTED: Final = 3
TRANSFER_SYNTAXES_NOT_SUPPORTED: Final = 4

#: Rejections by the service-provider itself (PS3.8 Table 9-21).
PROTOCOL_VERSION_NOT_SUPPORTED: Final = AssociateReject(1, 2, 2)
APPLICATION_CONTEXT_NOT_SUPPORTED: Final = AssociateReject(1, 1, 2)
CALLING_AE_TITLE_NOT_RECOGNIZED: Final = AssociateReject(1, 1, 3)
CALLED_AE_TITLE_NOT_RECOGNIZED: Final = AssociateReject(1, 1, 7)
#: Bit 0 is version 1; all others are not tested (PS3.8 9.3.2).
_VERSION_1: Final = 1
#: Related general SOP classes of one SOP class that are looked at; PS3.4 Table B.3-3 has two of one
#: at most, and a request may hold thousands.
_MOST_GENERAL: Final = 16


#: What one association carries: odd IDs from 1 to 255 (PS3.8 9.3.2.2).
MOST_CONTEXTS: Final = 128

#: In `Offer.transfer_syntaxes`, alone or last: whatever the requestor names first.
ANY: Final = "*"


class Role(Enum):
    """Which side of the association we are; not to be taken for SCU and SCP."""

    REQUESTOR = "requestor"
    ACCEPTOR = "acceptor"


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What an acceptor offers for one abstract syntax.

    Attributes:
        transfer_syntaxes: in our order of preference; `ANY` as the last of them takes the
            requestor's first when none before it was proposed.
        scu_role, scp_role: what the *requestor* may be when it asks by role selection
            (PS3.7 D.3.3.4); without asking it is SCU.  With neither role left to it, a context is
            not accepted.
        extended: the application information that we answer to the requestor's, None for
            no answer (PS3.7 D.3.3.5).
        members: SOP classes, beside the abstract syntax, that operations on the context may
            be about: those of a Meta SOP class (PS3.7 D.3.2), or of its whole service class.
        takes_related: whether the same is offered for a SOP class of which the requestor says that
            the abstract syntax is a related general one (PS3.7 D.3.3.6); None: for none.
    """

    transfer_syntaxes: tuple[str, ...]
    scu_role: bool = True
    scp_role: bool = False
    extended: Callable[[bytes], bytes | None] | None = None
    members: frozenset[str] = frozenset()
    takes_related: Callable[[CommonExtendedNegotiation], bool] | None = None


_VERIFICATION_OFFER: Final = Offer(transfer_syntaxes=UNCOMPRESSED)
_STORAGE_OFFER: Final = Offer(transfer_syntaxes=(EXPLICIT_VR_LITTLE_ENDIAN, ANY))


def storage_offer(abstract_syntax: str) -> Offer | None:
    """What a storage SCP offers that keeps data sets as they come: verification, and every
    storage SOP class in whatever transfer syntax the requestor has.

    For `Acceptor.offer`; whoever performs more asks this one last.
    """
    if abstract_syntax == VERIFICATION:
        return _VERIFICATION_OFFER
    return _STORAGE_OFFER if abstract_syntax.startswith(STORAGE_ROOT) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Acceptor:
    """How an acceptor negotiates.

    Attributes:
        offer: abstract syntax → what is offered for it, None when it is not supported.
        max_pdu_length: what we announce, in bytes; 0 for no limit.
        prefer: whose order of transfer syntaxes decides when several are common.
        max_operations_invoked, max_operations_performed: the largest window that we
            agree to, from our side; 0 for no limit.
        implementation_class_uid, implementation_version_name: which program answers (PS3.7
            D.3.3.2).
    """

    offer: Callable[[str], Offer | None]
    max_pdu_length: int
    prefer: Role = Role.ACCEPTOR
    max_operations_invoked: int = 1
    max_operations_performed: int = 1
    implementation_class_uid: str = IMPLEMENTATION_CLASS_UID
    implementation_version_name: str = IMPLEMENTATION_VERSION_NAME


@dataclass(frozen=True, slots=True)
class PresentationContext:
    """An accepted presentation context.

    ``as_scu``: we may request operations on it; ``as_scp``: we may perform them.
    ``related``: what the requestor says of the service and the general SOP classes of its abstract
    syntax (PS3.7 D.3.3.6); None: nothing.
    """

    context_id: int
    abstract_syntax: str
    transfer_syntax: str
    as_scu: bool
    as_scp: bool
    related: CommonExtendedNegotiation | None = None

    def may_perform(self, request: Request) -> bool:
        """Whether *request* is for our role: SCP, but N-EVENT-REPORT goes to the SCU."""
        return self.as_scu if type(request) is NEventReportRequest else self.as_scp


@dataclass(frozen=True, slots=True, kw_only=True)
class Negotiated:
    """What holds on an established association, from our side.

    Attributes:
        contexts: accepted presentation contexts by ID.
        peer_max_pdu_length: what the peer takes, in bytes; 0 for no limit.  The two
            directions are independent.
        operations_invoked: how many operations we may have outstanding; 0 for no limit.
        operations_performed: how many the peer may have outstanding with us.
        extended_negotiations: by SOP class, what the acceptor answered.
    """

    role: Role
    called_ae_title: str
    calling_ae_title: str
    contexts: Mapping[int, PresentationContext]
    peer_max_pdu_length: int
    own_max_pdu_length: int
    operations_invoked: int = 1
    operations_performed: int = 1
    extended_negotiations: Mapping[str, bytes] = field(default_factory=dict)
    peer_implementation_class_uid: str = ""
    peer_implementation_version_name: str = ""
    user_identity: UserIdentity | None = None


def provider_rejection(request: AssociateRequest) -> AssociateReject | None:
    """The rejection that is the service-provider's to make (AE-6), or None."""
    if not request.protocol_version & _VERSION_1:
        return PROTOCOL_VERSION_NOT_SUPPORTED
    if request.application_context_name != APPLICATION_CONTEXT:
        return APPLICATION_CONTEXT_NOT_SUPPORTED
    return None


def negotiate(request: AssociateRequest, acceptor: Acceptor) -> AssociateAccept | AssociateReject:
    """The acceptor's answer to *request*; an accept also when no context is left.

    What comes in place of an AE title and is none, all spaces for example, is rejected as
    not recognized.
    """
    reject = provider_rejection(request)
    if reject is not None:
        return reject
    if not is_padded_ae_title(request.called_ae_title):
        return CALLED_AE_TITLE_NOT_RECOGNIZED
    if not is_padded_ae_title(request.calling_ae_title):
        return CALLING_AE_TITLE_NOT_RECOGNIZED
    info = request.user_information
    window = info.asynchronous_operations_window
    asks_for_scp = frozenset(one.sop_class_uid for one in info.role_selections if one.scp_role)
    related = _related(request)

    def found(abstract_syntax: str) -> Offer | None:
        offer = acceptor.offer(abstract_syntax)
        if offer is None and abstract_syntax in related:
            general = general_offer(acceptor.offer, related[abstract_syntax])
            return None if general is None else general[1]
        return offer

    def offered(abstract_syntax: str) -> Offer | None:
        offer = found(abstract_syntax)
        if offer is None or offer.scu_role:
            return offer
        return offer if offer.scp_role and abstract_syntax in asks_for_scp else None

    return AssociateAccept(
        called_ae_title=request.called_ae_title,
        calling_ae_title=request.calling_ae_title,
        presentation_contexts=tuple(
            _judge(context, offered(context.abstract_syntax), acceptor.prefer)
            for context in request.presentation_contexts
        ),
        user_information=UserInformation(
            max_pdu_length=acceptor.max_pdu_length,
            implementation_class_uid=acceptor.implementation_class_uid,
            implementation_version_name=acceptor.implementation_version_name,
            asynchronous_operations_window=None
            if window is None
            else AsynchronousOperationsWindow(
                _smaller(window.invoked, acceptor.max_operations_performed),
                _smaller(window.performed, acceptor.max_operations_invoked),
            ),
            role_selections=_roles(request, offered),
            extended_negotiations=_extended(request, found),
        ),
    )


def general_offer(
    offer: Callable[[str], Offer | None], related: CommonExtendedNegotiation
) -> tuple[str, Offer] | None:
    """The related general SOP class that a SOP class is served as, and what is offered for it.

    The requestor gives them in no order that means something: the first whose offer takes it holds
    (PS3.7 D.3.3.6), and of those the first on which the requestor may ask for something.  None:
    none does.
    """
    second: tuple[str, Offer] | None = None
    for general in related.related_general_sop_class_uids[:_MOST_GENERAL]:
        found = offer(general)
        if found is None or found.takes_related is None or not found.takes_related(related):
            continue
        if found.scu_role:
            return general, found
        second = second or (general, found)
    return second


def _related(request: AssociateRequest) -> dict[str, CommonExtendedNegotiation]:
    """What *request* says of its SOP classes; the first item of each counts."""
    said: dict[str, CommonExtendedNegotiation] = {}
    for one in request.user_information.common_extended_negotiations:
        said.setdefault(one.sop_class_uid, one)
    return said


def _judge(context: ProposedContext, offer: Offer | None, prefer: Role) -> ContextResult:
    if offer is None:
        return ContextResult(context.context_id, ABSTRACT_SYNTAX_NOT_SUPPORTED)
    proposed, offered = context.transfer_syntaxes, offer.transfer_syntaxes
    takes_any = ANY in offered
    if prefer is Role.REQUESTOR:
        common = [syntax for syntax in proposed if takes_any or syntax in offered]
    else:
        common = [syntax for syntax in offered if syntax in proposed]
        if takes_any:
            common += proposed
    if common:
        return ContextResult(context.context_id, ACCEPTANCE, common[0])
    return ContextResult(context.context_id, TRANSFER_SYNTAXES_NOT_SUPPORTED)


def _roles(
    request: AssociateRequest, offered: Callable[[str], Offer | None]
) -> tuple[RoleSelection, ...]:
    answers: dict[str, RoleSelection] = {}
    proposed = _abstract_syntaxes(request)
    for asked in request.user_information.role_selections:
        # The first item of a SOP class counts, and each class is looked up once: a request
        # may hold thousands of items.
        if asked.sop_class_uid not in proposed or asked.sop_class_uid in answers:
            continue
        offer = offered(asked.sop_class_uid)
        if offer is not None:
            answers[asked.sop_class_uid] = RoleSelection(
                asked.sop_class_uid,
                asked.scu_role and offer.scu_role,
                asked.scp_role and offer.scp_role,
            )
    return tuple(answers.values())


def _extended(
    request: AssociateRequest, offered: Callable[[str], Offer | None]
) -> tuple[ExtendedNegotiation, ...]:
    answers: dict[str, ExtendedNegotiation] = {}
    unseen = _abstract_syntaxes(request)
    for asked in request.user_information.extended_negotiations:
        if asked.sop_class_uid not in unseen:
            continue
        unseen.remove(asked.sop_class_uid)
        offer = offered(asked.sop_class_uid)
        if offer is None or offer.extended is None:
            continue
        answer = offer.extended(asked.application_information)
        if answer is not None:
            answers[asked.sop_class_uid] = ExtendedNegotiation(asked.sop_class_uid, answer)
    return tuple(answers.values())


def _abstract_syntaxes(request: AssociateRequest) -> set[str]:
    return {context.abstract_syntax for context in request.presentation_contexts}


def _smaller(asked: int, ours: int) -> int:
    """The smaller of two limits where 0 is none."""
    return min(asked, ours) if asked and ours else asked or ours


def negotiated_from(request: AssociateRequest, accept: AssociateAccept, role: Role) -> Negotiated:
    """What *request* and *accept* together mean for the side that is *role*.

    Raises:
        RemoteProtocolError: as requestor, the peer accepted what was not proposed (reason 6).
        LocalProtocolError: as acceptor, we did.
    """
    is_requestor = role is Role.REQUESTOR
    proposed = {context.context_id: context for context in request.presentation_contexts}
    asked = {item.sop_class_uid: item for item in request.user_information.role_selections}
    roles = {
        item.sop_class_uid: item
        for item in accept.user_information.role_selections
        if item.sop_class_uid in asked
    }
    asked_extended = {item.sop_class_uid for item in request.user_information.extended_negotiations}
    related = _related(request)
    contexts = {}
    for result in accept.presentation_contexts:
        if result.result != ACCEPTANCE:
            continue
        context = proposed.get(result.context_id)
        if context is None or result.transfer_syntax not in context.transfer_syntaxes:
            fault = (
                f"A-ASSOCIATE-AC accepts presentation context {result.context_id} with a transfer "
                "syntax that was not proposed (PS3.8 9.3.3.2)"
            )
            if is_requestor:
                raise RemoteProtocolError(fault, INVALID_PDU_PARAMETER_VALUE)
            raise LocalProtocolError(fault)
        answer = roles.get(context.abstract_syntax)
        requestor_scu, requestor_scp = True, False
        if answer is not None:
            proposal = asked[context.abstract_syntax]
            requestor_scu = answer.scu_role and proposal.scu_role
            requestor_scp = answer.scp_role and proposal.scp_role
        contexts[result.context_id] = PresentationContext(
            result.context_id,
            context.abstract_syntax,
            result.transfer_syntax,
            as_scu=requestor_scu if is_requestor else requestor_scp,
            as_scp=requestor_scp if is_requestor else requestor_scu,
            related=related.get(context.abstract_syntax),
        )
    own, peer = (
        (request.user_information, accept.user_information)
        if is_requestor
        else (accept.user_information, request.user_information)
    )
    # The window of the -AC is the requestor's view of what was agreed, and may not be
    # larger than what was asked for (PS3.7 D.3.3.3.2).
    asked_window = request.user_information.asynchronous_operations_window
    answered = accept.user_information.asynchronous_operations_window
    if asked_window is None or answered is None:
        invoked = performed = 1
    else:
        invoked = _smaller(answered.invoked, asked_window.invoked)
        performed = _smaller(answered.performed, asked_window.performed)
    if not is_requestor:
        invoked, performed = performed, invoked
    return Negotiated(
        role=role,
        called_ae_title=request.called_ae_title,
        calling_ae_title=request.calling_ae_title,
        contexts=MappingProxyType(contexts),
        peer_max_pdu_length=peer.max_pdu_length,
        own_max_pdu_length=own.max_pdu_length,
        operations_invoked=invoked,
        operations_performed=performed,
        extended_negotiations=MappingProxyType(
            {
                item.sop_class_uid: item.application_information
                for item in accept.user_information.extended_negotiations
                if item.sop_class_uid in asked_extended
            }
        ),
        peer_implementation_class_uid=peer.implementation_class_uid,
        peer_implementation_version_name=peer.implementation_version_name,
        user_identity=request.user_information.user_identity,
    )


def propose(
    contexts: Iterable[tuple[str, Iterable[str]]],
) -> tuple[tuple[ProposedContext, ...], ...]:
    """Presentation contexts for (abstract syntax, transfer syntaxes), by association.

    Returns:
        One tuple for each association that is needed: at most 128 contexts, in the order
        given, with odd IDs from 1; empty when nothing was given.
    """
    pairs = [(abstract_syntax, tuple(syntaxes)) for abstract_syntax, syntaxes in contexts]
    return tuple(
        tuple(
            ProposedContext(2 * position + 1, abstract_syntax, syntaxes)
            for position, (abstract_syntax, syntaxes) in enumerate(
                pairs[start : start + MOST_CONTEXTS]
            )
        )
        for start in range(0, len(pairs), MOST_CONTEXTS)
    )


def associate_request(
    called_ae_title: str,
    calling_ae_title: str,
    contexts: Iterable[tuple[str, Iterable[str]]],
    *,
    max_pdu_length: int = DEFAULT_LIMITS.max_pdu_length,
    operations_invoked: int = 1,
    operations_performed: int = 1,
    implementation_class_uid: str = IMPLEMENTATION_CLASS_UID,
    implementation_version_name: str = IMPLEMENTATION_VERSION_NAME,
) -> AssociateRequest:
    """An A-ASSOCIATE-RQ of ours, without extended negotiation.

    Args:
        contexts: abstract syntax and transfer syntaxes of each presentation context.
        max_pdu_length: what we announce, in bytes; 0 for no limit.
        operations_invoked, operations_performed: how many operations of ours, and of the peer,
            may be outstanding at once; 0 for no limit.  Without more than one of each nothing is
            asked for, and what the peer answers decides (`Negotiated.operations_invoked`).
        implementation_class_uid, implementation_version_name: which program asks (PS3.7 D.3.3.2).

    Raises:
        LocalProtocolError: no presentation context, or more than 128 (PS3.8 9.3.2.2).
    """
    proposals = propose(contexts)
    if len(proposals) != 1:
        count = sum(map(len, proposals))
        raise LocalProtocolError(
            f"{count} presentation contexts; one association carries 1 to {MOST_CONTEXTS} "
            "(PS3.8 9.3.2.2)"
        )
    return AssociateRequest(
        called_ae_title=called_ae_title,
        calling_ae_title=calling_ae_title,
        presentation_contexts=proposals[0],
        user_information=UserInformation(
            max_pdu_length=max_pdu_length,
            implementation_class_uid=implementation_class_uid,
            implementation_version_name=implementation_version_name,
            asynchronous_operations_window=None
            if operations_invoked == operations_performed == 1
            else AsynchronousOperationsWindow(operations_invoked, operations_performed),
        ),
    )


def context_for(
    negotiated: Negotiated, abstract_syntax: str, transfer_syntax: str | None = None
) -> PresentationContext:
    """The first accepted presentation context on which we may request operations.

    Args:
        transfer_syntax: the one that the data set is encoded in; None for any.

    Raises:
        LocalProtocolError: the peer accepted none.
    """
    for context in negotiated.contexts.values():
        if (
            context.as_scu
            and context.abstract_syntax == abstract_syntax
            and transfer_syntax in (None, context.transfer_syntax)
        ):
            return context
    wanted = f" with transfer syntax {transfer_syntax!r}" if transfer_syntax else ""
    raise LocalProtocolError(f"the peer accepted no context for {abstract_syntax!r}{wanted}")
