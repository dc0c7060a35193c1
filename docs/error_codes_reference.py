"""Writes the reference page of the error codes: ``reference/error-codes.md``.

    python docs/error_codes_reference.py

It comes from the table of the engine and from the exceptions that have the codes; a test compares
the page with them.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from pathlib import Path

import isocenter.engine
import isocenter.services
from isocenter.engine.error_codes import AREAS, ErrorCode
from isocenter.engine.errors import IsocenterError

PAGE = Path(__file__).resolve().parent / "reference" / "error-codes.md"
ROOTS = ("isocenter.engine.", "isocenter.services.")
MAKE = "python docs/error_codes_reference.py"
_HEAD = f"""\
<!-- Made by `{MAKE}`; edit the table in the code instead. -->

# Error codes

Every error that is expected has a number below zero, which stays the same from release to release.
Commands print it behind the message, as `(error -764)`; lines of the log have it likewise, or as
`error` in JSON; problem objects of the [administration API](administration-api.md) have it as
`error` beside their own `code`; in Python it is `error_code` of the exception, an `ErrorCode` of
`isocenter.engine.error_codes`.

DIMSE statuses are no such numbers: an operation that a peer refuses is -762, or a code of its
service, and the status stands in the message. A code without an exception is kept for what other
systems report by it.
"""


def exceptions() -> dict[ErrorCode, list[str]]:
    """The names of the public exceptions of each code."""
    for package in (isocenter.engine, isocenter.services):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)
    found: dict[ErrorCode, set[str]] = {}
    for kind in _below(IsocenterError):
        if not kind.__name__.startswith("_") and kind.__module__.startswith(ROOTS):
            found.setdefault(kind.error_code, set()).add(kind.__name__)
    return {code: sorted(names) for code, names in found.items()}


def page() -> str:
    """The whole page."""
    raised = exceptions()
    lines = [_HEAD]
    for code in ErrorCode:
        if code in AREAS:
            lines += [
                "",
                f"## {AREAS[code]}",
                "",
                "| code | what | exceptions |",
                "| --- | --- | --- |",
            ]
        names = ", ".join(f"`{name}`" for name in raised.get(code, ()))
        lines.append(f"| {code:d} | {code.words} | {names} |")
    return "\n".join(lines).replace("\n\n\n", "\n\n") + "\n"


def _below(kind: type[IsocenterError]) -> Iterator[type[IsocenterError]]:
    yield kind
    for one in kind.__subclasses__():
        yield from _below(one)


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
