"""Writer of an audit trail: a bounded queue before a disk that may fail.

`TrailWriter.record` only puts messages into a queue; one task writes what has come together, with
one sync for all of it.  The queue has a bound.  When it is full, whoever records writes itself: the
server is then as slow as its disk, and nothing is lost.  When the trail cannot be written at all,
that is said once in the log and, by setting, the server stops or goes on; going on, the messages
wait up to the bound, and later ones are counted.  As soon as writing works again the trail says
since when it did not, and how many messages are missing.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import trio

from isocenter.engine.errors import IsocenterError
from isocenter.engine.fast_init import dataclass
from isocenter.services.concurrency import Broadcast
from isocenter.services.errors import text_of
from isocenter.services.security.audit import alert_messages as alerts
from isocenter.services.security.audit.hash_chain import Entry
from isocenter.services.security.audit.messages import AuditMessage, AuditSource, timestamp, to_xml
from isocenter.services.security.audit.participants import ActiveProcess
from isocenter.services.security.audit.trail import Trail

log = logging.getLogger("isocenter.audit")

#: Messages in memory; each some kilobytes, a long query a hundred.
MOST_WAITING: Final = 4_096
#: What comes within so long shares its syncs.
LINGER_SECONDS: Final = 0.2
RETRY_SECONDS: Final = 1.0
#: A fault that stays is told again after so long.
AGAIN_AFTER_SECONDS: Final = 300.0


@dataclass(slots=True)
class AuditStatistics:
    """Messages.

    Attributes:
        recorded: durable in the trail.
        lost: there was no room while the trail could not be written.
    """

    recorded: int = 0
    lost: int = 0


def entry_of(message: AuditMessage, source: AuditSource, process: int) -> Entry:
    """What the trail keeps of a message."""
    return Entry(
        time=timestamp(message.time),
        event=message.event.value.meaning,
        type=message.type.value.meaning if message.type else "",
        outcome=message.outcome.value,
        ae_titles=tuple(title.encode("ascii", "replace").decode() for title in message.ae_titles()),
        process=process,
        message=to_xml(message, source),
    )


def trail_of(
    folder: Path, here: ActiveProcess, source: AuditSource, *, rotate_bytes: int, key: bytes | None
) -> Trail:
    """The trail in *folder*, which tells what is wrong with it in the name of this process."""

    def note(text: str) -> Entry:
        message = alerts.recording_resumed(here, folder, text)
        return entry_of(message, source, here.process_id)

    return Trail(folder, rotate_bytes=rotate_bytes, note=note, key=key)


class TrailWriter:
    """Writes the audit trail of one process.

    Attributes:
        written: sent whenever the trail has grown.
        failed: set when the trail cannot be written for the first time.
        statistics: what was recorded.
    """

    def __init__(
        self, trail: Trail, here: ActiveProcess, source: AuditSource, written: Broadcast
    ) -> None:
        self.statistics = AuditStatistics()
        self.failed = trio.Event()
        self.written = written
        self._trail = trail
        self._here = here
        self._source = source
        self._came = Broadcast()
        self._writing = threading.Lock()
        self._queue: deque[AuditMessage] = deque()
        #: Taken from the queue, and not written yet.
        self._taken: list[Entry] = []
        self._failing_since: datetime | None = None
        self._failure = ""
        self._told_at: float | None = None
        self._lost_now = 0

    @property
    def waiting(self) -> int:
        """Messages in memory that are not in the trail yet."""
        return len(self._queue) + len(self._taken)

    def record(self, message: AuditMessage) -> None:
        """Have *message* recorded."""
        if self.waiting >= MOST_WAITING:
            if self._failing_since is None:
                self._attempt()
                self._after_attempt()
            if self._failing_since is not None:
                self._lost_now += 1
                self.statistics.lost += 1
                return
        self._queue.append(message)
        self._came.send()

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            while not self._queue and self._failing_since is None:
                await self._came.wait()
            await trio.sleep(LINGER_SECONDS)
            await self.write()
            if self._failing_since is not None:
                await trio.sleep(RETRY_SECONDS)

    async def write(self) -> None:
        """Write what is in memory, also when the task is cancelled."""
        # Whoever is cancelled here must not leave a thread behind that still writes.
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(self._attempt)
        self._after_attempt()

    def _attempt(self) -> None:
        """In any thread: write what is in the queue; what cannot be written stays."""
        with self._writing:
            while self._queue:
                message = self._queue.popleft()
                self._taken.append(entry_of(message, self._source, self._here.process_id))
            entries, lost = self._taken, self._lost_now
            if self._failing_since is not None:
                entries = [*entries, self._outage(lost)]
            if not entries:
                return
            try:
                self._trail.append(entries)
            except (OSError, IsocenterError) as error:
                self._failing_since = self._failing_since or datetime.now(UTC)
                self._failure = text_of(error)
                return
            self.statistics.recorded += len(entries)
            self._taken = []
            self._failing_since = None
            self._lost_now -= lost

    def _outage(self, lost: int) -> Entry:
        assert self._failing_since is not None
        text = (
            f"the trail could not be written since {timestamp(self._failing_since)}: "
            f"{self._failure}; {lost} messages are missing"
        )
        message = alerts.recording_resumed(self._here, self._trail.folder, text)
        return entry_of(message, self._source, self._here.process_id)

    def _after_attempt(self) -> None:
        """In the event loop: tell whom it concerns."""
        if self._failing_since is None:
            if self._told_at is not None:
                self._told_at = None
                log.warning("the audit trail is written again")
            self.written.send()
            return
        now = trio.current_time()
        if self._told_at is None or now - self._told_at >= AGAIN_AFTER_SECONDS:
            self._told_at = now
            log.error(
                "the audit trail in %s cannot be written: %s; up to %d messages wait in memory",
                self._trail.folder,
                self._failure,
                MOST_WAITING,
            )
        self.failed.set()
