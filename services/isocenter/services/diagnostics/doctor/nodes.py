"""Nodes of an archive: lost ones, clocks that differ, a slow database."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from isocenter.services.cluster.member import Member, MemberState
from isocenter.services.cluster.membership import MOST_CLOCK_OFFSET_SECONDS
from isocenter.services.diagnostics.doctor.check import CheckResult
from isocenter.services.diagnostics.findings import Finding, Side, note, warning

#: Each object that is stored waits for a few answers.
_SLOW_SECONDS: Final = 0.25


def assess_nodes(members: Sequence[Member], *, own_clock_offset: float) -> CheckResult:
    """How the nodes do, as the database knows them.

    Args:
        own_clock_offset: seconds by which the clock of this machine is ahead of the database's.
    """
    findings: list[Finding] = []
    for member in members:
        if member.state is MemberState.LOST:
            findings.append(
                warning(
                    f"the node {member.name} was heard {member.silent_seconds:.0f} s ago",
                    meaning="the others do what it had begun",
                    cure=f"start it again, or forget it: isocenter nodes remove {member.name}",
                    side=Side.HERE,
                )
            )
        if not member.is_alive:
            continue
        _add_clock(findings, f"the node {member.name}", member.clock_offset)
        if member.answer_seconds > _SLOW_SECONDS:
            findings.append(
                warning(
                    f"the database takes {member.answer_seconds * 1e3:.0f} ms to answer the node "
                    f"{member.name}",
                    meaning="each object that is stored waits for several answers",
                    cure="bring them nearer to each other, or see what keeps the database busy",
                    side=Side.HERE,
                )
            )
    _add_clock(findings, "this machine", own_clock_offset)
    versions = sorted({member.version for member in members if member.is_alive})
    if len(versions) > 1:
        findings.append(
            note(
                f"nodes run several versions: {', '.join(versions)}",
                cure="bring all of them to the same when the upgrade is through",
            )
        )
    alive = sum(member.is_alive for member in members)
    return CheckResult("nodes", f"{alive} of {len(members)} live", tuple(findings))


def _add_clock(findings: list[Finding], whose: str, offset: float) -> None:
    if abs(offset) > MOST_CLOCK_OFFSET_SECONDS:
        findings.append(
            warning(
                f"the clock of {whose} is {abs(offset):.0f} s "
                f"{'ahead of' if offset > 0 else 'behind'} the database's",
                meaning="leases go by the database's clock; times in logs, and what certificates "
                "and tokens are good for, by each machine's",
                cure="synchronize the clocks (NTP)",
                side=Side.HERE,
            )
        )
