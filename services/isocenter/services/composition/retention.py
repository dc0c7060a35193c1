"""Rules of retention as pages and the API show them."""

from __future__ import annotations

from collections.abc import Sequence
from time import time

from isocenter.services.archive.archive import Archive
from isocenter.services.archive.retention.rules import RetentionRule
from isocenter.services.archive.retention.service import RetentionLook, look
from isocenter.services.composition.archive import ArchiveParts, fullness_of, trash_of
from isocenter.services.settings.settings import Settings
from isocenter.services.web.parts import RetentionParts


def retention_rules(settings: Settings, archive: Archive) -> Sequence[RetentionRule]:
    """Those of the settings, and what the rules that are in use say of what they match."""
    return (*settings.retention, *archive.rules.retention)


def retention_of(settings: Settings, parts: ArchiveParts) -> RetentionParts | None:
    """The rules that the server keeps to; None: there is no trash."""
    trash = trash_of(settings, parts, "isocenter serve")
    if trash is None:
        return None
    fullness = fullness_of(settings, parts)

    async def look_at(rule: RetentionRule, limit: int) -> RetentionLook:
        return await look(rule, parts.stores.retention, trash, fullness.excess, time(), limit=limit)

    return RetentionParts(rules=lambda: retention_rules(settings, parts.archive), look=look_at)
