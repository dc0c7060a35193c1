"""N-services (PS3.7 10): attribute lists in and out, N-GET as SCP, requests as SCU.

As SCP: `read_attribute_list` and the general N-GET service `AttributeScp`.  As SCU:
`n_create`, `n_set`, `n_get`, `n_action` and `n_delete`, each one operation on an association
of ours.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

import trio

from isocenter.engine.dataset import DataSetError, DataSetLimitError
from isocenter.engine.dataset.errors import tag_text
from isocenter.engine.dimse.message_codec import (
    NActionRequest,
    NActionResponse,
    NCreateRequest,
    NCreateResponse,
    NDeleteRequest,
    NGetRequest,
    NGetResponse,
    NSetRequest,
    NSetResponse,
    Request,
)
from isocenter.engine.dimse.status import Status
from isocenter.engine.fast_init import dataclass
from isocenter.engine.negotiation import Offer, PresentationContext
from isocenter.engine.uid import is_safe_uid
from isocenter.services.association.operation import Operation
from isocenter.services.association.service_registry import Statuses
from isocenter.services.dicom import uid_registry as sop_classes
from isocenter.services.dicom.attribute_list import SPECIFIC_CHARACTER_SET, AttributeList
from isocenter.services.dicom.uid_registry import IDENTIFIER_SYNTAXES
from isocenter.services.errors import NoPresentationContextError, OperationError, has_failed
from isocenter.services.service_classes.client import ClientAssociation

if TYPE_CHECKING:
    import pydicom

#: What is read at once; longer lists take so long (70 ms for 5,000 references) that others
#: would have to wait.
_QUICK_BYTES: Final = 32 << 10

#: Gives all attributes of an instance by its UID; None: there is no such instance.
AttributesOf = Callable[[str], Awaitable[AttributeList | None]]


# -- As SCP ------------------------------------------------------------------------------


async def read_attribute_list(operation: Operation) -> AttributeList:
    """The attribute list of an operation.

    Raises:
        OperationError: 0120H: there is none; 0213H: it is over a limit; 0110H: it cannot be read.
    """
    if not operation.has_data_set:
        raise OperationError(Status.MISSING_ATTRIBUTE, "request without a data set")
    limits = operation.association.limits
    try:
        data_set = await operation.data_set()
    except OperationError as error:  # A700H is for composite services
        raise OperationError(Status.RESOURCE_LIMITATION, error.comment) from error
    syntax = operation.context.transfer_syntax
    try:
        if len(data_set) <= _QUICK_BYTES:
            return AttributeList.read(data_set, syntax, limits)
        return await trio.to_thread.run_sync(AttributeList.read, data_set, syntax, limits)
    except DataSetLimitError as error:
        raise OperationError(
            Status.RESOURCE_LIMITATION, f"the data set passes {error.limit}"
        ) from error
    except DataSetError as error:
        raise OperationError(Status.PROCESSING_FAILURE, "the data set cannot be read") from error


class AttributeScp:
    """Performs N-GET for some SOP classes (PS3.7 10.1.2).

    Args:
        sources: by abstract syntax, where the attributes of its instances come from.
        members: other SOP classes that a request may name, by abstract syntax.
        on_read: is told of each instance that somebody has read.
    """

    name = "attributes"
    only_gets = True
    statuses: Final[Statuses] = {
        Status.SUCCESS: "all that was asked for",
        Status.WARNING: "without the attributes that the instance does not have",
        Status.NO_SUCH_SOP_INSTANCE: "there is no such instance",
        Status.INVALID_SOP_INSTANCE: "the SOP Instance UID is none",
    }

    def __init__(
        self,
        sources: Mapping[str, AttributesOf],
        *,
        members: Mapping[str, Iterable[str]] | None = None,
        on_read: Callable[[Operation, str, AttributeList], None] | None = None,
    ) -> None:
        self._on_read = on_read
        self._sources = dict(sources)
        members = members or {}
        self._offers = {
            uid: Offer(
                transfer_syntaxes=IDENTIFIER_SYNTAXES, members=frozenset(members.get(uid, ()))
            )
            for uid in self._sources
        }

    def offer(self, abstract_syntax: str) -> Offer | None:
        return self._offers.get(abstract_syntax)

    async def perform(self, operation: Operation) -> None:
        request = operation.request
        if not isinstance(request, NGetRequest):
            raise OperationError(Status.UNRECOGNIZED_OPERATION)
        uid = request.requested_sop_instance_uid
        if not is_safe_uid(uid):
            raise OperationError(Status.INVALID_SOP_INSTANCE, "no SOP Instance UID")
        attributes = await self._sources[operation.context.abstract_syntax](uid)
        if attributes is None:
            raise OperationError(Status.NO_SUCH_SOP_INSTANCE)
        if self._on_read is not None:
            self._on_read(operation, uid, attributes)
        asked = request.attribute_identifier_list
        unknown = [
            tag for tag in asked if tag not in attributes.elements and tag != SPECIFIC_CHARACTER_SET
        ]
        if asked:
            attributes = attributes.only(asked)
        await operation.respond(
            NGetResponse(
                message_id_being_responded_to=request.message_id,
                # PS3.4 Table F.8.2-2: what is not maintained is left out, with a warning.
                status=Status.WARNING if unknown else Status.SUCCESS,
                affected_sop_class_uid=request.requested_sop_class_uid,
                affected_sop_instance_uid=uid,
                attribute_identifier_list=tuple(unknown),
            ),
            attributes.encode(operation.context.transfer_syntax),
        )


# -- As SCU ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class NServiceResponse:
    """What the peer answered to a normalized operation: a success or a warning; a failure is that
    of an `AnswerError`.

    Attributes:
        sop_instance_uid: of the instance, where the peer names it.
        attributes: the data set of the response; None: it had none.
        attribute_identifiers: tags that the status is about.
        error_id: (0000,0903).
    """

    status: int
    comment: str = ""
    sop_instance_uid: str = ""
    attributes: AttributeList | None = None
    attribute_identifiers: tuple[int, ...] = ()
    error_id: int | None = None

    @property
    def text(self) -> str:
        """The peer's words, and the tags that it names."""
        tags = ", ".join(map(tag_text, self.attribute_identifiers))
        return "; ".join(filter(None, (self.comment, tags)))


class AnswerError(OperationError):
    """A normalized operation that the peer answered with a failure.

    Attributes:
        answer: all that it said.
    """

    def __init__(self, answer: NServiceResponse) -> None:
        super().__init__(answer.status, answer.comment, answer.attribute_identifiers)
        self.answer = answer


async def n_create(
    association: ClientAssociation,
    sop_class_uid: str,
    sop_instance_uid: str,
    attributes: AttributeList | pydicom.Dataset | None,
    *,
    context: str = "",
) -> NServiceResponse:
    """N-CREATE (PS3.7 10.1.5); without *sop_instance_uid* the peer makes one.

    What the peer answers is a success or a warning; `NServiceResponse.attributes` has a
    ``to_dataset``.

    Args:
        context: the SOP class that was negotiated for it, where it is another one.

    Raises:
        AnswerError: the peer answered with a failure.
        AssociationError: the association ended first.
        NoPresentationContextError: the peer did not accept the SOP class.
    """
    request = NCreateRequest(
        message_id=association.next_message_id(),
        affected_sop_class_uid=sop_class_uid,
        affected_sop_instance_uid=sop_instance_uid,
    )
    return await _invoke(association, context or sop_class_uid, request, attributes)


async def n_set(
    association: ClientAssociation,
    sop_class_uid: str,
    sop_instance_uid: str,
    attributes: AttributeList | pydicom.Dataset,
    *,
    context: str = "",
) -> NServiceResponse:
    """N-SET (PS3.7 10.1.3); raises as `n_create`.

    Args:
        context: the SOP class that was negotiated for it, where it is another one.
    """
    request = NSetRequest(
        message_id=association.next_message_id(),
        requested_sop_class_uid=sop_class_uid,
        requested_sop_instance_uid=sop_instance_uid,
    )
    return await _invoke(association, context or sop_class_uid, request, attributes)


async def n_get(
    association: ClientAssociation,
    sop_class_uid: str,
    sop_instance_uid: str,
    tags: Sequence[int] = (),
    *,
    context: str = "",
) -> NServiceResponse:
    """N-GET (PS3.7 10.1.2) of some attributes, or of all; *context* as of `n_set`, raises as
    `n_create`."""
    request = NGetRequest(
        message_id=association.next_message_id(),
        requested_sop_class_uid=sop_class_uid,
        requested_sop_instance_uid=sop_instance_uid,
        attribute_identifier_list=tuple(tags),
    )
    return await _invoke(association, context or sop_class_uid, request, None)


async def n_action(
    association: ClientAssociation,
    sop_class_uid: str,
    sop_instance_uid: str,
    action_type_id: int,
    information: AttributeList | pydicom.Dataset | None = None,
    *,
    context: str = "",
) -> NServiceResponse:
    """N-ACTION (PS3.7 10.1.4); *context* as of `n_set`, raises as `n_create`."""
    request = NActionRequest(
        message_id=association.next_message_id(),
        requested_sop_class_uid=sop_class_uid,
        requested_sop_instance_uid=sop_instance_uid,
        action_type_id=action_type_id,
    )
    return await _invoke(association, context or sop_class_uid, request, information)


async def n_delete(
    association: ClientAssociation,
    sop_class_uid: str,
    sop_instance_uid: str,
    *,
    context: str = "",
) -> NServiceResponse:
    """N-DELETE (PS3.7 10.1.6); *context* as of `n_set`, raises as `n_create`."""
    request = NDeleteRequest(
        message_id=association.next_message_id(),
        requested_sop_class_uid=sop_class_uid,
        requested_sop_instance_uid=sop_instance_uid,
    )
    return await _invoke(association, context or sop_class_uid, request, None)


async def _invoke(
    association: ClientAssociation,
    sop_class_uid: str,
    request: Request,
    attributes: AttributeList | pydicom.Dataset | None,
) -> NServiceResponse:
    context = _context(association, sop_class_uid)
    if attributes is not None and not isinstance(attributes, AttributeList):
        attributes = AttributeList.from_dataset(attributes)
    data_set = None if attributes is None else attributes.encode(context.transfer_syntax)
    received = await association.invoke(context.context_id, request, data_set)
    sop_instance_uid, error_id = "", None
    identifiers: tuple[int, ...] = ()
    match message := received.message:
        case NCreateResponse() | NSetResponse() | NGetResponse():
            sop_instance_uid, error_id = message.affected_sop_instance_uid, message.error_id
            identifiers = message.attribute_identifier_list
        case NActionResponse():
            sop_instance_uid, error_id = message.affected_sop_instance_uid, message.error_id
        case _:
            pass  # the peer does not know the operation: a status, and nothing else
    answer = NServiceResponse(
        status=message.status,
        comment=message.error_comment,
        sop_instance_uid=sop_instance_uid,
        attributes=None
        if received.data_set is None
        else AttributeList.read(received.data_set, context.transfer_syntax, association.limits),
        attribute_identifiers=identifiers,
        error_id=error_id,
    )
    if has_failed(answer.status):
        raise AnswerError(answer)
    return answer


def _context(association: ClientAssociation, sop_class_uid: str) -> PresentationContext:
    for context in association.contexts:
        if context.abstract_syntax == sop_class_uid and context.as_scu:
            return context
    raise NoPresentationContextError(
        f"the peer did not accept {sop_classes.name_of(sop_class_uid)}"
    )
