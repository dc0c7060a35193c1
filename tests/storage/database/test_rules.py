"""Rules, and what they did, in the database."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from isocenter.services.archive.rules.ports import RuleCount, RuleFiring, StoredRule
from isocenter.storage.database.rule_history import DatabaseRuleHistory
from isocenter.storage.database.rules import DatabaseRules
from storage.databases import open_database

pytestmark = pytest.mark.usefixtures("each_database")

CT = StoredRule(name="CT", definition='{"forward": ["PACS"]}', changed_by="anna", priority=5)
MOST = 100


@pytest.fixture
async def store() -> AsyncIterator[DatabaseRules]:
    async with open_database() as database:
        yield DatabaseRules(database, now=lambda: 7.0)


async def names(store: DatabaseRules) -> list[str]:
    return [rule.name for rule in (await store.all()).rules]


async def test_each_change_is_a_new_revision_and_what_changes_nothing_is_none(
    store: DatabaseRules,
) -> None:
    before = await store.revision()
    assert await store.add(CT, MOST)
    (found,) = (await store.all()).rules
    assert found == replace(CT, position=1, changed_at=7.0)
    assert await store.revision() == before + 1
    assert not await store.add(replace(CT, definition="{}"), MOST)
    assert not await store.remove("MR")
    assert await store.revision() == before + 1
    assert await store.update(replace(found, is_enabled=False))
    assert not await store.update(replace(found, is_enabled=True)), "somebody was quicker"
    (found,) = (await store.all()).rules
    assert (found.is_enabled, found.version) == (False, 2)
    await store.switch(is_on=True)
    assert await store.revision() == before + 2
    await store.switch(is_on=False)
    assert not (await store.all()).is_on
    assert await store.remove("CT")
    assert await names(store) == []
    assert await store.revision() == before + 4


async def test_there_may_be_so_many(store: DatabaseRules) -> None:
    assert await store.add(CT, 1)
    assert not await store.add(replace(CT, name="MR"), 1)


async def test_an_order_keeps_the_priorities_that_they_have_together(store: DatabaseRules) -> None:
    for name, priority in (("a", 0), ("b", 9), ("c", 0), ("d", 3)):
        await store.add(replace(CT, name=name, priority=priority), MOST)
    assert await names(store) == ["b", "d", "a", "c"]
    assert not await store.reorder(["b", "d", "a"], "anna")
    assert not await store.reorder(["b", "d", "a", "a"], "anna")
    assert await store.reorder(["c", "b", "a", "d"], "bert")
    rules = (await store.all()).rules
    assert [(one.name, one.priority) for one in rules] == [("c", 9), ("b", 3), ("a", 0), ("d", 0)]
    assert {one.changed_by for one in rules} == {"bert"}
    # A new one is the last of its priority.
    await store.add(replace(CT, name="e", priority=0), MOST)
    assert await names(store) == ["c", "b", "a", "d", "e"]


async def test_what_rules_did_is_added_up_and_forgotten_but_for_its_number() -> None:
    async with open_database() as database:
        history = DatabaseRuleHistory(database)
        one = RuleFiring(
            rule="CT",
            study_instance_uid="1.2",
            calling_ae="CT1",
            objects=2,
            first_at=1.0,
            last_at=2.0,
        )
        await history.note([one, replace(one, study_instance_uid="1.3", last_at=9.0)])
        await history.note([replace(one, objects=3, first_at=4.0, last_at=5.0)])
        assert await history.counts() == {"CT": RuleCount(matched=7, last_at=9.0)}
        found = await history.firings(limit=10)
        assert [each.study_instance_uid for each in found] == ["1.3", "1.2"]
        assert await history.firings(study="1.2", limit=10) == [
            replace(one, objects=5, first_at=1.0, last_at=5.0)
        ]
        assert await history.firings(rule="MR", limit=10) == []
        assert await history.forget(6.0) == 1
        assert (await history.counts())["CT"].matched == 7
