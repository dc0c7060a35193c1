"""Output of doctor's checks, as lines or JSON."""

from __future__ import annotations

import json
import os
import sys
from typing import Final, Protocol

from isocenter.services.cli.support.terminal import Terminal
from isocenter.services.diagnostics.doctor.check import CheckResult, count
from isocenter.services.diagnostics.findings import Finding, Severity
from isocenter.services.system.log_format import escape

_RESET: Final = "\033[0m"
_COLOURS: Final = {
    None: "\033[32m",
    Severity.NOTE: "\033[36m",
    Severity.WARNING: "\033[33m",
    Severity.ERROR: "\033[31m",
}
_MARK_WIDTH: Final = 8
_WHAT_WIDTH: Final = 20


class Output(Protocol):
    """Takes what was examined, one after the other."""

    problems: int

    def write(self, examined: CheckResult) -> None:
        """Show it now."""
        ...

    def summary(self) -> None:
        """The last line."""
        ...


class TextOutput:
    """Lines for people, in colour on a terminal that wants it."""

    def __init__(self, terminal: Terminal) -> None:
        self.problems = 0
        self._examined = 0
        self._is_verbose = terminal.is_verbose
        # https://no-color.org
        self._in_colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")

    def write(self, examined: CheckResult) -> None:
        """A line, and three for each finding."""
        self._examined += 1
        self.problems += examined.is_problem
        mark = self._mark(examined.severity)
        print(f"{mark}{escape(examined.what):<{_WHAT_WIDTH}}{escape(examined.seen)}")
        if self._is_verbose:
            for line in examined.details:
                print(f"{'':{_MARK_WIDTH}}  {escape(line)}")
        for finding in examined.findings:
            self._finding(finding)
        sys.stdout.flush()

    def _mark(self, severity: Severity | None) -> str:
        text = f"{severity.value if severity else 'ok':<{_MARK_WIDTH}}"
        return f"{_COLOURS[severity]}{text}{_RESET}" if self._in_colour else text

    def _finding(self, finding: Finding) -> None:
        clause = f" ({finding.clause})" if finding.clause else ""
        where = f", {finding.side.value}" if finding.side else ""
        for label, text in (
            (finding.severity.value, f"{finding.text}{clause}"),
            ("means", finding.meaning),
            (f"change{where}", finding.cure),
        ):
            if text:
                print(f"{'':{_MARK_WIDTH}}{label}: {escape(text)}")

    def summary(self) -> None:
        """How it stands."""
        if self.problems:
            print(f"{count(self.problems, 'problem')} in {count(self._examined, 'examination')}")
        else:
            print(f"{count(self._examined, 'examination')}, no problem")


class JsonOutput:
    """One JSON object on each line."""

    def __init__(self) -> None:
        self.problems = 0
        self._examined = 0

    def write(self, examined: CheckResult) -> None:
        """An object."""
        self._examined += 1
        self.problems += examined.is_problem
        entry = {
            "what": examined.what,
            "result": examined.severity.value if examined.severity else "ok",
            "seen": examined.seen,
            "findings": [
                {
                    "severity": finding.severity.value,
                    "text": finding.text,
                    "clause": finding.clause or None,
                    "meaning": finding.meaning or None,
                    "cure": finding.cure or None,
                    "side": finding.side.name.lower() if finding.side else None,
                }
                for finding in examined.findings
            ],
            "details": examined.details,
            "facts": dict(examined.facts),
        }
        print(json.dumps(entry), flush=True)

    def summary(self) -> None:
        """How it stands."""
        print(
            json.dumps({"kind": "summary", "examined": self._examined, "problems": self.problems})
        )
