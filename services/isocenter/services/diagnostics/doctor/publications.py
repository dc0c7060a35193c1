"""Check of publications: repositories that are behind, or that nobody knows any more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from isocenter.services.diagnostics.doctor.check import CheckResult, count
from isocenter.services.diagnostics.findings import Finding, Side, warning
from isocenter.services.integration.sharing.ports import Publication

#: A job that is at work, or tries again after a short fault, needs no one.
_PATIENCE_SECONDS: Final = 3_600.0


def assess_publications(
    repositories: Sequence[str],
    backlog: Mapping[str, tuple[int, float]],
    standing: Mapping[str, int],
    behind: Sequence[Publication],
    *,
    now: float,
) -> CheckResult:
    """What is against what repositories have, as far as the database knows; nobody is asked.

    Args:
        repositories: of the settings, by name.
        backlog: see `PublicationBook.backlog`.
        standing: see `PublicationBook.standing`.
        behind: some of the backlog, for what went wrong.
        now: seconds since 1970.
    """
    findings: list[Finding] = []
    faults = {one.repository: one.fault for one in reversed(behind) if one.fault}
    for name in repositories:
        number, since = backlog.get(name, (0, now))
        if number and now - since > _PATIENCE_SECONDS:
            said = f": {faults[name]}" if name in faults else ""
            findings.append(
                warning(
                    f"repository {name} is behind with {count(number, 'study', 'studies')} for "
                    f"{(now - since) / 3_600:.0f} h{said}",
                    meaning="others find outdated manifests there, withdrawn ones, or none",
                    cure="put that right; each is tried again by itself, see /publications",
                    side=Side.HERE,
                )
            )
    for name, number in standing.items():
        if name not in repositories:
            findings.append(
                warning(
                    f"{count(number, 'document')} of this archive stand in {name}, which the "
                    "settings have no more",
                    meaning="nobody brings them up to date, or deprecates them",
                    cure="put the repository back, withdraw them, and remove it then",
                    side=Side.HERE,
                )
            )
    documents = sum(standing.values())
    seen = f"{count(documents, 'document')} in {count(len(standing), 'repository', 'repositories')}"
    return CheckResult("publications", seen, tuple(findings))
