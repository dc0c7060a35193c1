"""Findings of validation, and what they come to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import field
from typing import Final, Literal

from isocenter.engine.fast_init import dataclass

Severity = Literal["error", "warning", "info"]
#: The worst first.
SEVERITIES: Final[tuple[Severity, ...]] = ("error", "warning", "info")
#: Different findings that are kept of one object; more are only counted.
MAX_FINDINGS: Final = 1000
#: Places that are looked at of all findings of one object, some ten microseconds each.
MAX_PLACES: Final = 250_000


class TooManyPlacesError(Exception):
    """An object breaks rules in more than `MAX_PLACES` places: it is judged no further."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something that is not as the standard has it.  Values of attributes are never in it.

    Attributes:
        code: of the rule, such as ``CT-TYPE1-MISSING``.
        tag: of the attribute; None: it is about the whole object.
        path: to it, in words of the data dictionary; the first of *count* places.
        source: module, functional group, or clause that asks for it.
        edition: of the standard in which it does.
    """

    severity: Severity
    code: str
    message: str
    tag: int | None = None
    path: str = ""
    source: str = ""
    edition: str = ""
    count: int = 1


@dataclass(slots=True)
class Result:
    """What validation found in one object.

    Attributes:
        iod: name of the IOD; empty where nobody knows the SOP class.
        not_judged: attributes and modules whose condition is not understood, and that are not
            there: whether they had to be is open.  Path → what asks for it.
        left_out: findings beyond `MAX_FINDINGS`.
        prefix: of their codes.
    """

    sop_class_uid: str = ""
    sop_instance_uid: str = ""
    iod: str = ""
    findings: list[Finding] = field(default_factory=list)
    not_judged: dict[str, str] = field(default_factory=dict)
    left_out: int = 0
    is_strict: bool = False
    prefix: str = ""

    def leave_open(self, path: str, why: str) -> None:
        """Say that it could not be judged whether something had to be there."""
        if len(self.not_judged) < MAX_FINDINGS:
            self.not_judged.setdefault(without_numbers(path), why)

    def count(self, severity: Severity) -> int:
        """How many findings are of *severity*."""
        return sum(finding.severity == severity for finding in self.findings)

    @property
    def errors(self) -> int:
        """How many errors there are."""
        return self.count("error")

    @property
    def warnings(self) -> int:
        """How many warnings there are."""
        return self.count("warning")

    @property
    def is_valid(self) -> bool:
        """Whether there are no errors; where it is strict, no warnings either."""
        return not self.errors and not (self.is_strict and self.warnings)

    @property
    def summary(self) -> str:
        """What it comes to, on one line."""
        outcome = "PASSED" if self.is_valid else "FAILED"
        return f"Validation {outcome} - {self.errors} error(s), {self.warnings} warning(s)"

    def codes(self) -> set[str]:
        """The codes of all findings."""
        return {finding.code for finding in self.findings}


class Collector:
    """Findings while they are made; the same one at many places is one with a count."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str], Finding] = {}
        self._counts: dict[tuple[str, str], int] = {}
        self.left_out = 0

    def add(self, finding: Finding) -> None:
        """Take it in, or count it."""
        key = (finding.code, without_numbers(finding.path) or finding.message)
        if key in self._found:
            self._counts[key] += 1
        elif len(self._found) < MAX_FINDINGS:
            self._found[key] = finding
            self._counts[key] = 1
        else:
            self.left_out += 1

    def withdraw(self, finding: Finding) -> None:
        """Take one place of a finding back."""
        key = (finding.code, without_numbers(finding.path) or finding.message)
        if key in self._found:
            self._counts[key] -= 1
            if not self._counts[key]:
                del self._found[key], self._counts[key]

    def findings(self) -> Iterator[Finding]:
        """All, the worst first, in the order in which they were made."""
        for severity in SEVERITIES:
            for key, finding in self._found.items():
                if finding.severity == severity:
                    yield _counted(finding, self._counts[key])


def _counted(finding: Finding, count: int) -> Finding:
    if count == 1:
        return finding
    return Finding(
        severity=finding.severity, code=finding.code, message=finding.message, tag=finding.tag,
        path=finding.path, source=finding.source, edition=finding.edition, count=count,
    )  # fmt: skip


def without_numbers(path: str) -> str:
    """A path without the numbers of its items."""
    if "[" not in path:
        return path
    return ".".join(step.partition("[")[0] for step in path.split("."))
