"""Composition of the HL7 order listener from settings."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Final

from isocenter.services.integration.hl7.listener import ListenerLimits, OrderListener
from isocenter.services.integration.hl7.message import require_library
from isocenter.services.integration.hl7.order_service import OrderService
from isocenter.services.integration.hl7.rejected_messages import RejectedMessages
from isocenter.services.integration.hl7.step_fields import OrderRules
from isocenter.services.net.listeners import ListenAddress
from isocenter.services.notices import Notices
from isocenter.services.service_classes.worklist.ports import Worklist
from isocenter.services.settings.loading import Settings

#: In the data directory, unless hl7.reject_folder names another place.
REJECT_FOLDER: Final = "hl7-rejected"


def order_address(settings: Settings, tls: Callable[[], ssl.SSLContext] | None) -> ListenAddress:
    """Where to listen for orders, which are wanted.

    Raises:
        Hl7LibraryMissingError: the library that reads them is not installed.
    """
    hl7 = settings.hl7
    require_library()
    return ListenAddress(host=hl7.host, port=hl7.port, tls=tls if hl7.tls else None)


def order_listener(settings: Settings, worklist: Worklist, notices: Notices) -> OrderListener:
    """What takes orders from the sockets that it is given."""
    hl7 = settings.hl7
    rules = OrderRules(
        stations=_table(hl7.stations),
        modalities=_table(hl7.modalities),
        processing_ids=frozenset(hl7.processing_ids),
        character_set=hl7.character_set,
    )
    limits = ListenerLimits(
        message_bytes=hl7.max_message_bytes,
        connections=hl7.max_connections,
        idle=hl7.idle,
        answer=settings.deadlines.write_blocked,
        handshake=settings.deadlines.association_request,
        senders=hl7.senders,
    )
    intake = OrderService(worklist, rules, rejected=_reject_folder(settings), notices=notices)
    return OrderListener(intake.handle, limits, notices)


def _reject_folder(settings: Settings) -> RejectedMessages | None:
    if settings.hl7.reject_folder is not None:
        return RejectedMessages(settings.hl7.reject_folder)
    if settings.storage.is_in_memory:
        return None
    return RejectedMessages(Path(settings.storage.data_dir) / REJECT_FOLDER)


def _table(rows: tuple[str, ...]) -> dict[str, str]:
    """Of ``NAME=VALUE``."""
    return {name: value for name, _, value in (row.partition("=") for row in rows)}
