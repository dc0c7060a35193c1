"""Associations of a server that last now."""

from __future__ import annotations

from isocenter.engine.dimse.message_fields import operation_name
from isocenter.engine.fast_init import dataclass
from isocenter.engine.negotiation import PresentationContext
from isocenter.services.association import AssociationDriver
from isocenter.services.notices import Caller, WingNotice


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveAssociation:
    """An association that lasts.

    Attributes:
        caller: who is at the other end; its ``association`` names it.
        seconds: for how long it has lasted.
        performing: operations of the peer under way: ``C-STORE`` …
        performed: how many of its operations have ended.
        contexts: the presentation contexts that were accepted.
    """

    caller: Caller
    seconds: float
    performing: tuple[str, ...]
    performed: int
    bytes_received: int
    bytes_sent: int
    contexts: tuple[PresentationContext, ...] = ()

    def is_of(self, title: str) -> bool:
        """Whether *title* is a part of one of its AE titles; empty: any."""
        titles = (self.caller.calling_ae_title, self.caller.called_ae_title)
        return not title or any(title.lower() in one.lower() for one in titles)


@dataclass(frozen=True, slots=True, kw_only=True)
class AssociationEndedByHand(WingNotice):
    """Somebody has ended an association.

    Attributes:
        caller: the peer whose it was.
        by: who has ended it.
    """

    caller: Caller
    by: Caller


def seen(task: AssociationDriver, began: float) -> LiveAssociation:
    """An association as it is at this moment.

    Args:
        began: when, by trio's clock.
    """
    return LiveAssociation(
        caller=task.caller,
        seconds=task.now() - began,
        performing=tuple(operation_name(type(one)) for one in task.requests()),
        performed=task.performed,
        bytes_received=task.traffic.bytes_received,
        bytes_sent=task.traffic.bytes_sent,
        contexts=tuple(task.negotiated.contexts.values()),
    )
