"""Audit trail check: can it be kept, and until when is there room."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from isocenter.engine.errors import IsocenterError
from isocenter.services.diagnostics.doctor.check import CheckResult, size_text
from isocenter.services.diagnostics.findings import Finding, Side, error, note, warning
from isocenter.services.security.audit.trail_growth import TrailGrowth, growth_of
from isocenter.services.security.audit.trail_removal import RemovalRefusedError, plan_removal
from isocenter.services.security.audit.trail_segments import segments_of
from isocenter.services.security.audit.trail_upkeep import Keeping

#: So early it is said that the disk fills.
_SAID_DAYS: Final = 365
_SOON_DAYS: Final = 30
#: Files that should have been removed so long ago have something against it.
_LATE: Final = timedelta(days=1)
_CURE: Final = (
    "set audit.keep_days, remove what need not be kept (isocenter audit remove), or put the trail "
    "on a larger disk (audit.folder)"
)


def check_audit_trail(folder: Path | None, keeping_of: Callable[[], Keeping]) -> CheckResult:
    """The files of the trail; `isocenter audit verify` reads them.

    Args:
        folder: None: no trail is kept.
        keeping_of: says how it is kept, if its key can be read.
    """
    what = "audit trail"
    if folder is None:
        return CheckResult(what, "none is kept (audit.enabled)")
    try:
        if not segments_of(folder):
            return CheckResult(what, f"{folder}: none yet")
        keeping, now = keeping_of(), datetime.now(UTC)
        growth = growth_of(folder, compress=keeping.compress, keep_days=keeping.keep_days, now=now)
        findings = tuple(_findings(folder, growth, keeping, now))
    except (OSError, IsocenterError) as fault:
        finding = error(
            str(fault),
            meaning="nobody knows whether the trail can be kept",
            cure="run doctor as the user of the server, and look at audit.hmac_key_file",
            side=Side.HERE,
        )
        return CheckResult(what, str(folder), (finding,))
    return CheckResult(
        what, f"{folder}: " + "; ".join(growth_lines(growth)), findings, facts=growth_facts(growth)
    )


def _findings(
    folder: Path, growth: TrailGrowth, keeping: Keeping, now: datetime
) -> Iterator[Finding]:
    days = growth.days_until_full
    if days is not None and days < _SAID_DAYS:
        say = warning if days < _SOON_DAYS else note
        yield say(
            f"at this pace the disk is full of the trail in {days:.0f} days",
            cure=_CURE,
            side=Side.HERE,
        )
    if not keeping.keep_days:
        return
    before = now - timedelta(days=keeping.keep_days) - _LATE
    try:
        plan_removal(folder, before, key=keeping.key, collectors=keeping.collectors)
    except RemovalRefusedError as fault:
        yield warning(
            f"old files of the trail are not removed: {fault}",
            meaning="the trail grows beyond audit.keep_days",
            cure="isocenter audit verify names what was changed; a collector gets the rest "
            "when it is back, or is taken out of audit.collectors",
            side=Side.HERE,
        )


def growth_lines(growth: TrailGrowth) -> list[str]:
    """For people."""
    since = f" since {growth.since:%Y-%m-%d}" if growth.since else ""
    files = "1 file" if growth.files == 1 else f"{growth.files} files"
    lines = [f"{size_text(growth.size)} in {files} ({growth.compressed} compressed){since}"]
    if growth.bytes_a_day is None:
        lines.append("it is less than a day old: how it grows cannot be said yet")
        return lines
    lines.append(f"{size_text(growth.bytes_a_day)} a day")
    if growth.largest is not None:
        lines.append(
            f"files are removed after {growth.keep_days} days (audit.keep_days): at this pace it "
            f"grows to {size_text(growth.largest)}"
        )
    else:
        lines.append("no file is ever removed (audit.keep_days)")
    free = f"{size_text(growth.free)} are free"
    days = growth.days_until_full
    lines.append(free if days is None else f"{free}: full of it in {_days_text(days)}")
    return lines


def growth_facts(growth: TrailGrowth) -> dict[str, object]:
    """For programs."""
    days = growth.days_until_full
    return {
        "files": growth.files,
        "compressed": growth.compressed,
        "bytes": growth.size,
        "since": growth.since.isoformat() if growth.since else None,
        "bytes_a_day": None if growth.bytes_a_day is None else round(growth.bytes_a_day),
        "keep_days": growth.keep_days,
        "largest_bytes": None if growth.largest is None else round(growth.largest),
        "free_bytes": growth.free,
        "days_until_full": None if days is None else round(days, 1),
    }


def _days_text(days: float) -> str:
    years = days / 365.25
    return f"{years:,.0f} years" if years >= 2 else f"{days:.0f} days"
