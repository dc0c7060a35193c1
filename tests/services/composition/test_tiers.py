"""Archives with tiers, opened as the settings say: moving, crashing, reading, deleting."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from isocenter.services.archive.deletion.ports import DeletionRefusedError, TrashChoice
from isocenter.services.archive.deletion.values import Requester
from isocenter.services.archive.index.attributes import Level
from isocenter.services.archive.index.query import Criterion, Query, SingleValue
from isocenter.services.archive.object_location import ObjectLocation, StoreKind
from isocenter.services.archive.ports import StoredInstance
from isocenter.services.archive.reindexing import reindex
from isocenter.services.archive.tiers import mover as moving
from isocenter.services.archive.tiers.mover import MoveReport, StudyMoved, TierMover
from isocenter.services.archive.tiers.ports import TierOrder, TierPin
from isocenter.services.archive.tiers.tier import Tier, TierRule
from isocenter.services.archive.tiers.worker import CycleLimits, apply_rules, work_off_orders
from isocenter.services.archive.verification import verify
from isocenter.services.composition import open_archive_parts, trash_of
from isocenter.services.composition.archive import ArchiveParts
from isocenter.services.errors import StorageError
from isocenter.services.settings.sections.objects import ObjectsSettings
from isocenter.services.settings.sections.storage import StorageSettings
from isocenter.services.settings.sections.tiers import TierSettings
from isocenter.services.settings.settings import Settings
from services.archive_support import STUDY, data_set, data_set_of, keys_of, store, uid
from support.buckets import keys_in, new_location

ADMIN = Requester(name="root@here")
DAY = 86_400.0


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "somebody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")


def folder(path: Path) -> ObjectLocation:
    return ObjectLocation(kind=StoreKind.FILES, bucket=str(path))


def settings_of(root: Path, *, hot: ObjectLocation | None = None, **tiers: Any) -> Settings:
    tiers.setdefault("cold", folder(root / "cold"))
    tiers.setdefault("cold_availability", "online")
    return Settings(
        storage=StorageSettings(data_dir=root / "data"),
        objects=ObjectsSettings(url=hot),
        tiers=TierSettings(**tiers),
    )


async def stored(parts: ArchiveParts) -> list[StoredInstance]:
    async with parts.archive.index.instances() as blocks:
        return [each async for block in blocks for each in block]


def of_study(study: str = STUDY) -> Query:
    return Query(level=Level.STUDY, criteria=(Criterion(0x0020000D, SingleValue(study)),))


async def moved(
    parts: ArchiveParts, tier: Tier = Tier.COLD, study: str = STUDY, **options: Any
) -> MoveReport:
    assert parts.mover is not None
    report = MoveReport()
    await parts.mover.move(study, tier, report, **options)
    return report


async def assert_whole(parts: ArchiveParts, *numbers: int, tier: Tier | None = None) -> None:
    """All are there, each once, and nothing else is."""
    found = await stored(parts)
    assert sorted(each.sop_instance_uid for each in found) == sorted(map(uid, numbers))
    for each, number in zip(sorted(found, key=lambda one: one.sop_instance_uid), sorted(numbers),
                            strict=True):  # fmt: skip
        assert await data_set_of(parts.archive, each) == data_set(number)
    found = await stored(parts)
    assert await keys_of(parts.archive) == {each.object_key for each in found}
    assert await parts.stores.tiers.unfinished("nobody", 0.0) == []
    if tier is not None:
        usage = {each.tier: each.instances for each in await parts.stores.tiers.usage()}
        assert usage[tier] == len(numbers)


@pytest.mark.parametrize("place", ["folder", "bucket", "bucket to bucket"])
async def test_a_study_moves_and_comes_back(tmp_path: Path, place: str) -> None:
    location = new_location("cold")
    hot = new_location("hot") if place == "bucket to bucket" else None
    options = {} if place == "folder" else {"cold": location, "cold_class": "STANDARD_IA"}
    told: list[StudyMoved] = []
    async with open_archive_parts(
        settings_of(tmp_path, hot=hot, **options), on_tier_move=told.append
    ) as parts:
        for number in (1, 2, 3):
            await store(parts.archive, number)
        before = {each.sop_instance_uid: each for each in await stored(parts)}
        report = await moved(parts, person="admin")
        assert (report.instances, report.failed, report.busy) == (3, 0, 0)
        assert [(one.tier, one.instances, one.person) for one in told] == [("cold", 3, "admin")]
        await assert_whole(parts, 1, 2, 3, tier=Tier.COLD)
        assert all(each.object_key.startswith("~cold/") for each in await stored(parts))
        if place == "folder":
            assert not list((tmp_path / "data" / "objects").rglob("*.dcm"))
            assert len(list((tmp_path / "cold" / "objects").rglob("*.dcm"))) == 3
        else:
            assert len([key for key in keys_in(location) if "/objects/" in key]) == 3
        # A second time there is nothing to do.
        assert (await moved(parts)).instances == 0
        checked = await verify(parts.archive)
        assert not checked.missing.count + checked.orphans.count + checked.wrong_digest.count
        report = await moved(parts, Tier.HOT)
        assert report.instances == 3
        await assert_whole(parts, 1, 2, 3, tier=Tier.HOT)
        after = {each.sop_instance_uid: each for each in await stored(parts)}
        assert {u: one.digest for u, one in after.items()} == {
            u: one.digest for u, one in before.items()
        }


class Killed(BaseException):
    """The process ends here, and nothing of it runs any more."""


STEPS = ["begun", "published", "copied", "exchanged", "removed"]


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("target", [Tier.COLD, Tier.HOT])
async def test_after_a_kill_at_any_step_each_object_is_there_once(
    tmp_path: Path, step: str, target: Tier, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_of(tmp_path)

    async def never(*_: object) -> None:
        pass

    def killing(function: Callable[..., Any], *, after: bool) -> Callable[..., Any]:
        async def kill(*args: Any, **kwargs: Any) -> Any:
            if after:
                await function(*args, **kwargs)
            raise Killed

        return kill

    async def work() -> None:
        async with open_archive_parts(settings) as parts:
            for number in (1, 2):
                await store(parts.archive, number)
            if target is Tier.HOT:
                await moved(parts)
            monkeypatch.setattr(TierMover, "_clean", never)
            book = type(parts.stores.tiers)
            match step:
                case "begun":
                    monkeypatch.setattr(book, "begin", killing(book.begin, after=True))
                case "published":
                    monkeypatch.setattr(moving, "is_whole", killing(moving.is_whole, after=False))
                case "copied":
                    copy = TierMover._copy_all
                    monkeypatch.setattr(TierMover, "_copy_all", killing(copy, after=True))
                case "exchanged":
                    monkeypatch.setattr(book, "exchange", killing(book.exchange, after=True))
                case "removed":
                    monkeypatch.setattr(TierMover, "_clean", clean)
                    monkeypatch.setattr(book, "end", killing(book.end, after=False))
            await moved(parts, target, waits=False)

    clean = TierMover._clean
    with pytest.raises(BaseException) as caught:
        await work()
    monkeypatch.undo()
    assert Killed in {type(each) for each in leaves(caught.value)}
    async with open_archive_parts(settings) as parts:
        assert parts.mover is not None
        assert await parts.mover.recover() == 2
        await assert_whole(parts, 1, 2)
        assert (await moved(parts, target)).instances == (
            0 if step in ("exchanged", "removed") else 2
        )
        await assert_whole(parts, 1, 2, tier=target)


def leaves(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for each in error.exceptions for leaf in leaves(each)]
    return [error]


async def test_a_lost_answer_of_the_exchange_loses_no_object(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_archive_parts(settings_of(tmp_path)) as parts:
        await store(parts.archive, 1)
        book = type(parts.stores.tiers)
        exchange = book.exchange

        async def lost(*args: Any) -> Any:
            await exchange(*args)
            raise StorageError("the answer was lost")

        monkeypatch.setattr(book, "exchange", lost)
        with pytest.raises(StorageError, match="lost"):
            await moved(parts)
        await assert_whole(parts, 1, tier=Tier.COLD)


async def test_what_is_damaged_or_gone_stays_and_is_named(tmp_path: Path) -> None:
    async with open_archive_parts(settings_of(tmp_path)) as parts:
        for number in (1, 2, 3):
            await store(parts.archive, number)
        objects = tmp_path / "data" / "objects"
        (damaged,) = objects.rglob(f"{uid(1)}~*.dcm")
        content = bytearray(damaged.read_bytes())
        content[-1] ^= 1
        damaged.write_bytes(content)
        (gone,) = objects.rglob(f"{uid(2)}~*.dcm")
        gone.unlink()
        report = await moved(parts)
        assert (report.instances, report.failed) == (1, 2)
        faults = {each.sop_instance_uid: each.fault for each in
                  await parts.stores.tiers.faults(limit=10)}  # fmt: skip
        assert "not the one that was stored" in faults[uid(1)]
        assert "gone" in faults[uid(2)]
        assert damaged.exists()
        assert len(list((tmp_path / "cold" / "objects").rglob("*.dcm"))) == 1
        # They are left alone for a while.
        assert (await moved(parts)).failed == 0


@pytest.mark.parametrize("had_tiers", [True, False])
async def test_what_came_since_is_not_taken_for_what_has_moved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, had_tiers: bool
) -> None:
    async def failing(*_: object) -> None:
        raise StorageError("the database is away")

    async with open_archive_parts(settings_of(tmp_path)) as parts:
        if not had_tiers:
            parts.archive.intake.key_token = None
        await store(parts.archive, 1)
        with monkeypatch.context() as patch:
            patch.setattr(type(parts.stores.tiers), "end", failing)
            assert (await moved(parts)).instances == 1
        # It was removed from where it was, and nobody could note that.
        await parts.archive.remove([uid(1)])
        await store(parts.archive, 1)
    async with open_archive_parts(settings_of(tmp_path)) as parts:
        assert parts.mover is not None
        assert await parts.mover.recover() == 1
        await assert_whole(parts, 1, tier=Tier.HOT)


async def test_what_is_damaged_keeps_nothing_behind_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(moving, "_AT_ONCE", 1)
    async with open_archive_parts(settings_of(tmp_path)) as parts:
        assert parts.mover is not None
        for number in (1, 2):
            await store(parts.archive, number)
        (gone,) = (tmp_path / "data" / "objects").rglob(f"{uid(1)}~*.dcm")
        gone.unlink()
        book, report = parts.stores.tiers, MoveReport()
        await book.order([TierOrder(study_instance_uid=STUDY, tier=Tier.COLD, actor="me")])
        await work_off_orders(book, parts.mover, report)
        assert (report.instances, report.failed) == (1, 1)
        assert await book.orders(limit=9) == []


async def test_a_fault_that_cannot_be_noted_is_an_error_of_storage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def failing(*_: object) -> None:
        raise StorageError("the database is away")

    async with open_archive_parts(settings_of(tmp_path)) as parts:
        await store(parts.archive, 1)
        (gone,) = (tmp_path / "data" / "objects").rglob("*.dcm")
        gone.unlink()
        monkeypatch.setattr(type(parts.stores.tiers), "failed", failing)
        with pytest.raises(StorageError, match="the database is away"):
            await moved(parts)


async def test_few_bytes_wait_for_their_exchange(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_archive_parts(settings_of(tmp_path)) as parts:
        for number in (1, 2, 3, 4, 5):
            await store(parts.archive, number)
        size = (await stored(parts))[0].size
        monkeypatch.setattr(moving, "_SIZE_AT_ONCE", 2 * size)
        book, exchanged = type(parts.stores.tiers), list[int]()
        exchange = book.exchange

        async def counting(self: Any, moves: Any, process: str) -> Any:
            exchanged.append(len(moves))
            return await exchange(self, moves, process)

        monkeypatch.setattr(book, "exchange", counting)
        assert (await moved(parts)).instances == 5
        assert exchanged == [2, 2, 1]
        monkeypatch.setattr(moving, "_SIZE_AT_ONCE", 1)
        await moved(parts, Tier.HOT)
        assert exchanged == [2, 2, 1, 1, 1, 1, 1, 1]


async def test_a_tier_that_forgets_gets_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def lose(*_: object) -> bool:
        return False

    async with open_archive_parts(settings_of(tmp_path)) as parts:
        await store(parts.archive, 1)
        with monkeypatch.context() as patch:
            patch.setattr(moving, "is_whole", lose)
            assert (await moved(parts)).failed == 1
        await assert_whole(parts, 1, tier=Tier.HOT)


async def test_who_reads_a_study_is_waited_for(tmp_path: Path) -> None:
    async with open_archive_parts(settings_of(tmp_path)) as parts:
        await store(parts.archive, 1)
        parts.archive.locks.wait_seconds = 0.05
        async with parts.archive.locks.reading([STUDY], "somebody"):
            report = await moved(parts)
            assert (report.instances, report.busy) == (0, 1)
            await assert_whole(parts, 1, tier=Tier.HOT)
        assert (await moved(parts)).instances == 1


async def test_who_looked_it_up_before_it_moved_reads_it(tmp_path: Path) -> None:
    async with open_archive_parts(settings_of(tmp_path)) as parts:
        await store(parts.archive, 1)
        (before,) = await stored(parts)
        await moved(parts)
        assert await data_set_of(parts.archive, before) == data_set(1)


@pytest.mark.parametrize("answer", ["wait", "refuse"])
async def test_what_is_nearline_is_brought_back_for_whoever_reads(
    tmp_path: Path, answer: str
) -> None:
    settings = settings_of(tmp_path, cold_availability="nearline", recall=answer)
    async with open_archive_parts(settings) as parts:
        for number in (1, 2):
            await store(parts.archive, number)
        await moved(parts)
        (first, _) = await stored(parts)
        if answer == "refuse":
            with pytest.raises(StorageError, match="is being brought back") as caught:
                await parts.archive.open(first)
            assert caught.value.out_of_resources
            assert "ask again later" in caught.value.comment
        else:
            assert await data_set_of(parts.archive, first) == data_set(1)
            (now, _) = await stored(parts)
            assert not now.object_key.startswith("~")
        # The whole study follows.
        assert parts.mover is not None
        await work_off_orders(parts.stores.tiers, parts.mover, MoveReport())
        await assert_whole(parts, 1, 2, tier=Tier.HOT)
        assert await parts.stores.tiers.orders(limit=10) == []
        # No rule takes away what was wanted just now.
        rule = TierRule(name="old", tier=Tier.COLD, study_days=30)
        assert await parts.stores.tiers.candidates(rule, in_days(1), limit=10) == []
        assert await parts.stores.tiers.candidates(rule, in_days(9), limit=10) == [STUDY]


async def test_many_who_read_one_object_bring_it_back_once(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, cold_availability="nearline")
    async with open_archive_parts(settings) as parts:
        await store(parts.archive, 1)
        await moved(parts)
        (before,) = await stored(parts)
        read: list[bytes] = []

        async def reads() -> None:
            read.append(await data_set_of(parts.archive, before))

        async with trio.open_nursery() as nursery:
            for _ in range(8):
                nursery.start_soon(reads)
        assert read == [data_set(1)] * 8
        await assert_whole(parts, 1, tier=Tier.HOT)


async def test_verifying_brings_nothing_back(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, cold_availability="nearline")
    async with open_archive_parts(settings) as parts:
        await store(parts.archive, 1)
        await moved(parts)
        report = await verify(parts.archive)
        assert not report.missing.count
        assert not report.orphans.count
        (now,) = await stored(parts)
        assert now.object_key.startswith("~cold/")


async def test_what_is_off_line_waits_for_a_person(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, cold_availability="offline")
    async with open_archive_parts(settings) as parts:
        await store(parts.archive, 1)
        await moved(parts)
        (one,) = await stored(parts)
        with pytest.raises(StorageError, match="off line"):
            await parts.archive.open(one)
        assert await parts.stores.tiers.orders(limit=10) == []
        # The medium is not there.
        (tmp_path / "cold").rename(tmp_path / "shelf")
        report = await verify(parts.archive)
        assert report.missing.count == 0
        with pytest.raises(StorageError, match="the tier cold is off line; connect it"):
            await moved(parts, Tier.HOT)
        assert await parts.stores.tiers.faults(limit=10) == []
        (tmp_path / "shelf").rename(tmp_path / "cold")
        assert (await moved(parts, Tier.HOT)).instances == 1
        assert await data_set_of(parts.archive, (await stored(parts))[0]) == data_set(1)


async def test_what_is_deleted_stays_in_its_tier_and_comes_back_there(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, cold=new_location("cold"))
    async with open_archive_parts(settings) as parts:
        for number in (1, 2):
            await store(parts.archive, number)
        await store(parts.archive, 3, data_set(3, study="1.2.9", series="1.2.9.1"))
        await moved(parts)
        trash = trash_of(settings, parts, "test")
        assert trash is not None
        for study in (STUDY, "1.2.9"):
            await trash.delete(await trash.plan(of_study(study)), ADMIN, "a test")
        assert await stored(parts) == []
        assert await keys_of(parts.archive) == set()
        await trash.restore(TrashChoice(), ADMIN)
        usage = {each.tier: each.instances for each in await parts.stores.tiers.usage()}
        assert usage == {Tier.HOT: 1, Tier.COLD: 2}
        for each in await stored(parts):
            assert (await data_set_of(parts.archive, each))[:8] == data_set(1)[:8]


async def test_what_nobody_can_reach_is_neither_deleted_nor_purged(tmp_path: Path) -> None:
    settings, cold = settings_of(tmp_path), tmp_path / "cold"
    shelf = tmp_path / "shelf"
    other = "1.2.9"
    async with open_archive_parts(settings) as parts:
        for number in (1, 2):
            await store(parts.archive, number)
        await store(parts.archive, 3, data_set(3, study=other, series="1.2.9.1"))
        await moved(parts)
        trash = trash_of(settings, parts, "test")
        assert trash is not None
        one = Query(level=Level.IMAGE, criteria=(Criterion(0x00080018, SingleValue(uid(1))),))
        for query in (one, of_study(other)):
            await trash.delete(await trash.plan(query), ADMIN, "a test")
        cold.rename(shelf)
        cold.mkdir()
        with pytest.raises(DeletionRefusedError, match="1 in a storage tier that is not connected"):
            await trash.delete(await trash.plan(of_study(STUDY)), ADMIN, "a test", overrule=True)
        assert [each.sop_instance_uid for each in await stored(parts)] == [uid(2)]
        # Only what is in the hot tier goes.
        assert await trash.purge(TrashChoice(), ADMIN) == 1
        shutil.rmtree(cold)
        shelf.rename(cold)
        assert await trash.purge(TrashChoice(), ADMIN) == 1
        assert len(list(cold.rglob("*.dcm"))) == 1
        await trash.delete(await trash.plan(of_study(STUDY)), ADMIN, "a test")
        await trash.purge(TrashChoice(), ADMIN)
        assert list(cold.rglob("*.dcm")) == []


async def test_the_index_is_made_again_of_all_tiers(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, cold_availability="nearline")
    async with open_archive_parts(settings) as parts:
        for number in (1, 2):
            await store(parts.archive, number)
        await moved(parts)
        await store(parts.archive, 3)
    async with open_archive_parts(settings, rebuild=True) as parts:
        await reindex(parts.archive)
        usage = {each.tier: each.instances for each in await parts.stores.tiers.usage()}
        assert usage == {Tier.HOT: 1, Tier.COLD: 2}
        assert len(await stored(parts)) == 3


def in_days(days: int) -> float:
    from time import time

    return time() + days * DAY


async def applied(parts: ArchiveParts, rules: list[TierRule], **limits: int) -> MoveReport:
    assert parts.mover is not None
    report = MoveReport()
    await apply_rules(
        rules, parts.stores.tiers, parts.mover, report, CycleLimits(**limits), in_days(60)
    )
    return report


async def test_rules_move_what_is_old_step_by_step(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, warm=folder(tmp_path / "warm"))
    rules = [
        TierRule(name="warm", tier=Tier.WARM, arrived_days=30),
        TierRule(name="cold", tier=Tier.COLD, arrived_days=300),
    ]
    async with open_archive_parts(settings) as parts:
        for number in (1, 2):
            await store(parts.archive, number)
        for number in (3, 4):
            await store(parts.archive, number, data_set(number, study="1.2.9", series="1.2.9.1"))
        await parts.stores.tiers.pin(
            TierPin(study_instance_uid="1.2.9", tier=Tier.HOT, actor="me", reason="r", at=1.0)
        )
        assert (await applied(parts, rules)).instances == 2
        usage = {each.tier: each.instances for each in await parts.stores.tiers.usage()}
        assert usage == {Tier.HOT: 2, Tier.WARM: 2}
        assert (await applied(parts, rules)).instances == 0
        rules[1] = TierRule(name="cold", tier=Tier.COLD, arrived_days=40)
        assert await parts.stores.tiers.unpin("1.2.9")
        assert (await applied(parts, rules)).instances == 4 + 2
        await assert_whole_everywhere(parts, 4)


async def assert_whole_everywhere(parts: ArchiveParts, number: int) -> None:
    found = await stored(parts)
    assert len(found) == number
    assert all(each.object_key.startswith("~cold/") for each in found)
    assert await keys_of(parts.archive) == {each.object_key for each in found}


async def test_a_rule_takes_nothing_out_of_a_slower_tier(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, warm=folder(tmp_path / "warm"))
    async with open_archive_parts(settings) as parts:
        assert parts.mover is not None
        await store(parts.archive, 1)
        await moved(parts)
        await store(parts.archive, 2)
        report = MoveReport()
        rules = [TierRule(name="old", tier=Tier.WARM)]
        now = parts.stores.clock() + 30 * DAY
        await apply_rules(rules, parts.stores.tiers, parts.mover, report, CycleLimits(), now)
        assert report.instances == 1
        keys = {each.sop_instance_uid: each.object_key for each in await stored(parts)}
        assert keys[uid(1)].startswith("~cold/")
        assert keys[uid(2)].startswith("~warm/")


async def test_a_cycle_has_its_limits(tmp_path: Path) -> None:
    rule = TierRule(name="cold", tier=Tier.COLD, arrived_days=30)
    async with open_archive_parts(settings_of(tmp_path)) as parts:
        for number in range(1, 5):
            await store(
                parts.archive,
                number,
                data_set(number, study=f"1.2.{number}", series=f"1.2.{number}.1"),
            )
        assert (await applied(parts, [rule], instances=2)).instances == 2
        assert (await applied(parts, [rule], size=1)).instances == 1
        assert (await applied(parts, [rule])).instances == 1


async def test_a_tier_with_objects_that_is_not_named_any_more_is_refused(tmp_path: Path) -> None:
    async with open_archive_parts(settings_of(tmp_path)) as parts:
        await store(parts.archive, 1)
        await moved(parts)
    with pytest.raises(StorageError, match=r"tier-cold\.url"):
        async with open_archive_parts(settings_of(tmp_path, cold=None)):
            pass
    with pytest.raises(StorageError, match=r"names file://.*other"):
        async with open_archive_parts(settings_of(tmp_path, cold=folder(tmp_path / "other"))):
            pass


async def test_nothing_moves_into_a_folder_where_nothing_is_mounted(tmp_path: Path) -> None:
    settings, cold = settings_of(tmp_path), tmp_path / "cold"
    async with open_archive_parts(settings) as parts:
        for number in (1, 2):
            await store(parts.archive, number)
        assert parts.mover is not None
        (first, _) = await stored(parts)
        cold.rename(tmp_path / "elsewhere")
        cold.mkdir()
        with pytest.raises(StorageError, match="is empty, or not mounted"):
            await moved(parts)
        await assert_whole(parts, 1, 2, tier=Tier.HOT)
    with pytest.raises(StorageError, match="is empty, or not mounted"):
        async with open_archive_parts(settings):
            pass
    # Whoever knows that it is away, may do without it, and moves nothing there.
    async with open_archive_parts(settings_of(tmp_path, cold_availability="offline")) as parts:
        assert await data_set_of(parts.archive, first) is not None
        with pytest.raises(StorageError, match="is empty, or not mounted"):
            await moved(parts)
    shutil.rmtree(cold)
    (tmp_path / "elsewhere").rename(cold)
    async with open_archive_parts(settings) as parts:
        assert (await moved(parts)).instances == 2
        await assert_whole(parts, 1, 2, tier=Tier.COLD)


async def test_orders_of_those_who_wait_come_first(tmp_path: Path) -> None:
    async with open_archive_parts(settings_of(tmp_path)) as parts:
        book = parts.stores.tiers
        await book.order([TierOrder(study_instance_uid="1.1", tier=Tier.COLD, actor="me")])
        await book.order([TierOrder(study_instance_uid="1.2", tier=Tier.HOT)])
        assert [each.study_instance_uid for each in await book.orders(limit=9)] == ["1.2", "1.1"]
        await book.order([TierOrder(study_instance_uid="1.1", tier=Tier.WARM, actor="me")])
        assert [each.tier for each in await book.orders(limit=9)] == [Tier.HOT, Tier.WARM]
