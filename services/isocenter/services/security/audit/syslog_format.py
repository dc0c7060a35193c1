"""Syslog format of audit records (RFC 5424; PS3.15 A.6, A.7)."""

from __future__ import annotations

import re
from typing import Final

from isocenter.services.security.audit.hash_chain import Record
from isocenter.services.security.audit.messages import Outcome

#: Security and authorization messages.
_FACILITY: Final = 10
_NOTICE: Final = 5
_WARNING: Final = 4
MESSAGE_ID: Final = "DICOM+RFC3881"
APPLICATION: Final = "isocenter"
#: What a UDP datagram holds under IPv4; what is longer is cut, as A.7 has it.
LONGEST_DATAGRAM: Final = 65_507

_UNPRINTABLE: Final = re.compile(r"[^\x21-\x7e]")


def syslog_message(record: Record, machine: str) -> bytes:
    """Header, no structured data, and the XML; the same bytes whenever it is made.

    The XML is ASCII, so that it needs no byte order mark (RFC 5424 6.4).
    """
    entry = record.entry
    severity = _NOTICE if entry.outcome == Outcome.SUCCESS.value else _WARNING
    header = " ".join(
        (
            f"<{_FACILITY * 8 + severity}>1",
            _field(entry.time, 32),
            _field(machine, 255),
            APPLICATION,
            _field(str(entry.process), 128),
            MESSAGE_ID,
            "-",
        )
    )
    return f"{header} {entry.message}".encode("ascii", "backslashreplace")


def octet_counted(message: bytes) -> bytes:
    """A frame of a stream: octet count, space, message (RFC 5425 4.3)."""
    return b"%d %b" % (len(message), message)


def _field(text: str, longest: int) -> str:
    return _UNPRINTABLE.sub("", text)[:longest] or "-"
