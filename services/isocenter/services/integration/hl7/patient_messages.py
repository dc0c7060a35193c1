"""ADT messages are judged, done as corrections of the archive, and answered."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from isocenter.services.integration.hl7.adt import read_demands
from isocenter.services.integration.hl7.data_types import truncated
from isocenter.services.integration.hl7.errors import (
    RECORD_LOCKED,
    UNKNOWN_KEY_IDENTIFIER,
    Hl7Error,
    Location,
)
from isocenter.services.integration.hl7.message import Message
from isocenter.services.workflow.reconciliation.service import Reconciliation
from isocenter.services.workflow.reconciliation.values import (
    Attempt,
    AttemptOutcome,
    Demand,
    ReconciliationError,
    ReconciliationKind,
    UnknownPatientError,
)

_LONGEST_NAME: Final = 64


class PatientMessages:
    """Does what ADT messages say.

    All demands of a message are checked before the first is done.
    """

    def __init__(self, reconciliation: Reconciliation) -> None:
        self._reconciliation = reconciliation

    async def do(self, message: Message, address: str) -> str:
        """Do it, durably; in words, what that was.

        Args:
            address: of the sender, for the record.

        Raises:
            Hl7Error: it cannot be done; that it was attempted is kept.
            StorageError: it cannot be done now.
        """
        header = message.header
        sender = "|".join(filter(None, (header.text(3), header.text(4))))
        actor = truncated(f"{sender} at {address}" if sender else address, 2 * _LONGEST_NAME)
        event = header.text(9, 2)
        name = truncated(f"ADT^{event} {header.text(10)}", 2 * _LONGEST_NAME)
        try:
            demands = read_demands(message)
        except Hl7Error as error:
            nothing = Demand(kind=_kind_of(event), patients=())
            await self._reconciliation.failed(nothing, actor=actor, message=name, fault=str(error))
            raise
        does = self._reconciliation
        if len(demands) > 1:
            for number, demand in enumerate(demands, 1):
                with _told(number):
                    await does.check(demand, actor=actor, message=name)
        attempts: list[Attempt] = []
        for number, demand in enumerate(demands, 1):
            with _told(number):
                attempts.append(await does.do(demand, actor=actor, message=name))
        return _in_words(attempts)


@contextmanager
def _told(number: int) -> Iterator[None]:
    """What is wrong with the patient of a number, as the sender is told it."""
    place = Location("PID", 3, number)
    try:
        yield
    except UnknownPatientError as error:
        raise Hl7Error(str(error), place, UNKNOWN_KEY_IDENTIFIER) from error
    except ReconciliationError as error:
        raise Hl7Error(str(error), place, RECORD_LOCKED) from error


def _in_words(attempts: list[Attempt]) -> str:
    done = [each for each in attempts if each.outcome is AttemptOutcome.DONE]
    if not done:
        return "nothing to do"
    instances = sum(each.instances for each in done)
    return f"{', '.join(each.kind.value for each in done)}, {instances} instances"


def _kind_of(event: str) -> ReconciliationKind:
    """What a message that cannot be read was about, as far as its event tells."""
    match event:
        case "A24":
            return ReconciliationKind.LINK
        case "A37":
            return ReconciliationKind.UNLINK
        case "A18" | "A34" | "A36" | "A39" | "A40" | "A47":
            return ReconciliationKind.MERGE
        case "A43":
            return ReconciliationKind.MOVE_STUDY
        case _:
            return ReconciliationKind.UPDATE
