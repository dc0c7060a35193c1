"""Places at destinations, within one process and among several."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
import trio
import trio.testing

from isocenter.services.association.destination_slots import Places
from support.processes import ENVIRONMENT

PATIENCE = 60.0


@pytest.fixture(params=["one process", "several"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path | None:
    return None if request.param == "one process" else tmp_path / "destinations"


async def test_there_are_so_many_and_no_more(folder: Path | None) -> None:
    places = Places(2, folder)
    at_once = peak = 0

    async def work() -> None:
        nonlocal at_once, peak
        async with places.place("A"):
            at_once += 1
            peak = max(peak, at_once)
            await trio.testing.wait_all_tasks_blocked(0.001)
            at_once -= 1

    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(work)
    assert (at_once, peak) == (0, 2)


async def test_each_destination_has_its_own(folder: Path | None) -> None:
    places = Places(1, folder)
    with trio.fail_after(PATIENCE):
        for title in ("A", "B", "../A", "A/B", "..", "A.0"):
            await places.take(title)
            assert places.take_now(title) is None


async def test_who_came_first_is_served_first(folder: Path | None) -> None:
    places, order = Places(1, folder), list[int]()

    async def work(number: int) -> None:
        async with places.place("A"):
            order.append(number)

    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            with await places.take("A"):
                for number in range(5):
                    nursery.start_soon(work, number)
                    await trio.testing.wait_all_tasks_blocked()
                # Nobody passes those that wait.
                assert places.take_now("A") is None
            assert places.take_now("A") is None
    assert order == [0, 1, 2, 3, 4]
    assert places.take_now("A") is not None


async def test_whoever_waits_in_vain_leaves_no_trace(folder: Path | None) -> None:
    places = Places(1, folder)
    place = await places.take("A")
    with trio.move_on_after(0.01) as scope:
        await places.take("A")
    assert scope.cancelled_caught
    place.give_back()
    with trio.fail_after(PATIENCE):
        (await places.take("A")).give_back()


async def test_two_of_one_folder_share(tmp_path: Path) -> None:
    """As worker processes do: a lock belongs to whoever opened the file."""
    one, other = Places(2, tmp_path / "d"), Places(2, tmp_path / "d")
    with trio.fail_after(PATIENCE):
        first, second = await one.take("A"), await other.take("A")
        assert one.take_now("A") is None
        assert other.take_now("A") is None
        taken: list[str] = []

        async def wait(places: Places, name: str) -> None:
            with await places.take("A"):
                taken.append(name)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait, one, "one")
            await trio.testing.wait_all_tasks_blocked(0.01)
            # Who gives a place back and wants one again waits behind those that wait already.
            second.give_back()
            nursery.start_soon(wait, other, "other")
        assert taken == ["one", "other"]
        first.give_back()
        assert other.take_now("A") is not None


HOLDER = """
import sys, trio
from pathlib import Path
from isocenter.services.association.destination_slots import Places
async def main():
    place = await Places(1, Path(sys.argv[1])).take("A")
    print("taken", flush=True)
    await trio.sleep_forever()
trio.run(main)
"""


async def test_a_process_that_is_killed_gives_its_places_back(tmp_path: Path) -> None:
    places = Places(1, tmp_path)
    holder = subprocess.Popen(  # noqa: ASYNC220 - short, and nothing else runs
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, env=ENVIRONMENT
    )
    with holder:
        assert holder.stdout is not None
        assert await trio.to_thread.run_sync(holder.stdout.readline) == b"taken\n"
        assert places.take_now("A") is None
        holder.send_signal(signal.SIGKILL)
        with trio.fail_after(PATIENCE):
            (await places.take("A")).give_back()


async def test_where_files_cannot_be_locked_the_bound_is_this_process(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    places = Places(1, tmp_path / "file" / "in-it")
    place = await places.take("A")
    assert places.take_now("A") is None
    place.give_back()
    assert places.take_now("A") is not None
    assert [record.levelname for record in caplog.records] == ["ERROR"]
