"""Counts of what a single service did, printed when it ends."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from isocenter.engine.dimse.status import StatusClass, classify
from isocenter.services.dicom.uid_registry import name_of
from isocenter.services.notices import (
    AssociationEstablished,
    AssociationRejected,
    InstanceRefused,
    InstanceStored,
    Listener,
    Notice,
    Notices,
    OperationEnded,
)


class ServiceStatistics:
    """Associations, operations by command, and objects.

    Args:
        show: gets a line for each object that came, or was refused; None: nobody wants it.
        also: gets all that is told.
    """

    def __init__(
        self, show: Callable[[str], None] | None = None, *, also: Listener | None = None
    ) -> None:
        self._show = show
        self._also = also
        self._established = 0
        self._rejected = 0
        self._operations: Counter[str] = Counter()
        self._failed: Counter[str] = Counter()
        self._outcomes: Counter[str] = Counter()
        self._bytes = 0

    def watch(self, notices: Notices) -> None:
        """Count what *notices* tell."""
        if self._also is not None:
            notices.subscribe(self._also)
        notices.subscribe(
            self._hear,
            (
                AssociationEstablished,
                AssociationRejected,
                OperationEnded,
                InstanceStored,
                InstanceRefused,
            ),
        )

    def text(self) -> str:
        """What was counted, in a few lines."""
        lines = [f"{self._established} associations, {self._rejected} rejected"]
        lines += [
            f"{command}: {count}, {self._failed[command]} failed"
            for command, count in sorted(self._operations.items())
        ]
        if self._outcomes:
            counts = ", ".join(f"{count} {what}" for what, count in sorted(self._outcomes.items()))
            lines.append(f"objects: {counts}; {self._bytes} bytes")
        return "\n".join(lines)

    def _hear(self, notice: Notice) -> None:
        match notice:
            case AssociationEstablished():
                self._established += 1
            case AssociationRejected():
                self._rejected += 1
            case OperationEnded(as_scp=True):
                self._operations[notice.command] += 1
                self._failed[notice.command] += (
                    notice.status is None or classify(notice.status) is StatusClass.FAILURE
                )
            case InstanceStored():
                self._outcomes[notice.outcome] += 1
                self._bytes += notice.size
                self._tell(notice.outcome, notice.sop_class_uid, notice.sop_instance_uid)
            case InstanceRefused():
                self._outcomes["refused"] += 1
                status = "" if notice.status is None else f" {notice.status:04X}H"
                self._tell(f"refused{status}", notice.sop_class_uid, notice.sop_instance_uid)

    def _tell(self, what: str, sop_class_uid: str, sop_instance_uid: str) -> None:
        if self._show is not None:
            self._show(f"{what}: {sop_instance_uid} ({name_of(sop_class_uid)})")
