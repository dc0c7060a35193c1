"""Completion of studies: the rules, as pure functions.

Nothing in DICOM says that a study has ended.  What comes nearest, in this order: a performed
procedure step that ended and names what it made (PS3.4 F.7), the modality asking for storage
commitment of what it sent (PS3.4 J), and that nothing more has come for a while.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import field
from enum import Enum

from isocenter.engine.fast_init import dataclass


class Condition(Enum):
    """What may make a study complete."""

    #: All steps of the study have ended, and all instances that they name are here.
    MPPS = "mpps"
    #: Storage commitment was asked for each instance of the study.
    COMMITMENT = "commitment"
    #: Nothing came for a while.
    QUIET = "quiet"


#: The reason when nothing else was found in `CompletionRules.longest_wait_seconds`.
LONGEST_WAIT = "longest wait"


@dataclass(frozen=True, slots=True, kw_only=True)
class CompletionRules:
    """What counts, and how long each wait is, in seconds.

    Attributes:
        quiet_by_modality: instead of *quiet_seconds*; in a study of several modalities the
            longest counts.
        settle_seconds: between the last news and complete, when MPPS or commitment say so.
        longest_wait_seconds: after so long without news a study is complete whatever is missing.
    """

    complete_by: frozenset[Condition] = frozenset(Condition)
    quiet_seconds: float = 60.0
    quiet_by_modality: Mapping[str, float] = field(default_factory=dict)
    settle_seconds: float = 5.0
    longest_wait_seconds: float = 86_400.0

    def quiet_of(self, modalities: Iterable[str]) -> float:
        """How long a study of these modalities has to be quiet."""
        return max(
            (self.quiet_by_modality.get(each, self.quiet_seconds) for each in modalities),
            default=self.quiet_seconds,
        )

    def first_look(self, modality: str) -> float:
        """After an instance of *modality* came, how long the study cannot be complete."""
        waits = [self.longest_wait_seconds]
        if Condition.QUIET in self.complete_by:
            waits.append(self.quiet_of([modality]))
        if self.complete_by & {Condition.MPPS, Condition.COMMITMENT}:
            waits.append(self.settle_seconds)
        return min(waits)


@dataclass(frozen=True, slots=True, kw_only=True)
class StepFacts:
    """A performed procedure step of the study.

    Attributes:
        changed_at: seconds since 1970.
        named: instances that it names; *missing*: those of them that are not here.
    """

    is_final: bool
    changed_at: float
    named: int
    missing: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyFacts:
    """What is known of a study.

    Attributes:
        last_at: when its last instance came, in seconds since 1970.
        asked_at: when commitment was last asked for; None: not for all of its instances.
    """

    last_at: float
    modalities: tuple[str, ...]
    steps: tuple[StepFacts, ...] = ()
    asked_at: float | None = None


@dataclass(frozen=True, slots=True)
class CompleteStudy:
    """It is, by this reason."""

    reason: str


@dataclass(frozen=True, slots=True)
class ReceivingStudy:
    """It is not, and cannot be before *due_at* unless something is heard of it."""

    due_at: float


def decide_completion(
    facts: StudyFacts, rules: CompletionRules, now: float
) -> CompleteStudy | ReceivingStudy:
    """Whether the study is complete at *now*."""
    steps = facts.steps if Condition.MPPS in rules.complete_by else ()
    # A step that ends is news: what it made may still be on its way.
    # What a clock said that was set back since is none.
    news_at = max([facts.last_at, *(each.changed_at for each in steps if each.changed_at <= now)])
    dues: list[tuple[float, str]] = [(news_at + rules.longest_wait_seconds, LONGEST_WAIT)]
    if all(step.is_final for step in steps):
        if any(step.named for step in steps) and not any(step.missing for step in steps):
            dues.append((news_at + rules.settle_seconds, Condition.MPPS.value))
        if Condition.COMMITMENT in rules.complete_by and facts.asked_at is not None:
            asked_at = facts.asked_at if facts.asked_at <= now else facts.last_at
            due_at = max(facts.last_at, asked_at) + rules.settle_seconds
            dues.append((due_at, Condition.COMMITMENT.value))
        if Condition.QUIET in rules.complete_by:
            quiet = rules.quiet_of(facts.modalities)
            dues.append((news_at + quiet, Condition.QUIET.value))
    due_at, reason = min(dues)
    return CompleteStudy(reason) if due_at <= now else ReceivingStudy(due_at)
