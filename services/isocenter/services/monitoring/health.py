"""Health of the archive: index, disk, associations.

``unhealthy`` means that objects cannot be kept or found; ``degraded`` that this may come.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import field
from enum import Enum
from pathlib import Path
from typing import Any, Final

import trio

from isocenter.engine.fast_init import dataclass
from isocenter.services.archive.archive import Archive
from isocenter.services.archive.ports import RemoteStore
from isocenter.services.association.server import Server
from isocenter.services.errors import StorageError, text_of

#: The same answer serves everybody who asks within so many seconds.
CACHE_SECONDS: Final = 5.0
#: For one look at the index, and one at the disk.
LOOK_SECONDS: Final = 5.0
_PROBE: Final = "health-probe"


class Level(Enum):
    """How well it is."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    UNHEALTHY = "unhealthy"


@dataclass(slots=True)
class Report:
    """What was seen.

    Attributes:
        messages: why it is not healthy, in words.
        details: figures, for who may see them.
    """

    level: Level = Level.HEALTHY
    messages: list[str] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def is_operational(self) -> bool:
        return self.level is not Level.UNHEALTHY

    def degraded(self, why: str) -> None:
        self.messages.append(why)
        if self.level is Level.HEALTHY:
            self.level = Level.DEGRADED

    def unhealthy(self, why: str) -> None:
        self.messages.append(why)
        self.level = Level.UNHEALTHY


class Health:
    """Looks at an archive and its server, not oftener than every `CACHE_SECONDS`.

    Args:
        folder: the data directory; None: nothing is kept.
        warning, critical: percent of the disk in use.
        now: seconds, for the uptime.
    """

    def __init__(
        self,
        archive: Archive,
        server: Server,
        *,
        folder: Path | None,
        version: str,
        warning: float,
        critical: float,
        now: Callable[[], float] = trio.current_time,
    ) -> None:
        self._archive = archive
        self._server = server
        self._folder = folder
        self._version = version
        self._warning = warning
        self._critical = critical
        self._now = now
        self._began = now()
        self._report: Report | None = None
        self._looked_at = 0.0
        self._looking = trio.Lock()

    async def report(self) -> Report:
        """How it is; at most `CACHE_SECONDS` old."""
        async with self._looking:
            if self._report is None or self._now() - self._looked_at >= CACHE_SECONDS:
                report = Report()
                await self._check_index(report)
                await self._check_disk(report)
                await self._check_store(report)
                self._check_server(report)
                self._report, self._looked_at = report, self._now()
            return self._report

    async def _check_index(self, report: Report) -> None:
        began = self._now()
        details: dict[str, Any] = {"connected": False}
        report.details["database"] = details
        with trio.move_on_after(LOOK_SECONDS) as scope:
            try:
                counts = await self._archive.index.statistics()
            except StorageError as error:
                details["error"] = str(error)
                report.unhealthy("the index cannot be asked")
                return
            details |= {"connected": True, "response_ms": round((self._now() - began) * 1e3, 3)}
            report.details["stored"] = {
                "patients": counts.patients,
                "studies": counts.studies,
                "series": counts.series,
                "instances": counts.instances,
                "bytes": counts.size,
            }
        if scope.cancelled_caught:
            report.unhealthy(f"the index did not answer within {LOOK_SECONDS:g} s")

    async def _check_disk(self, report: Report) -> None:
        await self._check_room(report)
        if self._folder is None:
            return
        details: dict[str, Any] = {"writable": False, "readable": False}
        report.details["storage"] = details
        with trio.move_on_after(LOOK_SECONDS) as scope:
            try:
                usage = await trio.to_thread.run_sync(_probe, self._folder, abandon_on_cancel=True)
            except OSError as error:
                details["error"] = text_of(error)
                report.unhealthy(f"the data directory cannot be used: {text_of(error)}")
                return
            total, used, free = usage
            percent = round(100 * used / total, 1) if total else 0.0
            details |= {
                "writable": True, "readable": True, "total_bytes": total, "used_bytes": used,
                "available_bytes": free, "used_percent": percent,
            }  # fmt: skip
            if percent >= self._critical:
                report.unhealthy(f"the disk is {percent:g} % full")
            elif percent >= self._warning:
                report.degraded(f"the disk is {percent:g} % full")
        if scope.cancelled_caught:
            report.unhealthy(f"the data directory did not answer within {LOOK_SECONDS:g} s")

    async def _check_store(self, report: Report) -> None:
        """A store that is somewhere else: without it nothing is kept, and nothing given out."""
        store = self._archive.store
        if not isinstance(store, RemoteStore):
            return
        began = self._now()
        details: dict[str, Any] = {"reachable": False}
        report.details["objects"] = details
        with trio.move_on_after(LOOK_SECONDS) as scope:
            try:
                await store.look()
            except StorageError as error:
                details["error"] = str(error)
                report.unhealthy("the object store cannot be used; see the log")
                return
            details |= {"reachable": True, "response_ms": round((self._now() - began) * 1e3, 3)}
        if scope.cancelled_caught:
            report.unhealthy(f"the object store did not answer within {LOOK_SECONDS:g} s")

    async def _check_room(self, report: Report) -> None:
        """After a failure it is tried whether an object could be kept: whoever is told that the
        server is not ready sends nothing that would show it."""
        archive = self._archive
        with trio.move_on_after(LOOK_SECONDS) as scope:
            try:
                if archive.alert.is_failing:
                    await archive.probe()
                    archive.alert.report_success()
                else:
                    await archive.room.check()
            except StorageError as error:
                report.details["room"] = {"error": str(error)}
                report.unhealthy("objects cannot be kept; see the log")
                return
        if scope.cancelled_caught:
            report.unhealthy(f"no object could be kept within {LOOK_SECONDS:g} s")
            return
        room = archive.room
        if room.quota:
            percent = round(100 * room.used / room.quota, 1)
            report.details["quota"] = {"bytes": room.quota, "used_percent": percent}
            if percent >= self._warning:
                report.degraded(f"{percent:g} % of the quota is used")

    def _check_server(self, report: Report) -> None:
        server = self._server
        most = server.limits.associations
        report.details["associations"] = {
            "active": server.associations,
            "max": most,
            "total": server.statistics.associations,
            "rejected": server.statistics.rejected,
            "aborted": server.statistics.aborted,
        }
        report.details["version"] = self._version
        report.details["uptime_seconds"] = round(self._now() - self._began, 1)
        if server.associations >= most:
            report.degraded("as many associations as are allowed")


def _probe(folder: Path) -> tuple[int, int, int]:
    """Write, read and remove a few bytes; how full the disk is."""
    path = folder / f".{_PROBE}.{os.getpid()}"
    flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | getattr(os, "O_NOFOLLOW", 0)
    descriptor = os.open(path, flags, 0o600)
    try:
        os.write(descriptor, b"ok")
        os.lseek(descriptor, 0, os.SEEK_SET)
        if os.read(descriptor, 2) != b"ok":
            raise OSError("what was written is not what is read")
    finally:
        os.close(descriptor)
        path.unlink(missing_ok=True)
    total, used, free = shutil.disk_usage(folder)
    return total, used, free
