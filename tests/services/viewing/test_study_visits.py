"""Studies that people look at, gathered from notices."""

from __future__ import annotations

from collections.abc import Sequence

from isocenter.services.errors import StorageError
from isocenter.services.notices import Caller, InstancesRead
from isocenter.services.viewing.ports import RecentStudy
from isocenter.services.viewing.study_visits import StudyVisits


class Book:
    def __init__(self) -> None:
        self.seen: list[tuple[str, str, float]] = []
        self.is_broken = False

    async def note(self, seen: Sequence[tuple[str, RecentStudy]], *, most: int) -> None:
        if self.is_broken:
            raise StorageError("no")
        self.seen += [(user, one.study_instance_uid, one.accessed_at) for user, one in seen]

    async def of(self, user: str, *, limit: int) -> Sequence[RecentStudy]:
        return ()


def read(user: str, study: str) -> InstancesRead:
    return InstancesRead(
        caller=Caller(association="http-1", address="10.0.0.1", user=user),
        study_instance_uid=study,
        sop_instance_uids=frozenset(),
        sop_classes={},
        is_whole=True,
    )


async def test_a_visit_is_written_once_a_minute() -> None:
    book, clock = Book(), [1000.0]
    visits = StudyVisits(book, now=lambda: clock[0])
    for _ in range(500):  # somebody scrolls
        visits.on_notice(read("alice", "1.2"))
    visits.on_notice(read("bob", "1.2"))
    visits.on_notice(read("", "1.2"))  # a program
    await visits.write()
    visits.on_notice(read("alice", "1.2"))
    await visits.write()
    assert book.seen == [("alice", "1.2", 1000.0), ("bob", "1.2", 1000.0)]
    clock[0] = 1061.0
    visits.on_notice(read("alice", "1.2"))
    await visits.write()
    assert book.seen[2:] == [("alice", "1.2", 1061.0)]


async def test_what_cannot_be_written_waits() -> None:
    book = Book()
    visits = StudyVisits(book, now=lambda: 1000.0)
    book.is_broken = True
    visits.on_notice(read("alice", "1.2"))
    await visits.write()
    assert book.seen == []
    book.is_broken = False
    visits.on_notice(read("alice", "1.3"))
    await visits.write()
    assert book.seen == [("alice", "1.2", 1000.0), ("alice", "1.3", 1000.0)]
