"""Rules of retention as pages and the API show them."""

from __future__ import annotations

from time import time

from isocenter.services.archive.retention.rules import RetentionRule
from isocenter.services.archive.retention.service import RetentionLook, look
from isocenter.services.composition.archive import ArchiveParts, fullness_of, trash_of
from isocenter.services.settings.settings import Settings
from isocenter.services.web.parts import RetentionParts


def retention_of(settings: Settings, parts: ArchiveParts) -> RetentionParts | None:
    """The rules that the server keeps to; None: there is no trash."""
    trash = trash_of(settings, parts, "isocenter serve")
    if trash is None:
        return None
    fullness = fullness_of(settings, parts)

    async def look_at(rule: RetentionRule, limit: int) -> RetentionLook:
        return await look(rule, parts.stores.retention, trash, fullness.excess, time(), limit=limit)

    return RetentionParts(rules=lambda: settings.retention, look=look_at)
