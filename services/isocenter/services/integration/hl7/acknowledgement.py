"""Acknowledgements (HL7 v2 2.9, 2.13): what became of a message, for its sender."""

from __future__ import annotations

import re
import secrets
from datetime import UTC, datetime
from enum import Enum
from typing import Final

from isocenter.services.integration.hl7.errors import Hl7Error
from isocenter.services.integration.hl7.message import Delimiters, Message

_DEFAULT_VERSION: Final = "2.5.1"
_VERSION: Final = re.compile(r"2\.[0-9](\.[0-9]{1,2})?", re.ASCII)
#: Before it, ERR-1 says where and what; from it on, ERR-2, ERR-3 and ERR-8 do.
_ERR_IN_FIELDS: Final = (2, 5)
#: From it on MSA-3 is withdrawn.
_WITHOUT_TEXT: Final = (2, 7)
#: From it on MSH-9 has a third component.
_WITH_STRUCTURE: Final = (2, 4)
_LONGEST_ID: Final = 199
_LONGEST_FIELD: Final = 250
#: Lengths of ST and TX in MSA-3 and ERR-8.
_LONGEST_TEXT: Final = 250
_TABLE: Final = "HL70357"


class Outcome(Enum):
    """HL7 Table 0008."""

    ACCEPT = "AA"
    ERROR = "AE"
    REJECT = "AR"


#: In enhanced mode, where only the accept acknowledgement is wanted.
_ACCEPT_CODES: Final = {Outcome.ACCEPT: "CA", Outcome.ERROR: "CE", Outcome.REJECT: "CR"}


def acknowledgement(
    header: Message | None, outcome: Outcome, fault: Hl7Error | None = None
) -> bytes | None:
    """The message that answers.

    In original mode (MSH-15 and MSH-16 empty) always one.  In enhanced mode the sender says
    when it wants which; where it wants both, it gets the application acknowledgement, as two
    answers to one message would be taken for the answer to the next.

    Args:
        header: of the message that is answered; None: it had none that can be read.

    Returns:
        None: the sender wants none.
    """
    code = _code(header, outcome)
    if code is None:
        return None
    d = Delimiters() if header is None else header.header.delimiters
    sent = [""] * 20
    if header is not None:
        sent = [header.header.as_sent(n)[:_LONGEST_FIELD] for n in range(20)]
    encoding = sent[2] or "^~\\&"
    version = sent[12] if _VERSION.fullmatch(sent[12]) else _DEFAULT_VERSION
    number = tuple(map(int, version.split(".")[:2]))
    event = "" if header is None else _escaped(header.header.text(9, 2)[:3], d)
    kind = ["ACK", event, "ACK"] if event and number >= _WITH_STRUCTURE else ["ACK", event]
    now = datetime.now(UTC).astimezone().strftime("%Y%m%d%H%M%S%z")
    fields = [
        "MSH", encoding, sent[5], sent[6], sent[3], sent[4], now, "",
        d.component.join(kind).rstrip(d.component), secrets.token_hex(8), sent[11] or "P", version,
        "", "", "", "", "", sent[18],
    ]  # fmt: skip
    text = "" if fault is None else _escaped(str(fault), d)[:_LONGEST_TEXT]
    segments = [fields, ["MSA", code, sent[10][:_LONGEST_ID]]]
    if number < _WITHOUT_TEXT:
        segments[-1].append(text)
    if fault is not None:
        segments.append(_error(fault, text, d, in_fields=number >= _ERR_IN_FIELDS))
    lines = (d.field.join(segment).rstrip(d.field) for segment in segments)
    # The header was read as Latin-1 whatever it is: its bytes go back as they came.
    return "".join(line + "\r" for line in lines).encode("latin-1", "replace")


def _code(header: Message | None, outcome: Outcome) -> str | None:
    if header is None:
        return outcome.value
    accept, application = header.header.text(15), header.header.text(16)
    if not (accept or application) or _is_wanted(application, outcome):
        return outcome.value
    return _ACCEPT_CODES[outcome] if _is_wanted(accept, outcome) else None


def _is_wanted(condition: str, outcome: Outcome) -> bool:
    """By HL7 Table 0155."""
    match condition:
        case "AL":
            return True
        case "SU":
            return outcome is Outcome.ACCEPT
        case "ER":
            return outcome is not Outcome.ACCEPT
        case _:
            return False


def _error(fault: Hl7Error, text: str, d: Delimiters, *, in_fields: bool) -> list[str]:
    place, code = fault.place, fault.code
    where = [place.segment, str(place.number), str(place.field) if place.field else ""]
    if in_fields:
        coded = d.component.join((str(code.number), code.meaning, _TABLE))
        location = d.component.join(where).rstrip(d.component)
        return ["ERR", "", location, coded, "E", "", "", "", text]
    coded = d.subcomponent.join((str(code.number), code.meaning, _TABLE))
    return ["ERR", d.component.join((*where, coded))]


def _escaped(text: str, d: Delimiters) -> str:
    names = {
        d.escape: "E", d.field: "F", d.component: "S", d.repetition: "R", d.subcomponent: "T",
    }  # fmt: skip
    return "".join(f"{d.escape}{names[c]}{d.escape}" if c in names else c for c in text)
