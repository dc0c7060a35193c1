"""Health of the archive: index, disk, associations, checks of plug-ins.

``unhealthy`` means that objects cannot be kept or found; ``degraded`` that this may come.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Sequence
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
from isocenter.services.monitoring.plugin_monitor import NamedCheck

log = logging.getLogger("isocenter.server")

#: The same answer serves everybody who asks within so many seconds.
CACHE_SECONDS: Final = 5.0
#: For each check.
CHECK_SECONDS: Final = 5.0
#: Within which a check of a plug-in ends that is cancelled; one that does not, hangs.
LEAVE_SECONDS: Final = 5.0
_PROBE: Final = "health-probe"
#: Of what a plug-in says.
_LONGEST_FAULT: Final = 200


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


class _Answer:
    """What a check of a plug-in says, once it is here."""

    def __init__(self) -> None:
        self.is_here = trio.Event()
        self.fault = ""
        self.scope = trio.CancelScope()


class Health:
    """Looks at an archive and its server.

    Args:
        folder: the data directory; None: nothing is kept.
        node: the name of this server among those of the archive; empty: there is but one.
        warning, critical: percent of the disk in use.
        cache_seconds: how old an answer may be.
        check_seconds: for each check.
        checks: of plug-ins; more may come.
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
        node: str = "",
        cache_seconds: float = CACHE_SECONDS,
        check_seconds: float = CHECK_SECONDS,
        checks: Sequence[NamedCheck] = (),
        now: Callable[[], float] = trio.current_time,
    ) -> None:
        self._archive = archive
        self._server = server
        self._folder = folder
        self._version = version
        self._warning = warning
        self._critical = critical
        self._node = node
        self._cache_seconds = cache_seconds
        self._check_seconds = check_seconds
        self._checks = checks
        #: Those whose fault the log has.
        self._failing: set[str] = set()
        #: Of each check, to the last time that it was asked.
        self._answers: dict[str, _Answer] = {}
        self._now = now
        self._began = now()
        self._report: Report | None = None
        self._looked_at = 0.0
        self._looking = trio.Lock()

    async def report(self) -> Report:
        """How it is; at most *cache_seconds* old."""
        async with self._looking:
            if self._report is None or self._now() - self._looked_at >= self._cache_seconds:
                report = Report()
                await self._check_index(report)
                await self._check_disk(report)
                await self._check_store(report)
                self._check_server(report)
                await self._ask_plugins(report)
                self._report, self._looked_at = report, self._now()
            return self._report

    async def watch(self, seconds: float) -> None:
        """Look every *seconds* until cancelled; the log says when the level changes."""
        before = Level.HEALTHY
        while True:
            try:
                report = await self.report()
            except Exception as error:
                log.exception("health cannot be looked at: %s", type(error).__name__)
            else:
                if report.level is not before:
                    level = logging.WARNING if report.messages else logging.INFO
                    why = "; ".join(report.messages) or "all is well"
                    log.log(level, "the archive is %s: %s", report.level.value, why)
                    before = report.level
            await trio.sleep(seconds)

    async def close(self) -> Sequence[str]:
        """Ask no plug-in any more; which of their checks hang, and cannot be ended."""
        under_way = {
            name: answer for name, answer in self._answers.items() if not answer.is_here.is_set()
        }
        self._checks = ()
        with trio.move_on_after(LEAVE_SECONDS):
            for answer in under_way.values():
                answer.scope.cancel()
            for answer in under_way.values():
                await answer.is_here.wait()
        return [name for name, answer in under_way.items() if not answer.is_here.is_set()]

    async def _ask_plugins(self, report: Report) -> None:
        """All at once: each has its time, and all together no more than one."""
        if not self._checks:
            return
        told = report.details["checks"] = {}
        late = {name for name, answer in self._answers.items() if not answer.is_here.is_set()}
        for one in self._checks:
            if one.name not in late:  # who was asked before answers first
                answer = self._answers[one.name] = _Answer()
                trio.lowlevel.spawn_system_task(self._ask, one, answer)
        with trio.move_on_after(self._check_seconds):
            for name, answer in self._answers.items():
                if name not in late:
                    await answer.is_here.wait()
        for one in self._checks:
            answer = self._answers[one.name]
            fault = answer.fault if answer.is_here.is_set() else self._no_answer
            told[one.name] = {"ok": not fault} | ({"message": fault} if fault else {})
            if fault:
                (report.unhealthy if one.is_vital else report.degraded)(f"{one.name}: {fault}")

    @property
    def _no_answer(self) -> str:
        return f"no answer within {self._check_seconds:g} s"

    async def _ask(self, one: NamedCheck, answer: _Answer) -> None:
        """One check of a plug-in, whatever comes of it.

        In a task of its own, that nobody has to wait for: it may not let itself be cancelled, as
        when it waits in a thread.
        """
        try:
            answer.scope.deadline = trio.current_time() + self._check_seconds
            with answer.scope:
                fault = await one.check()
                if not isinstance(fault, str):
                    raise TypeError(f"a check returns str, not {type(fault).__name__}")
            if answer.scope.cancelled_caught:
                fault = self._no_answer
            else:
                self._failing.discard(one.name)
        except trio.Cancelled:  # the server has ended
            return
        except BaseException as error:  # also SystemExit, and groups that a nursery makes
            fault = f"the check fails: {type(error).__name__}"
            if one.name not in self._failing:
                self._failing.add(one.name)
                log.exception("the check %s fails", one.name)
        answer.fault = fault[:_LONGEST_FAULT]
        answer.is_here.set()

    async def _check_index(self, report: Report) -> None:
        began = self._now()
        details: dict[str, Any] = {"connected": False}
        report.details["database"] = details
        with trio.move_on_after(self._check_seconds) as scope:
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
            report.unhealthy(f"the index did not answer within {self._check_seconds:g} s")

    async def _check_disk(self, report: Report) -> None:
        await self._check_room(report)
        if self._folder is None:
            return
        details: dict[str, Any] = {"writable": False, "readable": False}
        report.details["storage"] = details
        with trio.move_on_after(self._check_seconds) as scope:
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
            report.unhealthy(f"the data directory did not answer within {self._check_seconds:g} s")

    async def _check_store(self, report: Report) -> None:
        """A store that is somewhere else: without it nothing is kept, and nothing given out."""
        store = self._archive.store
        if not isinstance(store, RemoteStore):
            return
        began = self._now()
        details: dict[str, Any] = {"reachable": False}
        report.details["objects"] = details
        with trio.move_on_after(self._check_seconds) as scope:
            try:
                await store.look()
            except StorageError as error:
                details["error"] = str(error)
                report.unhealthy("the object store cannot be used; see the log")
                return
            details |= {"reachable": True, "response_ms": round((self._now() - began) * 1e3, 3)}
        if scope.cancelled_caught:
            report.unhealthy(f"the object store did not answer within {self._check_seconds:g} s")

    async def _check_room(self, report: Report) -> None:
        """After a failure it is tried whether an object could be kept: whoever is told that the
        server is not ready sends nothing that would show it."""
        archive = self._archive
        with trio.move_on_after(self._check_seconds) as scope:
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
            report.unhealthy(f"no object could be kept within {self._check_seconds:g} s")
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
        if self._node:
            report.details["node"] = self._node
        if server.is_leaving:
            report.degraded("it ends, and takes no more associations")
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
