"""When a study is complete: the rules alone."""

from __future__ import annotations

from typing import Any

import pytest

from isocenter.services.workflow.events.study_completion import (
    LONGEST_WAIT,
    CompleteStudy,
    CompletionRules,
    Condition,
    ReceivingStudy,
    StepFacts,
    StudyFacts,
    decide_completion,
)

RULES = CompletionRules(
    quiet_seconds=60,
    quiet_by_modality={"US": 300, "CR": 10},
    settle_seconds=5,
    longest_wait_seconds=1_000,
)
LAST = 10_000.0


def facts(*steps: StepFacts, **others: Any) -> StudyFacts:
    return StudyFacts(**{"last_at": LAST, "modalities": ("CT",), "steps": steps, **others})


def step(*, final: bool = True, at: float = LAST, named: int = 2, missing: int = 0) -> StepFacts:
    return StepFacts(is_final=final, changed_at=at, named=named, missing=missing)


def only(*conditions: Condition) -> CompletionRules:
    return CompletionRules(
        complete_by=frozenset(conditions),
        quiet_seconds=60,
        settle_seconds=5,
        longest_wait_seconds=1_000,
    )


def holds_from(study: StudyFacts, rules: CompletionRules, seconds: float, reason: str) -> bool:
    """Whether the study becomes complete just so many seconds after its last instance."""
    due_at = LAST + seconds
    before = decide_completion(study, rules, due_at - 0.001)
    return before == ReceivingStudy(due_at) and decide_completion(
        study, rules, due_at
    ) == CompleteStudy(reason)


def test_it_is_quiet() -> None:
    assert holds_from(facts(), RULES, 60, "quiet")


@pytest.mark.parametrize(
    ("modalities", "seconds"), [(("US",), 300), (("CR",), 10), (("CR", "CT"), 60), ((), 60)]
)
def test_quiet_is_that_of_the_slowest_modality(modalities: tuple[str, ...], seconds: float) -> None:
    assert holds_from(facts(modalities=modalities), RULES, seconds, "quiet")


def test_a_step_in_progress_keeps_it_open_for_the_longest_wait() -> None:
    assert holds_from(facts(step(final=False)), RULES, 1_000, LONGEST_WAIT)
    assert holds_from(facts(step(final=False, at=LAST + 50)), RULES, 1_050, LONGEST_WAIT)
    assert holds_from(facts(step(), step(final=False), asked_at=LAST), RULES, 1_000, LONGEST_WAIT)


def test_steps_that_ended_with_all_they_name_need_only_settle() -> None:
    assert holds_from(facts(step()), RULES, 5, "mpps")
    # The step may end after the last instance, or before.
    assert holds_from(facts(step(at=LAST + 7)), RULES, 12, "mpps")
    assert holds_from(facts(step(at=LAST - 70)), RULES, 5, "mpps")
    # A discontinued step that names nothing says nothing, and hinders nobody.
    assert holds_from(facts(step(), step(named=0)), RULES, 5, "mpps")


def test_a_step_that_names_what_is_not_here_leaves_it_to_quiet() -> None:
    assert holds_from(facts(step(missing=1)), RULES, 60, "quiet")
    assert holds_from(facts(step(), step(missing=1)), RULES, 60, "quiet")
    assert holds_from(facts(step(named=0)), RULES, 60, "quiet")


def test_the_end_of_a_step_is_news() -> None:
    assert holds_from(facts(step(at=LAST + 100, missing=1)), RULES, 160, "quiet")
    assert holds_from(facts(step(at=LAST + 100)), RULES, 105, "mpps")


def test_commitment_that_was_asked_for_needs_only_settle() -> None:
    assert holds_from(facts(asked_at=LAST), RULES, 5, "commitment")
    assert holds_from(facts(asked_at=LAST + 3), RULES, 8, "commitment")


def test_only_conditions_that_count() -> None:
    both = facts(step(), asked_at=LAST)
    assert holds_from(both, only(Condition.QUIET), 60, "quiet")
    assert holds_from(both, only(Condition.COMMITMENT), 5, "commitment")
    assert holds_from(both, only(Condition.MPPS), 5, "mpps")
    # A step in progress keeps nothing open where MPPS does not count.
    assert holds_from(facts(step(final=False)), only(Condition.QUIET), 60, "quiet")


def test_no_study_is_open_for_ever() -> None:
    assert holds_from(facts(), only(Condition.MPPS), 1_000, LONGEST_WAIT)
    assert holds_from(facts(), only(), 1_000, LONGEST_WAIT)


@pytest.mark.parametrize(
    ("rules", "seconds"),
    [
        (RULES, 5),
        (only(Condition.QUIET), 60),
        (only(Condition.MPPS), 5),
        (only(), 1_000),
    ],
)
def test_nothing_can_be_complete_before_the_first_look(
    rules: CompletionRules, seconds: float
) -> None:
    assert rules.first_look("CT") == seconds
    for study in (facts(), facts(step()), facts(asked_at=LAST)):
        assert isinstance(decide_completion(study, rules, LAST + seconds - 0.001), ReceivingStudy)
