"""Groups of linked patients: what follows from links, and from telling patients apart."""

from __future__ import annotations

from itertools import combinations
from typing import Final

from hypothesis import given, settings
from hypothesis import strategies as st

from isocenter.services.archive.corrections.values import PatientKey
from isocenter.services.workflow.reconciliation.values import (
    Identifier,
    PatientLink,
    ToldApartError,
)
from isocenter.storage.stores import Stores, open_sqlite_stores

PEOPLE: Final = [Identifier("P1", "A"), Identifier("P1", "B"), *map(Identifier, "QRST")]
PAIRS: Final = list(combinations(range(len(PEOPLE)), 2))
#: Link, unlink, tell apart; and whom.
STEPS: Final = st.lists(
    st.tuples(st.sampled_from(["link", "link", "unlink", "apart"]), st.sampled_from(PAIRS)),
    max_size=14,
)


async def answered(stores: Stores, asked: Identifier, *, of_any: bool = False) -> set[Identifier]:
    """Whom a question for a patient is answered for, beside that one."""
    found = await stores.links.linked(asked.patient_id, None if of_any else asked.issuer)
    assert len(set(found)) == len(found)
    assert all(isinstance(each, PatientKey) for each in found)
    return {Identifier(each.patient_id, each.issuer) for each in found}


def group(member: Identifier, links: set[frozenset[Identifier]]) -> set[Identifier]:
    found = {member}
    while more := {each for link in links if link & found for each in link} - found:
        found |= more
    return found


@given(STEPS)
@settings(max_examples=60, deadline=None)
async def test_nobody_is_answered_for_two_who_were_told_apart(
    steps: list[tuple[str, tuple[int, int]]],
) -> None:
    """Whatever is linked, unlinked and told apart, in whatever order."""
    links: set[frozenset[Identifier]] = set()
    apart: set[frozenset[Identifier]] = set()
    async with open_sqlite_stores(":memory:") as stores:
        book = stores.reconciliation
        for what, (first, second) in steps:
            one, other = PEOPLE[first], PEOPLE[second]
            link, pair = PatientLink(one=one, other=other, actor="al", at=1.0), {one, other}
            match what:
                case "link":
                    joined = group(one, links) | group(other, links)
                    is_wrong = any(each <= joined and each != pair for each in apart)
                    is_known = pair in links
                    try:
                        assert await book.link(link) is not is_known
                    except ToldApartError:
                        assert is_wrong
                        assert not is_known
                    else:
                        assert is_known or not is_wrong
                        if not is_known:
                            links.add(frozenset(pair))
                            apart.discard(frozenset(pair))
                case "unlink":
                    assert await book.unlink(link) is (pair in links)
                    if pair in links:
                        links.discard(frozenset(pair))
                        if other in group(one, links):
                            apart.add(frozenset(pair))
                case _:
                    assert await book.tell_apart(link) is (pair not in apart)
                    apart.add(frozenset(pair))
        wrong = {each for each in apart if group(min(each, key=PEOPLE.index), links) >= each}
        for asked in PEOPLE:
            expected = group(asked, links)
            if any(each <= expected for each in apart):
                expected = {asked}
            assert await answered(stores, asked) == expected - {asked}
            together = await answered(stores, asked, of_any=True)
            assert not any(each <= together for each in apart)
            assert asked not in together
        found = await book.contradictions(limit=99)
        assert {frozenset((each.one, each.other)) for each in found} == wrong
        for each in found:
            assert {frozenset((link.one, link.other)) for link in each.links} == {
                link for link in links if link <= group(each.one, links)
            }
