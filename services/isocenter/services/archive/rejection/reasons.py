"""Reasons of rejection, and rules for each (IHE RAD TF-2 4.66)."""

from __future__ import annotations

from enum import Enum
from typing import Final

from isocenter.engine.fast_init import dataclass

#: SOP Class of what a rejection note is.
KEY_OBJECT_SELECTION: Final = "1.2.840.10008.5.1.4.1.1.88.59"
#: Coding Scheme Designator of all of them.
DCM: Final = "DCM"


class RejectionReason(Enum):
    """Document titles of rejection notes (PS3.16 CID 7010); the words are those of settings."""

    QUALITY = "quality"
    PATIENT_SAFETY = "patient-safety"
    WORKLIST = "worklist"
    RETENTION = "retention"

    @property
    def code(self) -> str:
        """Code Value."""
        return _CODES[self][0]

    @property
    def meaning(self) -> str:
        """Code Meaning."""
        return _CODES[self][1]

    @classmethod
    def of_code(cls, code: str, scheme: str) -> RejectionReason | None:
        """What a title says; None: it rejects nothing."""
        if scheme != DCM:
            return None
        return next((each for each in cls if each.code == code), None)


_CODES = {
    RejectionReason.QUALITY: ("113001", "Rejected for Quality Reasons"),
    RejectionReason.PATIENT_SAFETY: ("113037", "Rejected for Patient Safety Reasons"),
    RejectionReason.WORKLIST: ("113038", "Incorrect Modality Worklist Entry"),
    RejectionReason.RETENTION: ("113039", "Data Retention Policy Expired"),
}


class SentAgain(Enum):
    """What becomes of a rejected object that is sent once more."""

    REFUSED = "refused"
    IGNORED = "ignored"
    ACCEPTED = "accepted"


@dataclass(frozen=True, slots=True, kw_only=True)
class RejectionRules:
    """What an archive does with rejection notes.

    Attributes:
        enabled: whether they are anything but objects.
        senders: AE titles whose notes count; empty: those of all who may store.
        shown: reasons for which rejected objects are found and retrieved as before.
        refused, accepted: reasons for which a rejected object that is sent again is refused,
            or is an object like any other; for the others nobody is told that it is dropped.
    """

    enabled: bool = True
    senders: frozenset[str] = frozenset()
    shown: frozenset[RejectionReason] = frozenset()
    refused: frozenset[RejectionReason] = frozenset(
        {RejectionReason.PATIENT_SAFETY, RejectionReason.WORKLIST}
    )
    accepted: frozenset[RejectionReason] = frozenset({RejectionReason.RETENTION})

    def counts_from(self, ae_title: str) -> bool:
        """Whether notes of a sender are obeyed."""
        return not self.senders or ae_title in self.senders

    def sent_again(self, reason: RejectionReason) -> SentAgain:
        """What becomes of a rejected object that is sent once more."""
        if reason in self.refused:
            return SentAgain.REFUSED
        return SentAgain.ACCEPTED if reason in self.accepted else SentAgain.IGNORED
