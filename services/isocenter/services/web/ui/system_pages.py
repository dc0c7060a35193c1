"""Pages of the system: room and forecast, checks, log, components."""

from __future__ import annotations

import logging
import platform
import re
import sqlite3
import ssl
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from typing import Any, Final

import trio

from isocenter.engine.fast_init import dataclass
from isocenter.services.archive.tiers.administration import TierAdministration
from isocenter.services.archive.usage.figures import UsageFigures, filled_on
from isocenter.services.net.http.application import Handler
from isocenter.services.net.http.messages import Request, Response
from isocenter.services.net.http.routing import Route
from isocenter.services.web.parts import Check, ServerState
from isocenter.services.web.processes import ServerProcesses
from isocenter.services.web.ui.layout import Layout
from isocenter.services.web.ui.page_routes import page

_MOST_LINES: Final = 300
_MOST_MONTHS: Final = 24
_LEVELS: Final = ("debug", "info", "warning", "error")
_EXTRA: Final = re.compile(r"extra\s*==\s*['\"]([\w-]+)['\"]")
_NOT_SHIPPED: Final = frozenset({"dev", "test"})
_MOST_LICENCE: Final = 80
_LICENCE: Final = "License :: OSI Approved :: "


class StoragePage:
    """Answers with how full it is, what takes the room, and when it will be full."""

    def __init__(
        self,
        usage: UsageFigures,
        state: Callable[[], Awaitable[ServerState]],
        layout: Layout,
        tiers: TierAdministration | None = None,
    ) -> None:
        self._usage = usage
        self._tiers = tiers
        self._state = state
        self._layout = layout

    def routes(self) -> Iterator[Route[Handler]]:
        """Where it is."""
        yield page("/storage", "state", self.show, "The disk, and what takes its room.")

    async def show(self, request: Request) -> Response:
        """The handler."""
        details = (await self._state()).details
        disk: Mapping[str, Any] = details.get("storage", {})
        usage = self._usage.latest()
        full = None
        if usage is not None and "available_bytes" in disk:
            today = datetime.now(UTC).date()
            full = filled_on(disk["available_bytes"], usage.bytes_a_day, today)
        tiers = None if self._tiers is None else await self._tiers.status()
        months = dict(list(usage.by_month.items())[:_MOST_MONTHS]) if usage is not None else {}
        return self._layout.page(
            request,
            "storage.html",
            section="storage",
            disk=disk,
            stored=details.get("stored"),
            usage=usage,
            months=months,
            most=max((one.size for one in months.values()), default=0),
            full=full,
            tiers=tiers,
            places={} if self._tiers is None else self._tiers.places,
        )


class ChecksPage:
    """Answers with what ``isocenter doctor`` would say."""

    def __init__(self, checks: Callable[[], Awaitable[Sequence[Check]]], layout: Layout) -> None:
        self._checks = checks
        self._layout = layout

    def routes(self) -> Iterator[Route[Handler]]:
        """Where it is."""
        yield page("/checks", "state", self.show, "The installation, looked at.")

    async def show(self, request: Request) -> Response:
        """The handler."""
        checks = await self._checks()
        return self._layout.page(request, "checks.html", section="checks", checks=checks)


class LogPage:
    """Answers with the latest lines of the log."""

    def __init__(self, processes: ServerProcesses, layout: Layout) -> None:
        self._processes = processes
        self._layout = layout

    def routes(self) -> Iterator[Route[Handler]]:
        """Where it is."""
        yield page("/log", "state", self.show, "The latest lines of the log.")

    async def show(self, request: Request) -> Response:
        """The handler."""
        level = request.parameter("level") or "info"
        if level not in _LEVELS:
            level = "info"
        words = (request.parameter("find") or "").strip()
        log = await self._processes.log()
        found = [one for one in log.lines if one.is_wanted(level, words)]
        return self._layout.page(
            request,
            "log.html",
            section="log",
            lines=found[:_MOST_LINES],
            is_cut=len(found) > _MOST_LINES,
            level=level,
            levels=_LEVELS,
            names={number: name.lower() for name, number in logging.getLevelNamesMapping().items()},
            find=words,
            workers=self._processes.number,
            answering=log.answering,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Component:
    """A distribution that is part of this installation."""

    name: str
    version: str
    licence: str


class AboutPage:
    """Answers with versions and licences."""

    def __init__(self, version: str, layout: Layout) -> None:
        self._version = version
        self._layout = layout

    def routes(self) -> Iterator[Route[Handler]]:
        """Where it is."""
        yield page("/about", "state", self.show, "Version, components and licences.")

    async def show(self, request: Request) -> Response:
        """The handler."""
        return self._layout.page(
            request,
            "about.html",
            section="about",
            version=self._version,
            python=platform.python_version(),
            system=f"{platform.system()} {platform.machine()}",
            sqlite=sqlite3.sqlite_version,
            openssl=ssl.OPENSSL_VERSION,
            components=await trio.to_thread.run_sync(_components),
        )


@cache
def _components() -> Sequence[Component]:
    """What Isocenter requires and is installed, by name."""
    found: dict[str, Component] = {}
    waiting = ["isocenter"]
    while waiting:
        name = waiting.pop()
        try:
            about = metadata.metadata(name)
        except metadata.PackageNotFoundError:
            continue
        key = about["Name"].lower().replace("_", "-")
        if key in found:
            continue
        found[key] = Component(
            name=about["Name"], version=about["Version"], licence=_licence_of(about)
        )
        waiting += [_name_of(one) for one in metadata.requires(name) or () if _is_ours(name, one)]
    return sorted(found.values(), key=lambda one: one.name.lower())


def _is_ours(name: str, requirement: str) -> bool:
    """Whether it is part of an archive: extras of others are theirs, and tests are ours alone."""
    extra = _EXTRA.search(requirement)
    return extra is None or (name == "isocenter" and extra[1] not in _NOT_SHIPPED)


def _name_of(requirement: str) -> str:
    end = next((at for at, one in enumerate(requirement) if one in " [;<>=!~("), len(requirement))
    return requirement[:end]


def _licence_of(about: metadata.PackageMetadata) -> str:
    """As the distribution says it, in one of the places where it can."""
    said = _said(about, "License-Expression")
    if not said:
        classifiers = about.get_all("Classifier") or ()
        said = ", ".join(
            one.removeprefix(_LICENCE) for one in classifiers if one.startswith(_LICENCE)
        )
    return (said or _said(about, "License")).partition("\n")[0][:_MOST_LICENCE]


def _said(about: metadata.PackageMetadata, name: str) -> str:
    return str(about[name]).strip() if name in about else ""
