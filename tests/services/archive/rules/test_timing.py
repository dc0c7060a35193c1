"""Times of rules: from when to when, in which hours, and when they send."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest

from isocenter.services.archive.rules.conditions import Sender
from isocenter.services.archive.rules.evaluation import Rule, Rules
from isocenter.services.archive.rules.explanation import explain
from isocenter.services.archive.rules.timing import NextMoment
from isocenter.services.settings.rules import RuleFault, parse_rule, table_of

SENDER = Sender(calling_ae_title="CT1")
#: A Monday, by the clock of this machine.
NOON = datetime(2026, 11, 30, 12).timestamp()  # noqa: DTZ001
HOUR = 3_600.0


def rule(**table: object) -> Rule:
    return parse_rule({"name": "r", "forward": ["A"], **table})


def sent_after(one: Rule, now: float) -> float | None:
    """Seconds until it sends; None: it is not looked at."""
    decision = Rules([one], now=lambda: now).evaluate(SENDER, {})
    return decision.routes[0].delay if decision.routes else None


def test_a_rule_holds_from_when_to_when_it_says() -> None:
    one = rule(effective_from="2026-11-30 12:00", effective_until="2026-11-30T13:00")
    moments = (NOON - 1, NOON, NOON + HOUR - 1, NOON + HOUR)
    assert [sent_after(one, now) for now in moments] == [None, 0, 0, None]
    dated = rule(effective_from=date(2026, 11, 30))
    assert sent_after(dated, NOON) == 0
    assert sent_after(dated, NOON - 13 * HOUR) is None


def test_a_rule_holds_in_its_hours_and_says_why_it_does_not() -> None:
    one = rule(hours="mon-fri 18:00-8:00")
    assert sent_after(one, NOON) is None
    assert sent_after(one, NOON + 7 * HOUR) == 0
    (said,) = explain([one], SENDER, {}, lambda: NOON)
    assert said.why == "it holds in its hours only: mon-fri 18:00-8:00"


def test_what_it_forwards_waits_for_the_next_moment_of_its_schedule() -> None:
    at = datetime(2026, 11, 30, 1, tzinfo=UTC).timestamp()
    nightly = rule(schedule="daily 02:00")
    assert sent_after(nightly, at) == HOUR
    assert sent_after(nightly, at + HOUR) == 24 * HOUR
    berlin = rule(schedule="cron 0 3 * * mon-fri", time_zone="Europe/Berlin")
    assert sent_after(berlin, at) == HOUR
    # What has to wait anyway is sent at the next moment after that.
    assert sent_after(rule(schedule="daily 02:00", delay_minutes=90), at) == 25 * HOUR


def test_the_next_moment_is_computed_once_until_it_has_passed() -> None:
    asked: list[float] = []

    def next_after(at: float) -> float | None:
        asked.append(at)
        return (at // 10 + 1) * 10 if at < 30 else None

    found = NextMoment(next_after)
    assert [found(at) for at in (1, 5, 9, 10, 19, 3, 30)] == [10, 10, 10, 20, 20, 10, None]
    assert asked == [1, 10, 3, 30]


@pytest.mark.parametrize(
    "table",
    [
        {"effective_from": "2026-12-01T08:00:00+01:00"},
        {"effective_until": "2026-12-01 08:00", "hours": "mon 8:00-9:00"},
        {"schedule": "cron 0 2 * * mon-fri", "time_zone": "Europe/Berlin"},
    ],
)
def test_times_are_written_as_they_are_read(table: dict[str, object]) -> None:
    one = rule(**table)
    assert parse_rule(table_of(one)) == one


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"effective_from": "tomorrow"}, "effective_from must be a date"),
        ({"effective_until": 5}, "effective_until must be a date"),
        (
            {"effective_from": "2026-12-02", "effective_until": "2026-12-01"},
            "effective_until must be later",
        ),
        ({"hours": "at night"}, "hours: hours are windows"),
        ({"hours": 8}, "hours: "),
        ({"schedule": "nightly"}, "schedule: a schedule is"),
        ({"schedule": "every 6h"}, "delay_minutes"),
        ({"schedule": "daily 02:00", "time_zone": "Mars"}, "no time zone"),
        ({"time_zone": "UTC"}, "add schedule"),
        ({"schedule": "daily 02:00", "forward": []}, "schedule is about sending"),
    ],
)
def test_times_that_cannot_be_are_named(table: dict[str, object], said: str) -> None:
    with pytest.raises(RuleFault, match=said):
        rule(**table)
