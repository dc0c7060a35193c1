"""Composition of events, their consumers and study completion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from isocenter.services.association.peer import Peer
from isocenter.services.composition.archive import ArchiveParts
from isocenter.services.composition.outgoing_associations import OutgoingAssociations
from isocenter.services.composition.sharing import consumers_of, publishing_desk_of
from isocenter.services.composition.tls_contexts import TlsContexts
from isocenter.services.notices import Notices
from isocenter.services.settings.settings import Settings
from isocenter.services.workflow.events.availability_target import AvailabilityNotifier
from isocenter.services.workflow.events.service import EventService
from isocenter.services.workflow.jobs.desk import JobDesk


async def build_events(
    settings: Settings,
    parts: ArchiveParts,
    tls: TlsContexts | None,
    notices: Notices,
    peers: Mapping[str, Peer],
) -> EventService | None:
    """What is done about events; None: they are switched off.

    Raises:
        ConsumerError: a consumer cannot be used.
    """
    events, stores = settings.events, parts.stores
    if not events.enabled:
        return None

    async def steps_of(study_instance_uid: str) -> Sequence[str]:
        rows = await stores.steps.rows(study_instance_uid=study_instance_uid)
        return [row.sop_instance_uid for row in rows]

    # Whoever works off jobs looks for them by himself.
    jobs = JobDesk(stores.jobs, lambda: None)
    desk = publishing_desk_of(settings, parts.archive.index, stores, jobs)
    keeping = EventService(
        stores.outbox,
        stores.open_studies,
        rules=events.rules(),
        consumers=(*events.consumers, *consumers_of(settings)),
        keep_seconds=events.keep_days * 86_400.0,
        on_duty=partial(parts.duties.run, "events"),
        notices=notices,
        now=stores.clock,
        notify_availability=AvailabilityNotifier(
            parts.archive.index,
            steps_of=steps_of,
            peers=peers,
            connect=OutgoingAssociations(settings, tls).for_notifications,
            retrieve_ae_title=settings.server.ae_title,
        ),
        publish=None if desk is None else desk.on_event,
    )
    await keeping.begin()
    notices.subscribe(keeping.on_notice, keeping.hears)
    return keeping
