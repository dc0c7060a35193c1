"""Instance availability notifications: what is in them, and that pynetdicom takes them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE, evt
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    InstanceAvailabilityNotification,
)

from isocenter.services.archive.ports import StoredInstance
from isocenter.services.association.peer import Peer
from isocenter.services.service_classes.availability.scu import (
    CONTEXTS,
    INSTANCE_AVAILABILITY_NOTIFICATION,
    MOST_INSTANCES,
    notifications_of,
    notify,
)
from isocenter.services.service_classes.client import open_association
from support.outcomes import outcome
from support.ports import free_port


def instances(series: int, each: int) -> list[StoredInstance]:
    return [
        StoredInstance(
            sop_instance_uid=f"1.2.{a}.{b}", sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
            study_instance_uid="1.2", series_instance_uid=f"1.2.{a}",
            transfer_syntax_uid="1.2.840.10008.1.2.1", object_key="k", size=1, data_set_offset=0,
            digest="0" * 64,
        )
        for a in range(series) for b in range(each)
    ]  # fmt: skip


def told(attributes: Dataset) -> list[str]:
    return [
        reference.ReferencedSOPInstanceUID
        for series in attributes.ReferencedSeriesSequence
        for reference in series.ReferencedSOPSequence
    ]


def test_a_notification_has_what_the_table_wants() -> None:
    (attributes,) = notifications_of(
        instances(2, 3), retrieve_ae_title="ISOCENTER", performed_steps=["1.9"]
    )
    data = attributes.to_dataset()
    assert data.StudyInstanceUID == "1.2"
    (step,) = data.ReferencedPerformedProcedureStepSequence
    assert step.ReferencedSOPInstanceUID == "1.9"
    assert step.ReferencedSOPClassUID == "1.2.840.10008.3.1.2.3.3"
    assert len(step.PerformedWorkitemCodeSequence) == 0
    first, second = data.ReferencedSeriesSequence
    assert (first.SeriesInstanceUID, second.SeriesInstanceUID) == ("1.2.0", "1.2.1")
    reference = first.ReferencedSOPSequence[0]
    assert (reference.InstanceAvailability, reference.RetrieveAETitle) == ("ONLINE", "ISOCENTER")
    assert told(data) == [each.sop_instance_uid for each in instances(2, 3)]


def test_a_large_study_is_told_in_parts() -> None:
    many = instances(3, MOST_INSTANCES // 2)
    parts = list(notifications_of(many, retrieve_ae_title="X"))
    assert len(parts) == 2
    assert [uid for part in parts for uid in told(part.to_dataset())] == [
        each.sop_instance_uid for each in many
    ]
    assert list(notifications_of([], retrieve_ae_title="X")) == []


@contextmanager
def ris(received: list[tuple[str, str, Dataset]], status: int) -> Iterator[int]:
    """A pynetdicom SCP of the notification."""

    def handle(event: Any) -> tuple[int, Dataset | None]:
        request = event.request
        received.append(
            (request.AffectedSOPClassUID, request.AffectedSOPInstanceUID, event.attribute_list)
        )
        return status, None

    entity = AE("RIS")
    entity.add_supported_context(InstanceAvailabilityNotification)
    port = free_port()
    server = entity.start_server(
        ("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_N_CREATE, handle)]
    )
    try:
        yield port
    finally:
        server.shutdown()


@pytest.mark.parametrize("status", [0x0000, 0x0110])
async def test_pynetdicom_takes_it(status: int) -> None:
    received: list[tuple[str, str, Dataset]] = []
    with ris(received, status) as port:
        peer = Peer(ae_title="RIS", host="127.0.0.1", port=port, tls=False)
        (attributes,) = notifications_of(instances(1, 2), retrieve_ae_title="ISOCENTER")
        async with open_association(peer, CONTEXTS, calling_ae_title="ISOCENTER") as association:
            answer = await outcome(notify(association, attributes))
    assert answer.status == status
    ((sop_class, sop_instance, data),) = received
    assert sop_class == INSTANCE_AVAILABILITY_NOTIFICATION
    assert sop_instance.startswith("2.25.")
    assert told(data) == ["1.2.0.0", "1.2.0.1"]
