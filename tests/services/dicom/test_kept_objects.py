"""Objects that are kept for whoever opens them again."""

from __future__ import annotations

import trio

from isocenter.services.dicom.kept_objects import KeptObjects
from isocenter.services.dicom.object_reader import ObjectReader
from isocenter.services.dicom.objects import MemoryReader


class Maker:
    """Makes objects, and counts."""

    def __init__(self) -> None:
        self.made: list[str] = []
        self.closed: list[str] = []

    async def open(self, kept: KeptObjects, name: str, size: int = 10) -> ObjectReader:
        async def make() -> ObjectReader:
            self.made.append(name)
            await trio.lowlevel.checkpoint()
            return _Reader(name, size, self.closed)

        return await kept.open(name, make)


class _Reader(MemoryReader):
    def __init__(self, name: str, size: int, closed: list[str]) -> None:
        super().__init__(name.encode() * size)
        self._name, self._closed = name, closed

    def close(self) -> None:
        self._closed.append(self._name)


async def test_what_is_kept_is_made_once() -> None:
    kept, maker = KeptObjects(2, 100), Maker()
    async with await maker.open(kept, "a") as reader:
        assert await reader.read(0, 3) == b"aaa"
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(maker.open, kept, "b")
    assert maker.made == ["a", "b"]


async def test_the_oldest_goes_when_nobody_reads_it() -> None:
    kept, maker = KeptObjects(2, 100), Maker()
    reading = await maker.open(kept, "a")
    for name in ("b", "c"):
        async with await maker.open(kept, name):
            pass
    assert maker.closed == []
    await reading.__aexit__(None, None, None)
    await reading.__aexit__(None, None, None)
    assert maker.closed == ["a"]
    kept.close()
    assert maker.closed == ["a", "c", "b"]


async def test_what_is_too_large_is_not_kept() -> None:
    kept, maker = KeptObjects(2, 100), Maker()
    async with await maker.open(kept, "a", 101):
        assert maker.closed == []
    assert maker.closed == ["a"]
