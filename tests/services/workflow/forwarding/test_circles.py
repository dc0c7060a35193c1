"""Archives that forward to each other, in one event loop, over real associations."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial

import trio
import trio.testing

from isocenter.services import composition
from isocenter.services.association.server import ListenAddress, serve
from isocenter.services.composition.archive import ArchiveParts
from isocenter.services.settings.loading import load_settings
from isocenter.services.workflow.forwarding.ports import ForwardSummary
from isocenter.storage.database.forwarding import records
from services.archive_support import store, uid
from support.ports import free_port

PATIENCE = 60.0


@dataclass
class Member:
    """An archive of a circle."""

    parts: ArchiveParts

    async def rows(self) -> Sequence[ForwardSummary]:
        return await self.parts.stores.forwards.rows(limit=99)

    async def has(self) -> list[str]:
        return list(await self.parts.archive.index.get([uid(1)]))


@asynccontextmanager
async def circle(*names: str, changes: bool) -> AsyncIterator[list[Member]]:
    """Each forwards to the next one all that it gets.

    Args:
        changes: each writes its name into the objects, and takes other forms of what it has.
    """
    ports = {name: free_port() for name in names}
    async with AsyncExitStack() as stack:
        nursery = await stack.enter_async_context(trio.open_nursery())
        members = []
        for name, to in zip(names, (*names[1:], names[0]), strict=True):
            edit = f'coerce = [{{ set = "InstitutionName", value = "{name}" }}], '
            edit = edit if changes else ""
            settings = load_settings(
                environ={},
                overrides={
                    "storage.data_dir": ":memory:",
                    "server.ae_title": name,
                    "storage.duplicates": "replace" if changes else "ignore",
                    "peers": [f"{to}@127.0.0.1:{ports[to]}"],
                    "rules": f'[{{ name = "on", {edit}forward = ["{to}"] }}]',
                    "forwarding.first_retry": 0.05,
                    "forwarding.warnings": "accept",
                    "jobs.enabled": False,
                },
            )
            parts = await stack.enter_async_context(composition.open_archive_parts(settings))
            registry = composition.build_services(settings, parts.archive, parts.stores, None)
            binds = [ListenAddress(host="127.0.0.1", port=ports[name])]
            await nursery.start(partial(serve, registry, binds))
            members.append(Member(parts))
        yield members
        nursery.cancel_scope.cancel()


async def until(members: Sequence[Member], is_so: Callable[[list[Counter[str]]], bool]) -> None:
    with trio.fail_after(PATIENCE):
        while True:
            found = [Counter(row.state.value for row in await one.rows()) for one in members]
            if is_so(found):
                return
            await trio.testing.wait_all_tasks_blocked(0.01)


async def test_two_that_forward_to_each_other_send_each_object_once() -> None:
    async with circle("ONE", "TWO", changes=False) as (one, two):
        await store(one.parts.archive, 1)
        await until([one, two], lambda found: found[0] == {"done": 1})
        assert await two.has()
        assert await two.rows() == [], "nothing goes back to where it came from"


async def test_what_comes_round_a_circle_unchanged_ends_where_it_began() -> None:
    async with circle("ONE", "TWO", "THREE", changes=False) as members:
        await store(members[0].parts.archive, 1)
        await until(members, lambda found: [each["done"] for each in found] == [1, 1, 1])
        attempts = [row.attempts for one in members for row in await one.rows()]
        assert attempts == [1, 1, 1]


async def test_what_all_change_ends_as_a_dead_letter_and_is_lost_nowhere() -> None:
    async with circle("ONE", "TWO", "THREE", changes=True) as members:
        await store(members[0].parts.archive, 1)
        await until(members, lambda found: any(each["failed"] for each in found))
        rows = [row for one in members for row in await one.rows()]
        (told,) = [row for row in rows if row.state.value == "failed"]
        assert told.last_fault == records.IN_A_CIRCLE
        assert all([await one.has() for one in members])
        await until(members, lambda found: not any(each["due"] for each in found))
