"""Trails made to order, and messages held against the schema of PS3.15 A.5.1."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from lxml import etree

from isocenter.services.security.audit.hash_chain import Entry, Record
from isocenter.services.security.audit.trail import Trail
from isocenter.services.security.audit.trail_reader import read_all

SCHEMA = etree.RelaxNG(etree.parse(Path(__file__).with_name("audit_message.rng")))
KEY = b"0123456789abcdef0123456789abcdef"


def parsed(xml: str) -> Any:
    """The message, after it was held against the schema."""
    root = etree.fromstring(xml.encode("ascii"))
    assert SCHEMA.validate(root), SCHEMA.error_log
    return root


def entry(text: str = "x") -> Entry:
    return Entry(
        time="2026-11-21T04:20:22.340942Z",
        event="Query",
        type="",
        outcome="0",
        ae_titles=("CT1", "ISOCENTER"),
        process=7,
        message=f'<AuditMessage note="{text}"/>',
    )


def trail(folder: Path, *, key: bytes | None = None, rotate_bytes: int = 1 << 30) -> Trail:
    return Trail(
        folder, rotate_bytes=rotate_bytes, note=lambda text: entry(f"note: {text}"), key=key
    )


def filled(
    folder: Path, count: int, *, key: bytes | None = None, rotate_bytes: int = 1 << 30
) -> list[Path]:
    """A trail of *count* records; its files."""
    made = trail(folder, key=key, rotate_bytes=rotate_bytes)
    for number in range(1, count + 1):
        made.append([entry(f"{number}")])
    return sorted(folder.glob("audit-*.jsonl"))


def notes(folder: Path) -> list[str]:
    """What the trail says about itself."""
    return [
        record.entry.message.split('"')[1]
        for record in read_all(folder)
        if 'note="note: ' in record.entry.message
    ]


def numbers(folder: Path) -> list[int]:
    return [record.sequence for record in read_all(folder)]


def messages(folder: Path) -> list[Any]:
    """All messages of a trail, each held against the schema."""
    return [parsed(record.entry.message) for record in read_all(folder)]


def records(folder: Path) -> list[Record]:
    return list(read_all(folder))


def of_event(roots: list[Any], code: str, kind: str = "") -> list[Any]:
    """Those with this EventID, and EventTypeCode if one is given."""
    return [
        root
        for root in roots
        if root.find("EventIdentification/EventID").get("csd-code") == code
        and (not kind or root.find("EventIdentification/EventTypeCode").get("csd-code") == kind)
    ]


def participant(root: Any, role: str) -> Any:
    """The one with this RoleIDCode."""
    (found,) = [
        each
        for each in root.findall("ActiveParticipant")
        if any(code.get("csd-code") == role for code in each.findall("RoleIDCode"))
    ]
    return found


def audited_object(root: Any, id_type: str) -> Any:
    """The participant object with this ParticipantObjectIDTypeCode."""
    (found,) = [
        each
        for each in root.findall("ParticipantObjectIdentification")
        if each.find("ParticipantObjectIDTypeCode").get("csd-code") == id_type
    ]
    return found


def detail(element: Any, kind: str) -> bytes:
    (found,) = [
        each for each in element.findall("ParticipantObjectDetail") if each.get("type") == kind
    ]
    return base64.b64decode(found.get("value"), validate=True)
