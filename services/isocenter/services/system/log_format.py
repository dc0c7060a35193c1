"""Log lines, text or JSON, without anything that a peer could forge."""

from __future__ import annotations

import logging
import re
import sys
from datetime import UTC, datetime
from typing import Final

import orjson

from isocenter.engine.error_codes import ErrorCode
from isocenter.engine.errors import IsocenterError
from isocenter.services.notices import association_name
from isocenter.services.system.log_file import LogFile
from isocenter.services.system.recent_log import RecentLog

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
#: No message of ours needs more; a traceback keeps its lines.
_LONGEST_MESSAGE: Final = 2_000


def escape(text: str) -> str:
    """*text* on one line: control characters as ``\\xNN``, cut to a bound."""
    if len(text) > _LONGEST_MESSAGE:
        text = text[:_LONGEST_MESSAGE] + "…"
    return _CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", text)


def _error_code_of(record: logging.LogRecord) -> ErrorCode | None:
    """Of the error that a line is about: one of its arguments, or what is being handled.

    What is told as usual is no error, though an exception may stand in it: a release ends an
    association, too.
    """
    if record.levelno < logging.WARNING:
        return None
    about = record.args if isinstance(record.args, tuple) else ()
    raised = record.exc_info[1] if record.exc_info else None
    for one in (raised, *about):
        if isinstance(one, IsocenterError):
            return one.error_code
    return None


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        when = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        name = association_name.get()
        line = (
            f"{when} {record.levelname.lower():<7} {record.name}: "
            f"{f'[{name}] ' if name else ''}{escape(record.getMessage())}"
        )
        code = _error_code_of(record)
        if code is not None:
            line += f" (error {code:d})"
        if record.exc_info:
            # Set off: the text of an exception may hold what looks like a line of its own.
            traceback = self.formatException(record.exc_info).split("\n")
            line += "".join(f"\n  {escape(one)}" for one in traceback)
        return line


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": escape(record.getMessage()),
        }
        if name := association_name.get():
            entry["association"] = name
        code = _error_code_of(record)
        if code is not None:
            entry["error"] = int(code)
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return orjson.dumps(entry).decode()


def formatter(*, as_json: bool) -> logging.Formatter:
    """What makes lines of what is logged."""
    return _Json() if as_json else _Text()


def configure(level: str, *, as_json: bool, file: LogFile | None = None) -> None:
    """Send what the program logs to standard error, or to *file*.

    Args:
        level: the least severe lines that are written, as `logging` names it.
    """
    handler = logging.StreamHandler(sys.stderr) if file is None else file
    # What no line of ours shows costs a third of making it.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging._srcfile = None
    handler.setFormatter(formatter(as_json=as_json))
    root = logging.getLogger("isocenter")
    before = root.handlers[:]
    root.handlers[:] = [handler, *(each for each in before if isinstance(each, RecentLog))]
    for each in before:
        if isinstance(each, LogFile):
            each.close()
    root.setLevel(level.upper())
    root.propagate = False
