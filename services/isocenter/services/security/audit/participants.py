"""Participants and objects of audit messages (PS3.15 A.5.2).

Of us the process ID is told, as it stands in the system's logs, of a peer the most certain name
that is known (proven user, certificate, AE title), and AE titles as alternative IDs.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import field

from isocenter.engine.fast_init import dataclass
from isocenter.services.notices import ANONYMOUS, SYSTEM, Caller
from isocenter.services.security.audit import codes
from isocenter.services.security.audit.codes import Code
from isocenter.services.security.audit.messages import (
    ObjectKind,
    Participant,
    ParticipantObject,
)
from isocenter.services.system.users import acting_user


@dataclass(frozen=True, slots=True)
class Patient:
    """Whom a study is of, as far as the index knows."""

    id: str = field(default="", repr=False)
    name: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ActiveProcess:
    """This process as a participant.

    Attributes:
        machine: its name: the network access point in every message (A.5.2.4).
        user: who runs it.
        node: the name of this server among those of the archive; empty: there is but one.
    """

    ae_titles: tuple[str, ...]
    process_name: str = "isocenter"
    process_id: int = field(default_factory=os.getpid)
    machine: str = field(default_factory=socket.gethostname)
    user: str = field(default_factory=acting_user)
    node: str = ""

    def participant(self, role: Code | None, *, is_requestor: bool = False) -> Participant:
        return Participant(
            user_id=str(self.process_id),
            ae_titles=self.ae_titles,
            # What it does without being asked, it does as itself.
            user_name=SYSTEM if is_requestor else self.process_name,
            is_requestor=is_requestor,
            role=role,
            access_point=self.machine,
        )

    def person(self, role: Code | None, *, is_requestor: bool = True) -> Participant:
        return Participant(
            user_id=f"{self.user}@{self.machine}",
            is_requestor=is_requestor,
            role=role,
            access_point=self.machine,
        )


def node_object(address: str) -> ParticipantObject:
    """The machine at *address*."""
    return ParticipantObject(
        kind=ObjectKind.SECURITY_RESOURCE, id=host_of(address), id_type=codes.NODE_ID
    )


def peer_participant(
    caller: Caller, role: Code | None, *, is_requestor: bool = False
) -> Participant:
    """The peer by the most certain of its names; who has proven nothing is `ANONYMOUS`, too."""
    titles = (caller.calling_ae_title,) if caller.calling_ae_title else ()
    return Participant(
        user_id=caller.user or caller.certificate or caller.calling_ae_title or caller.address,
        user_name=ANONYMOUS if caller.principal == ANONYMOUS else "",
        ae_titles=titles,
        is_requestor=is_requestor,
        role=role,
        access_point=host_of(caller.address),
    )


def address_participant(address: str) -> Participant:
    """Somebody of whom nothing but the address is known."""
    host = host_of(address)
    return Participant(user_id=host, user_name=ANONYMOUS, is_requestor=False, access_point=host)


def host_of(address: str) -> str:
    """Of ``host:port``, with brackets around IPv6."""
    host, separator, port = address.rpartition(":")
    if not separator or not port.isdecimal():
        return address
    return host.removeprefix("[").removesuffix("]")


def study_object(
    uid: str, sop_classes: Mapping[str, int], *, is_encrypted: bool | None = None
) -> ParticipantObject:
    """A study, with its instances by SOP class."""
    return ParticipantObject(
        kind=ObjectKind.REPORT,
        id=uid,
        id_type=codes.STUDY_INSTANCE_UID,
        name="DICOM Study",
        sop_classes=sop_classes,
        is_encrypted=is_encrypted,
    )


def of_one_class(sop_classes: Sequence[str] | frozenset[str], count: int) -> dict[str, int]:
    """How many instances; of which class, where only one comes into question."""
    (uid,) = sop_classes if len(sop_classes) == 1 else ("",)
    return {uid: count}


def patient_object(patient: Patient) -> ParticipantObject:
    """Whom a study is of."""
    return ParticipantObject(
        kind=ObjectKind.PATIENT,
        id=patient.id,
        id_type=codes.PATIENT_NUMBER,
        name=patient.name,
    )
