"""Publications of manifests in the database."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from isocenter.services.integration.sharing.ports import Publication
from isocenter.storage.database.publications import DatabasePublications
from storage.databases import open_database

pytestmark = pytest.mark.usefixtures("each_database")


@pytest.fixture
async def book() -> AsyncIterator[DatabasePublications]:
    async with open_database() as database:
        yield DatabasePublications(database)


async def test_what_is_wanted_is_kept_for_each_study_and_repository(
    book: DatabasePublications,
) -> None:
    assert await book.want("b", "1.2", is_wanted=True)
    assert await book.want("a", "1.2", is_wanted=False)
    assert await book.want("a", "1.1", is_wanted=True)
    assert not await book.want("a", "1.1", is_wanted=True), "that was said before"
    assert await book.get("a", "9.9") is None
    assert await book.get("b", "1.2") == Publication(repository="b", study_instance_uid="1.2")
    assert [one.repository for one in await book.of_study("1.2")] == ["a", "b"]
    uids = [one.study_instance_uid for one in await book.of_repository("a", limit=10)]
    assert uids == ["1.1", "1.2"]
    rest = await book.of_repository("a", after="1.1", limit=1)
    assert [one.study_instance_uid for one in rest] == ["1.2"]


async def test_a_rule_does_not_undo_what_somebody_has_said(book: DatabasePublications) -> None:
    await book.want("a", "1.1", is_wanted=False)
    assert not await book.want("a", "1.1", is_wanted=True, also_known=False)
    found = await book.get("a", "1.1")
    assert found is not None
    assert not found.is_wanted
    assert await book.want("a", "1.1", is_wanted=True)


async def test_what_was_sent_is_known_until_it_is_settled(book: DatabasePublications) -> None:
    await book.want("a", "1.1", is_wanted=True)
    wanted = await book.get("a", "1.1")
    assert wanted is not None
    assert await book.sending(wanted, "2.25.1", "digest", at=5.0, now=6.0)
    assert not await book.sending(wanted, "2.25.2", "digest", at=5.0, now=7.0), "somebody has"
    sent = await book.get("a", "1.1")
    assert sent is not None
    assert (sent.state, sent.sent_uid, sent.sent_digest, sent.sent_at) == (
        "sent", "2.25.1", "digest", 5.0,
    )  # fmt: skip
    published = Publication(
        repository="a", study_instance_uid="1.1", document_uid="2.25.1",
        reference="DocumentReference/1", digest="digest", instances=7, published_at=6.0,
    )  # fmt: skip
    assert sent.under_way_since == 6.0
    await book.answered("a", "1.1", "2.25.9")
    assert await book.get("a", "1.1") == sent
    await book.answered("a", "1.1", "2.25.1")
    sent = replace(sent, under_way_since=None)
    assert await book.get("a", "1.1") == sent
    assert not await book.settled(published, wanted), "another was sent since"
    assert await book.settled(published, sent)
    assert not await book.settled(published, sent)
    assert await book.get("a", "1.1") == published
    assert published.state == "published"


async def test_what_is_wanted_meanwhile_is_not_settled(book: DatabasePublications) -> None:
    await book.want("a", "1.1", is_wanted=True)
    known = await book.get("a", "1.1")
    assert known is not None
    await book.want("a", "1.1", is_wanted=False)
    await book.settled(replace(known, document_uid="2.25.1"), known)
    found = await book.get("a", "1.1")
    assert found is not None
    assert (found.is_wanted, found.state) == (False, "to be withdrawn")


async def test_what_is_behind_is_due_until_somebody_has_caught_up(
    book: DatabasePublications,
) -> None:
    for study in ("1.1", "1.2"):
        await book.want("a", study, is_wanted=True)
    await book.behind("a", "1.1", 5.0)
    await book.behind("a", "1.1", 7.0)
    assert await book.due(6.9, 10) == []
    (due,) = await book.due(7.0, 10)
    assert (due.study_instance_uid, due.behind_since) == ("1.1", 5.0)
    await book.tried("a", "1.1", "it answered 503", at=8.0, next_attempt_at=300.0)
    assert await book.due(299.0, 10) == []
    (tried,) = await book.all_behind(10)
    assert (tried.attempts, tried.fault, tried.behind_since) == (1, "it answered 503", 5.0)
    assert await book.backlog() == {"a": (1, 5.0)}
    assert await book.caught_up(tried, 400.0)
    assert await book.get("a", "1.1") == Publication(repository="a", study_instance_uid="1.1")
    assert await book.backlog() == {}


async def test_nobody_has_caught_up_with_what_is_wanted_no_more(
    book: DatabasePublications,
) -> None:
    await book.want("a", "1.1", is_wanted=True)
    known = await book.get("a", "1.1")
    assert known is not None
    await book.behind("a", "1.1", 5.0)
    await book.want("a", "1.1", is_wanted=False)
    assert not await book.caught_up(known, 6.0)
    assert len(await book.due(6.0, 10)) == 1


async def test_what_was_compared_longest_ago_is_compared_next(book: DatabasePublications) -> None:
    for study in ("1.1", "1.2", "1.3", "1.4"):
        await book.want("a", study, is_wanted=study != "1.4")
    await book.behind("a", "1.3", 5.0)
    await book.compared("a", "1.1", 20.0)
    await book.compared("a", "1.2", 10.0)
    found = [one.study_instance_uid for one in await book.to_compare(100.0, 10)]
    assert found == ["1.2", "1.1"], "1.3 is behind, and of 1.4 there is nothing to compare"
    assert await book.to_compare(10.0, 10) == []
    nothing = Publication(repository="a", study_instance_uid="1.4")
    assert await book.settled(replace(nothing, document_uid="2.25.1"), nothing)
    assert [one.study_instance_uid for one in await book.to_compare(10.0, 10)] == ["1.4"]
    assert await book.standing() == {"a": 1}
