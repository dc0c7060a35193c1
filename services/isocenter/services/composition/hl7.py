"""Composition of the HL7 order listener from settings.

What reads HL7 is imported where orders are taken: who has none needs none of it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from isocenter.services.composition.archive import ArchiveParts, corrections_of
from isocenter.services.composition.tls_contexts import TlsContexts
from isocenter.services.net.listeners import ListenAddress
from isocenter.services.notices import Notices
from isocenter.services.service_classes.worklist.ports import Worklist
from isocenter.services.settings.settings import Settings
from isocenter.services.workflow.reconciliation.service import Reconciliation
from isocenter.services.workflow.reconciliation.worklist import PatientEntries

if TYPE_CHECKING:
    from isocenter.services.integration.hl7.listener import OrderListener
    from isocenter.services.integration.hl7.rejected_messages import RejectedMessages

#: In the data directory, unless hl7.reject_folder names another place.
REJECT_FOLDER: Final = "hl7-rejected"


def order_address(settings: Settings, tls: TlsContexts | None) -> ListenAddress | None:
    """Where to listen for orders; None: they are not taken.

    Raises:
        Hl7LibraryMissingError: the library that reads them is not installed.
    """
    hl7 = settings.hl7
    if not hl7.enabled:
        return None
    from isocenter.services.integration.hl7.message import require_library

    require_library()
    context = None if tls is None or not hl7.tls else lambda: tls.server
    return ListenAddress(host=hl7.host, port=hl7.port, tls=context)


def order_listener(
    settings: Settings, worklist: Worklist, notices: Notices, parts: ArchiveParts
) -> OrderListener:
    """What takes orders, and what is said of patients, from the sockets that it is given."""
    from isocenter.services.integration.hl7.listener import ListenerLimits, OrderListener
    from isocenter.services.integration.hl7.order_service import OrderService
    from isocenter.services.integration.hl7.step_fields import OrderRules

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
    patients = None
    if hl7.patients:
        from isocenter.services.integration.hl7.patient_messages import PatientMessages

        patients = PatientMessages(reconciliation_of(settings, parts, notices))
    intake = OrderService(
        worklist,
        rules,
        rejected=_reject_folder(settings),
        notices=notices,
        patients=patients,
    )
    return OrderListener(intake.handle, limits, notices)


def reconciliation_of(settings: Settings, parts: ArchiveParts, notices: Notices) -> Reconciliation:
    """What does to the archive what other systems say of patients."""
    return Reconciliation(
        parts.archive.index,
        corrections_of(settings, parts, "isocenter serve"),
        parts.stores.reconciliation,
        notices,
        entries=PatientEntries(parts.stores.worklist) if settings.worklist.enabled else None,
        accepts_unknown=settings.hl7.unknown_patients == "accept",
    )


def _reject_folder(settings: Settings) -> RejectedMessages | None:
    from isocenter.services.integration.hl7.rejected_messages import RejectedMessages

    if settings.hl7.reject_folder is not None:
        return RejectedMessages(settings.hl7.reject_folder)
    if settings.storage.is_in_memory:
        return None
    return RejectedMessages(Path(settings.storage.data_dir) / REJECT_FOLDER)


def _table(rows: tuple[str, ...]) -> dict[str, str]:
    """Of ``NAME=VALUE``."""
    return {name: value for name, _, value in (row.partition("=") for row in rows)}
