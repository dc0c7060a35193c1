"""Instance availability notifications as attribute lists (PS3.4 Table R.3.2-1), and sending them.

The SCU of the service has the instances: it tells by N-CREATE, and names itself as where to
retrieve them from.  A study may be told of in several notifications, each of some instances.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import Enum
from itertools import groupby
from operator import attrgetter
from typing import Final, Protocol

from isocenter.engine.dataset import EXPLICIT_LITTLE, WritableElement, write_data_set
from isocenter.engine.uid import EXPLICIT_VR_LITTLE_ENDIAN
from isocenter.services.association.requestor import Context
from isocenter.services.dicom.attribute_list import AttributeList
from isocenter.services.dicom.uid_registry import BASIC_SYNTAXES
from isocenter.services.dicom.uids import new_uid
from isocenter.services.service_classes.client import ClientAssociation
from isocenter.services.service_classes.mpps.performed_step import MPPS
from isocenter.services.service_classes.normalized.operations import NServiceResponse, n_create
from isocenter.services.service_classes.normalized.ports import REPORT_LIMITS

INSTANCE_AVAILABILITY_NOTIFICATION: Final = "1.2.840.10008.5.1.4.33"

#: What is proposed.
CONTEXTS: Final[Sequence[Context]] = ((INSTANCE_AVAILABILITY_NOTIFICATION, BASIC_SYNTAXES),)

#: Instances of one notification: about 400 KB, which every peer should take.
MOST_INSTANCES: Final = 2_000

_INSTANCE_AVAILABILITY: Final = 0x00080056
_RETRIEVE_AE_TITLE: Final = 0x00080054
_REFERENCED_STEPS: Final = 0x00081111
_REFERENCED_SERIES: Final = 0x00081115
_REFERENCED_CLASS: Final = 0x00081150
_REFERENCED_INSTANCE: Final = 0x00081155
_REFERENCED_INSTANCES: Final = 0x00081199
_STUDY_INSTANCE_UID: Final = 0x0020000D
_SERIES_INSTANCE_UID: Final = 0x0020000E
_WORKITEM_CODE: Final = 0x00404019


class Availability(Enum):
    """Instance Availability (PS3.3 C.4.23.1.1), as far as it is told here."""

    ONLINE = "ONLINE"
    UNAVAILABLE = "UNAVAILABLE"


class Instance(Protocol):
    """An instance that can be referred to."""

    @property
    def study_instance_uid(self) -> str: ...
    @property
    def series_instance_uid(self) -> str: ...
    @property
    def sop_class_uid(self) -> str: ...
    @property
    def sop_instance_uid(self) -> str: ...


def notifications_of(
    instances: Sequence[Instance],
    *,
    retrieve_ae_title: str,
    performed_steps: Sequence[str] = (),
    availability: Availability = Availability.ONLINE,
) -> Iterator[AttributeList]:
    """What is to be told of *instances*, all of one study, in their order.

    Args:
        retrieve_ae_title: where they can be had from, or could.
        performed_steps: SOP Instance UIDs of the procedure steps that made them.
    """
    for start in range(0, len(instances), MOST_INSTANCES):
        part = instances[start : start + MOST_INSTANCES]
        elements: list[WritableElement] = [
            (_REFERENCED_STEPS, "SQ", [_step(uid) for uid in performed_steps]),
            (
                _REFERENCED_SERIES,
                "SQ",
                [
                    [
                        (
                            _REFERENCED_INSTANCES,
                            "SQ",
                            [_reference(each, retrieve_ae_title, availability) for each in series],
                        ),
                        _uid(_SERIES_INSTANCE_UID, series_uid),
                    ]
                    for series_uid, series in groupby(part, attrgetter("series_instance_uid"))
                ],
            ),
            _uid(_STUDY_INSTANCE_UID, part[0].study_instance_uid),
        ]
        data_set = write_data_set(elements, EXPLICIT_LITTLE)
        yield AttributeList.read(data_set, EXPLICIT_VR_LITTLE_ENDIAN, REPORT_LIMITS)


async def notify(association: ClientAssociation, attributes: AttributeList) -> NServiceResponse:
    """N-CREATE of one notification, under a new UID; see `normalized.create`."""
    return await n_create(
        association,
        INSTANCE_AVAILABILITY_NOTIFICATION,
        new_uid(),
        attributes,
    )


def _uid(tag: int, uid: str) -> WritableElement:
    return tag, "UI", uid.encode("ascii")


def _reference(
    instance: Instance, retrieve_ae_title: str, availability: Availability
) -> list[WritableElement]:
    return [
        (_RETRIEVE_AE_TITLE, "AE", retrieve_ae_title.encode("ascii")),
        (_INSTANCE_AVAILABILITY, "CS", availability.value.encode("ascii")),
        _uid(_REFERENCED_CLASS, instance.sop_class_uid),
        _uid(_REFERENCED_INSTANCE, instance.sop_instance_uid),
    ]


def _step(sop_instance_uid: str) -> list[WritableElement]:
    return [
        _uid(_REFERENCED_CLASS, MPPS),
        _uid(_REFERENCED_INSTANCE, sop_instance_uid),
        (_WORKITEM_CODE, "SQ", []),
    ]
