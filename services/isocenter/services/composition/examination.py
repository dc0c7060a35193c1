"""Examination of an installation, from its settings to its objects."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from time import time
from typing import Final

import trio

from isocenter.services.composition.audit import audit_folder, is_trail_enabled, keeping_of
from isocenter.services.composition.database import INDEX_FILE, inspect_database
from isocenter.services.composition.inspection import inspect_archive, inspect_room
from isocenter.services.composition.objects import try_bucket
from isocenter.services.diagnostics.doctor.archive import assess_database, assess_inspection
from isocenter.services.diagnostics.doctor.audit_trail import check_audit_trail
from isocenter.services.diagnostics.doctor.capacity import assess_room
from isocenter.services.diagnostics.doctor.check import CheckResult, Tell
from isocenter.services.diagnostics.findings import Finding, Side, error
from isocenter.services.errors import StorageError
from isocenter.services.settings.settings import Settings
from isocenter.services.web.parts import Check

#: For SQLite's check of the index; a few million instances fit.
_QUICK_SECONDS: Final = 5.0
#: Objects that are compared with the index.
_SAMPLE: Final = 50
#: The same answer serves everybody who looks within so many seconds.
_KEPT_SECONDS: Final = 30.0


class Checks:
    """Examines a server that runs, for its pages; not oftener than once in a while.

    Args:
        settings: those of the moment.
    """

    def __init__(self, settings: Callable[[], Settings]) -> None:
        self._settings = settings
        self._one_at_a_time = trio.Lock()
        self._found: Sequence[Check] = ()
        self._looked_at = -math.inf

    async def look(self) -> Sequence[Check]:
        """What was seen, at most `_KEPT_SECONDS` ago."""
        async with self._one_at_a_time:
            if trio.current_time() - self._looked_at >= _KEPT_SECONDS:
                found: list[Check] = []
                await examine(self._settings(), lambda result: found.append(_shown(result)))
                self._found, self._looked_at = found, trio.current_time()
            return self._found


def _shown(result: CheckResult) -> Check:
    return Check(
        what=result.what,
        seen=result.seen,
        severity="" if result.severity is None else result.severity.name.lower(),
        findings=[(one.text, one.meaning, one.cure) for one in result.findings],
    )


async def examine(settings: Settings, tell: Tell) -> bool:
    """Look at all that can be looked at beside a server that runs; nothing is changed.

    Returns whether its objects can be compared with its index.
    """
    # Late: it knows certificates and HTTP, which take a tenth of a second of each start.
    from isocenter.services.diagnostics.doctor.installation import check_installation

    await check_installation(settings, tell)
    if settings.storage.is_in_memory:
        return False
    trail = audit_folder(settings) if is_trail_enabled(settings) else None
    tell(await trio.to_thread.run_sync(check_audit_trail, trail, partial(keeping_of, settings)))
    data_dir = Path(settings.storage.data_dir)
    if not (data_dir / "objects").is_dir() and not settings.database.url:
        return False
    if settings.objects.in_bucket is not None:
        tell(await _check_bucket(settings))
    if settings.database.url:
        database = await trio.to_thread.run_sync(inspect_database, settings, abandon_on_cancel=True)
        tell(assess_database(database))
        return not database.fault
    found = await trio.to_thread.run_sync(
        lambda: inspect_archive(
            settings.objects.folder(data_dir),
            data_dir / INDEX_FILE,
            seconds=_QUICK_SECONDS,
            sample=_SAMPLE if settings.objects.in_bucket is None else 0,
        ),
        abandon_on_cancel=True,
    )
    for examined in assess_inspection(found, settings):
        tell(examined)
    is_usable = not found.fault and not found.damage
    if not is_usable or found.schema_version != found.latest_version:
        return False
    room = await trio.to_thread.run_sync(
        lambda: inspect_room(
            data_dir / INDEX_FILE, settings.retention, seconds=_QUICK_SECONDS, now=time()
        ),
        abandon_on_cancel=True,
    )
    if room is not None:
        tell(assess_room(room, settings))
    return True


async def _check_bucket(settings: Settings) -> CheckResult:
    findings: tuple[Finding, ...] = ()
    try:
        await try_bucket(settings)
    except StorageError as fault:
        findings = (
            error(
                str(fault),
                meaning="isocenter serve does not start, or stores nothing",
                side=Side.HERE,
            ),
        )
    return CheckResult("object store", str(settings.objects.url), findings)
