"""Account of objects that are sent, for the audit trail."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from isocenter.services.archive.ports import StoredInstance
from isocenter.services.notices import Caller, InstancesSent, Notices, TransferStarted


class SentAccount:
    """Tells that a transfer begins, and what came of it.

    Args:
        command: by which they are sent: ``C-STORE``.
        destination: who gets them; *address* where, ``host:port``.
        instances: all that are to be sent.
    """

    def __init__(
        self,
        destination: str,
        address: str,
        instances: Sequence[StoredInstance],
        *,
        command: str = "C-STORE",
    ) -> None:
        self._sent: Counter[str] = Counter()
        self._unsent: Counter[str] = Counter()
        #: Why the first of those could not be sent.
        self._why = ""
        self._is_begun = False
        self._begun = TransferStarted(
            caller=Caller(association="", address=""),
            command=command,
            destination=destination,
            destination_address=address,
            studies=Counter(stored.study_instance_uid for stored in instances),
            sop_classes=frozenset(stored.sop_class_uid for stored in instances),
        )

    def begin(self, notices: Notices) -> None:
        """A connection stands: objects are about to be sent."""
        if not self._is_begun:
            self._is_begun = True
            notices.publish(self._begun)

    def count(self, stored: StoredInstance, fault: str) -> None:
        """An object was sent, or was not; *fault*: why."""
        self._why = self._why or fault
        (self._unsent if fault else self._sent)[stored.study_instance_uid] += 1

    def end(self, notices: Notices) -> None:
        """So many were, and so many were not."""
        if not self._sent and not self._unsent:
            return
        begun = self._begun
        notices.publish(
            InstancesSent(
                caller=begun.caller,
                command=begun.command,
                destination=begun.destination,
                destination_address=begun.destination_address,
                studies=begun.studies,
                sop_classes=begun.sop_classes,
                completed=self._sent.total(),
                failed=self._unsent.total(),
                warning=0,
                status=None,
                sent=self._sent,
                unsent=self._unsent,
                why=self._why,
            )
        )
