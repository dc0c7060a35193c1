"""Check of doctor: its result, and the findings that it made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import field
from typing import Final

from isocenter.engine.fast_init import dataclass
from isocenter.services.diagnostics.findings import Finding, Severity

#: From the harmless to the bad.
_ORDER: Final = (None, Severity.NOTE, Severity.WARNING, Severity.ERROR)
_UNIT: Final = 1024
_UNITS: Final = ("KiB", "MiB", "GiB", "TiB", "PiB")


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One thing that was looked at.

    Attributes:
        what: its name, in a few words.
        seen: what was there, in one line, without PHI.
        findings: what is not as it should be; empty: all is well.
        details: more lines, for whoever wants them.
        facts: the same for programs; values that JSON knows.
    """

    what: str
    seen: str
    findings: tuple[Finding, ...] = ()
    details: tuple[str, ...] = ()
    facts: Mapping[str, object] = field(default_factory=dict)

    @property
    def severity(self) -> Severity | None:
        """The worst of its findings; None: there are none."""
        return max((finding.severity for finding in self.findings), key=_ORDER.index, default=None)

    @property
    def is_problem(self) -> bool:
        """Whether somebody should do something."""
        return self.severity in (Severity.WARNING, Severity.ERROR)


#: Hears of each as soon as it is known.
Tell = Callable[[CheckResult], None]


def count(number: int, noun: str, plural: str = "") -> str:
    """``1 study``, ``2 studies``."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def size_text(size: float) -> str:
    """Bytes, for people."""
    for power, unit in reversed(tuple(enumerate(_UNITS, 1))):
        if size >= _UNIT**power:
            return f"{size / _UNIT**power:.1f} {unit}"
    return f"{size:.0f} bytes"


def milliseconds(seconds: float) -> str:
    """For people."""
    return f"{1000 * seconds:.1f} ms"
