"""Assessment of an AI result by a person, as a value."""

from __future__ import annotations

from enum import Enum
from typing import Final

from isocenter.engine.error_codes import ErrorCode
from isocenter.engine.errors import IsocenterError
from isocenter.engine.fast_init import dataclass

_MOST_TEXT: Final = 1_000
_MOST_INSTITUTION: Final = 62


class Verdict(Enum):
    """What somebody thinks of a result."""

    ACCEPT = "accept"
    #: It is right once it is changed: in words, or by another object.
    MODIFY = "modify"
    REJECT = "reject"


class AssessmentStatus(Enum):
    """How far an assessment is."""

    DRAFT = "draft"
    FINAL = "final"
    #: It takes the place of a final one.
    AMENDED = "amended"


#: Why a result is rejected: codes of PS3.16, and of ours where it has none, with their meanings.
REASONS: Final = {
    "113001": "Rejected for Quality Reasons",
    "113037": "Rejected for Patient Safety Reasons",
    "AI-21": "False positive",
    "AI-22": "False negative",
    "AI-23": "Wrong location or extent",
    "AI-24": "Wrong classification",
}


class AssessmentError(IsocenterError):
    """An assessment that cannot be; the message says why, and shows no value."""

    error_code = ErrorCode.AI


@dataclass(frozen=True, slots=True, kw_only=True)
class Opinion:
    """What somebody says of a result.

    Attributes:
        institution: of the assessor; a final assessment is verified in its name.
        comment: in words; of a modification, what is to be changed.
        reason: code of `REASONS`, of a rejection.
        modified: SOP Instance UID of the object that is right; empty: none is.
    """

    verdict: Verdict
    status: AssessmentStatus = AssessmentStatus.FINAL
    institution: str = ""
    comment: str = ""
    reason: str = ""
    modified: str = ""

    def check(self) -> None:
        """Whether it says all that its verdict needs, and nothing that does not belong to it.

        Raises:
            AssessmentError: it does not.
        """
        if self.verdict is Verdict.MODIFY and not (self.comment.strip() or self.modified):
            raise AssessmentError("say what is to be changed: comment, or modified")
        if self.modified and self.verdict is not Verdict.MODIFY:
            raise AssessmentError("modified belongs to the verdict modify")
        if self.reason and self.verdict is not Verdict.REJECT:
            raise AssessmentError("reason belongs to the verdict reject")
        if self.reason and self.reason not in REASONS:
            known = ", ".join(f"{code} ({meaning})" for code, meaning in REASONS.items())
            raise AssessmentError(f"reason is one of {known}")
        if self.verdict is Verdict.REJECT and not (self.reason or self.comment.strip()):
            raise AssessmentError("say why: reason, or comment")
        if len(self.comment) > _MOST_TEXT or len(self.institution) > _MOST_INSTITUTION:
            raise AssessmentError(
                f"comment has at most {_MOST_TEXT} characters, institution {_MOST_INSTITUTION}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Assessment:
    """An assessment that was stored; it is an object of the study of its result.

    Attributes:
        result: SOP Instance UID of what was assessed.
        predecessor: SOP Instance UID of the one whose place it takes; empty: of none.
        at: seconds since 1970.
    """

    sop_instance_uid: str
    study_instance_uid: str
    result: str
    result_class: str
    service: str
    assessor: str
    opinion: Opinion
    predecessor: str = ""
    at: float
