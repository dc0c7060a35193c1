"""Capacity check: how long the room lasts, and how to make some."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from isocenter.services.archive.capacity import reserve_of
from isocenter.services.archive.index_figures import RoomUsage
from isocenter.services.diagnostics.doctor.check import CheckResult, size_text
from isocenter.services.diagnostics.findings import Finding, Side, error, note, warning
from isocenter.services.settings.settings import Settings

#: So early it is said that the disk fills.
_SAID_DAYS: Final = 60
_SOON_DAYS: Final = 14
#: Further ahead nobody can say.
_FAR_DAYS: Final = 3_650


def assess_room(look: RoomUsage, settings: Settings) -> CheckResult:
    """What an archive's room looks like, and what could be done about it."""
    usage = shutil.disk_usage(Path(settings.storage.data_dir))
    total = usage.used + usage.free
    until_warning = usage.free - total * (1 - settings.monitoring.disk_warning / 100)
    days = until_warning / look.bytes_a_day if look.bytes_a_day else math.inf
    ways = list(_ways(look))
    seen = f"{size_text(look.bytes_a_day)} a day came in the last week"
    if 0 < days < _FAR_DAYS:
        seen += (
            f", until {settings.monitoring.disk_warning} % of the disk are used: {days:.0f} days"
        )
    seen += "; " + ("; ".join(ways) if ways else "nothing that could go is known")
    cure = "; ".join(ways) or "write rules of retention, or plan for a larger disk"
    findings = tuple(_findings(look, settings, usage.free, total, days, cure))
    facts: dict[str, object] = {
        "bytes_a_day": round(look.bytes_a_day),
        "trash_bytes": look.trash_size,
        "retention_bytes": look.retention_size,
        "committed_elsewhere_bytes": look.committed_size,
    }
    if days < math.inf:
        facts["days_until_disk_warning"] = round(max(days, 0.0), 1)
    return CheckResult("room", seen, findings, facts=facts)


def _ways(look: RoomUsage) -> Iterator[str]:
    """What makes room, the easiest first."""
    if look.trash_size:
        yield f"isocenter trash purge --all frees {size_text(look.trash_size)}"
    if look.retention_size:
        yield f"rules of retention will free up to {size_text(look.retention_size)}"
    if look.committed_size:
        yield f"{size_text(look.committed_size)} are committed elsewhere (rules)"


def _findings(
    look: RoomUsage, settings: Settings, free: int, total: int, days: float, cure: str
) -> Iterator[Finding]:
    reserve = reserve_of(settings.storage.reserve, total)
    if free < reserve:
        yield error(
            f"{size_text(free)} are free, and {size_text(reserve)} stay free for the index and the "
            "audit trail (storage.reserve)",
            meaning="each C-STORE is answered with A700H, out of resources",
            cure=cure,
            side=Side.HERE,
        )
    elif 0 < days < _SAID_DAYS:
        say = warning if days < _SOON_DAYS else note
        yield say(
            f"at the pace of the last week {settings.monitoring.disk_warning} % of the disk are "
            f"used in {days:.0f} days",
            cure=cure,
            side=Side.HERE,
        )
    quota = settings.storage.max_bytes
    used = look.size + look.trash_size + look.withheld_size
    if quota and used >= quota * settings.monitoring.disk_warning / 100:
        say = error if used >= quota else warning
        yield say(
            f"{used / quota:.0%} of the quota (storage.max_bytes) are used",
            meaning="beyond it each C-STORE is answered with A700H, out of resources",
            cure=cure,
            side=Side.HERE,
        )
