"""What is shown where objects say different things."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from isocenter.services.archive.index.query import CombinedRange, Criterion, EmptyValue, SingleValue
from isocenter.services.archive.index.shown_values import Said, Statements

NAME, BIRTH_DATE, BIRTH_TIME = 0x00100010, 0x00100030, 0x00100032


def said(name: str = "", date: str = "", whose: int = 1) -> Said:
    return Said(f"{name} {date}", whose, {NAME: name, BIRTH_DATE: date, BIRTH_TIME: ""})


def shown(
    statements: Sequence[Said],
    tags: Collection[int],
    criteria: Sequence[Criterion],
    combined: Sequence[CombinedRange],
    own: str | None = None,
) -> dict[int, str]:
    return Statements(statements, tags, criteria, combined).shown(own)


def ask(match: SingleValue | EmptyValue, tag: int = NAME) -> list[Criterion]:
    return [Criterion(tag, match)]


def test_the_first_that_matches_counts() -> None:
    statements = [said("A"), said("B"), said("B", "2000")]
    assert shown(statements, [NAME], [], []) == {NAME: "A"}
    assert shown(statements, [NAME], ask(SingleValue("B")), []) == {NAME: "B"}


def test_gaps_are_filled_from_the_same_patient() -> None:
    statements = [said("A"), said("B", "1999", whose=2), said("", "2000"), said("", "2001")]
    assert shown(statements, [NAME, BIRTH_DATE], [], []) == {NAME: "A", BIRTH_DATE: "2000"}


def test_what_is_asked_for_is_not_filled() -> None:
    statements = [said("A"), said("A", "20000101")]
    assert shown(statements, [BIRTH_DATE], ask(EmptyValue(), BIRTH_DATE), []) == {BIRTH_DATE: ""}
    combined = [CombinedRange(BIRTH_DATE, BIRTH_TIME, "19990101000000.000000", None)]
    assert shown(statements, [BIRTH_DATE], [], combined) == {BIRTH_DATE: "20000101"}


def test_when_none_matches_any_more_the_first_is_shown() -> None:
    assert shown([said("A"), said("B")], [NAME], ask(SingleValue("C")), []) == {NAME: "A"}


def test_what_an_instance_says_itself_goes_first_if_it_matches() -> None:
    statements = [said("A", "2000"), said("B"), said("C")]
    assert shown(statements, [NAME, BIRTH_DATE], [], [], "B ") == {NAME: "B", BIRTH_DATE: "2000"}
    assert shown(statements, [NAME], ask(SingleValue("C")), [], "B ") == {NAME: "C"}
    assert "B " in Statements(statements, [NAME], [], [])
    assert "D " not in Statements(statements, [NAME], [], [])
