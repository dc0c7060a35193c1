"""Writes the reference pages of the engine: the DIMSE messages and the limits.

    python docs/engine_reference.py

They come from the tables that the code runs on; a test compares the pages with them.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

from isocenter.engine import DEFAULT_LIMITS, Limits, limits
from isocenter.engine.dimse import FIELDS, MESSAGES, MessageRule, Presence
from isocenter.engine.dimse.message_table import FORGIVEN

DOCS = Path(__file__).resolve().parent
MAKE = "python docs/engine_reference.py"
GENERATED = f"<!-- Made by `{MAKE}`; edit the tables in the code instead. -->"

_MESSAGES_HEAD = f"""\
{GENERATED}

# The DIMSE messages

One frozen class each, in `isocenter.engine`. This page is made from the table that encodes and
decodes them (`isocenter.engine.dimse.MESSAGES`); the presence rules are those of PS3.7, 9.1 and
10.1:

| | |
| --- | --- |
| M | mandatory |
| U | the sender may leave it out |
| C | there under a condition of the standard |
| (=) | when it is there, it has the value of the request |

Every message also has Command Group Length (0000,0000), Command Field (0000,0100) and Command Data
Set Type (0000,0800); the codec makes them and a message value does not hold them. A field that is
not there is `""`, `()` or `None` in the value.

What a peer leaves out or gets wrong: a request without a mandatory field, or with a field of a
wrong length, becomes an `UnrecognizedMessage` that is answered 0212H (mistyped argument); an
unknown command field is answered 0211H (unrecognized operation); a response without a mandatory
field, and a request without Message ID, end the association (A-ABORT, source 2, reason 6).
{{forgiven}}

What bounds a message is on the page of [limits](limits.md).
"""

_LIMITS_HEAD = f"""\
{GENERATED}

# The limits of the engine

What a peer can make the engine hold, and how much work it can make of a message: the fields of
`isocenter.engine.Limits`, judged on announced lengths, before anything is kept. Lengths are in
bytes, headers excluded. Deadlines need a clock and belong to the driver.

| limit | default | reason |
| --- | ---: | --- |
"""


def messages_page() -> str:
    """``engine.md``."""
    names = " and ".join(FIELDS[name].name for name in FIELDS if name in FORGIVEN)
    head = _MESSAGES_HEAD.format(
        forgiven=f"{names} are forgiven: without them it is plain what is meant."
    )
    return head + "".join(_message(rule) for rule in MESSAGES)


def _message(rule: MessageRule) -> str:
    number = f"command field {rule.command_field:04X}H"
    lines = [
        "",
        f"## {rule.name}",
        "",
        f"`{rule.message_class.__name__}`, {number}, PS3.7 {rule.clause}. {_data_set(rule)}",
        "",
        "| element | VR | name | presence | field |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, presence in rule.fields.items():
        element, vr, standard_name = FIELDS[name]
        lines.append(
            f"| (0000,{element:04X}) | {vr} | {standard_name} | {presence.value} | `{name}` |"
        )
    return "\n".join(lines) + "\n"


def _data_set(rule: MessageRule) -> str:
    if rule.data_set_presence is Presence.NEVER:
        return "No data set."
    return f"Data set: {rule.data_set} ({rule.data_set_presence.value})."


def limits_page() -> str:
    """``limits.md``."""
    reasons = dict(_reasons())
    rows = (
        f"| `{field.name}` | {getattr(DEFAULT_LIMITS, field.name):,} | {reasons[field.name]} |\n"
        for field in fields(Limits)
    )
    return _LIMITS_HEAD + "".join(rows)


def _reasons() -> Iterator[tuple[str, str]]:
    """Field of `Limits` → the comment that stands before it."""
    source = inspect.getsource(limits)
    lines = source.splitlines()
    (definition,) = (node for node in ast.parse(source).body if isinstance(node, ast.ClassDef))
    for node in definition.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            comment: list[str] = []
            line = node.lineno - 2
            while lines[line].strip().startswith("#:"):
                comment.insert(0, lines[line].strip().removeprefix("#:").strip())
                line -= 1
            yield node.target.id, " ".join(" ".join(comment).split())


#: File in ``docs`` → what it holds.
PAGES = {"engine.md": messages_page, "limits.md": limits_page}


if __name__ == "__main__":
    for file_name, page in PAGES.items():
        (DOCS / file_name).write_text(page(), "utf-8")
