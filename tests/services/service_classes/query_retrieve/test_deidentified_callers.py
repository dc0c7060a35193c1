"""Callers of a project of de-identification over DIMSE: nothing that they get is an original."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pydicom.filewriter import write_dataset

from isocenter.engine.dimse.message_codec import (
    CEchoRequest,
    CFindRequest,
    CGetRequest,
    CMoveRequest,
    CStoreRequest,
    NActionRequest,
    NGetRequest,
    Request,
    response_to,
)
from isocenter.engine.uid import EXPLICIT_VR_LITTLE_ENDIAN, VERIFICATION
from isocenter.services import composition
from isocenter.services.archive.corrections.values import PatientKey
from isocenter.services.archive.deidentification.project import Project
from isocenter.services.archive.deidentification.service import Deidentification
from isocenter.services.archive.index.attributes import Level
from isocenter.services.association.access import AeTitleRules
from isocenter.services.association.operation import Operation
from isocenter.services.association.peer import Peer
from isocenter.services.dicom import uid_registry as sop_classes
from isocenter.services.dicom.deidentification.options import Option
from isocenter.services.dicom.deidentification.profile import Profile
from isocenter.services.notices import AccessDenied, InstancesSent, Notices
from isocenter.services.security.access.deidentified_callers import DeidentifiedCallers
from isocenter.services.security.access.recipients import Recipients
from isocenter.services.service_classes.client import ClientAssociation, open_association
from isocenter.services.service_classes.commitment.transaction import (
    REQUEST,
    STORAGE_COMMITMENT,
    WELL_KNOWN_INSTANCE,
)
from isocenter.services.service_classes.mpps.performed_step import MPPS_RETRIEVE
from isocenter.services.service_classes.query_retrieve.find_scp import FindScp
from isocenter.services.service_classes.query_retrieve.get_scp import GetScp
from isocenter.services.service_classes.query_retrieve.identifier_builder import build_identifier
from isocenter.services.service_classes.query_retrieve.move_scp import MoveScp
from isocenter.services.service_classes.ups.workitem import UPS_PULL, UPS_QUERY
from isocenter.services.service_classes.worklist.entry import MODALITY_WORKLIST_FIND
from isocenter.services.settings.loading import load_settings
from services.archive_support import CT, store
from support.deidentification import KEY, patient
from support.serving import Scripted, port_of, serving

FIND, GET, MOVE = (
    sop_classes.STUDY_ROOT_FIND,
    sop_classes.STUDY_ROOT_GET,
    sop_classes.STUDY_ROOT_MOVE,
)
STUDY, SERIES, INSTANCE = "1.2.826.99.7", "1.2.826.99.7.1", "1.2.826.99.7.1.1"
WORDS = (b"quixotebaum", b"zenobia", b"zq-471100", b"19430912", b"acc998877", b"20260102",
         INSTANCE.encode(), SERIES.encode(), STUDY.encode())  # fmt: skip
TRIAL = Project(
    name="trial",
    profile=Profile(options=frozenset([Option.MODIFIED_DATES])),
    destinations=("TRIAL",),
    addresses=("10.7.0.0/16",),
)
OTHER = Project(name="other", destinations=("TEACHING",))
CONTEXTS = [
    (each, (EXPLICIT_VR_LITTLE_ENDIAN,))
    for each in (
        VERIFICATION, CT, FIND, GET, MOVE, MODALITY_WORKLIST_FIND, MPPS_RETRIEVE,
        STORAGE_COMMITMENT, UPS_PULL, UPS_QUERY,
    )
]  # fmt: skip


class Heard:
    """What a caller, and the destination of its C-MOVE, were sent."""

    def __init__(self, association: ClientAssociation, told: list[object], archive: Any) -> None:
        self.association = association
        self.told = told
        self.archive = archive
        self.objects: list[bytes] = []
        self.all = bytearray()

    async def ask(self, request: Request, data: bytes | None = None) -> tuple[int, list[Dataset]]:
        """The last status, and the data sets that came."""
        named = getattr(request, "affected_sop_class_uid", "") or getattr(
            request, "requested_sop_class_uid", ""
        )
        (context,) = [one for one in self.association.contexts if one.abstract_syntax == named]
        task = self.association._driver
        invocation = await task.begin(context.context_id, request, data)
        found = []
        try:
            while True:
                answer = await invocation.next()
                self.all += repr(answer.message).encode()
                if answer.data_set:
                    self.all += answer.data_set
                    found.append(_read(answer.data_set))
                if answer.message.status not in (0xFF00, 0xFF01):
                    return answer.message.status, found
        finally:
            task.finish(invocation)

    async def find(self, level: Level, **keys: str) -> list[Dataset]:
        request = CFindRequest(
            message_id=self.association.next_message_id(), affected_sop_class_uid=FIND, priority=0
        )
        status, found = await self.ask(request, identifier(level, **keys))
        assert status == 0
        return found

    def said_of_patient(self) -> Sequence[bytes]:
        raw = bytes(self.all) + b"".join(self.objects)
        text = raw.replace(b"\0", b"").lower()
        return [word for word in WORDS if word in text]


def _read(data: bytes) -> Dataset:
    return read_dataset(io.BytesIO(data), is_implicit_VR=False, is_little_endian=True)


def _encoded(dataset: Dataset) -> bytes:
    buffer = DicomBytesIO()
    buffer.is_implicit_VR, buffer.is_little_endian = False, True
    write_dataset(buffer, dataset)
    return buffer.getvalue()


def identifier(level: Level, **keys: str) -> bytes:
    return build_identifier(list(keys.items()), level, EXPLICIT_VR_LITTLE_ENDIAN)


ALL_KEYS: Mapping[str, str] = dict.fromkeys(
    ("PatientName", "PatientID", "PatientBirthDate", "StudyInstanceUID", "StudyDate",
     "AccessionNumber", "StudyDescription", "ModalitiesInStudy", "NumberOfStudyRelatedInstances"),
    "",
)  # fmt: skip


@asynccontextmanager
async def calling(
    title: str = "TRIAL",
    *,
    recipients: Recipients | None = None,
    scp_roles: Sequence[str] = (CT,),
    links: Any = None,
) -> AsyncIterator[Heard]:
    heard: Heard

    async def take(operation: Operation) -> None:
        parts = [bytes(part) async for group in operation.fragments() for part in group]
        heard.objects.append(b"".join(parts))
        heard.all += repr(operation.request).encode()
        await operation.respond(response_to(operation.request, 0))

    async with serving(Scripted([CT], take)) as destination:
        at = f"127.0.0.1:{port_of(destination)}"
        settings = load_settings(
            environ={},
            overrides={
                "storage.data_dir": ":memory:",
                "tls.enabled": False,
                "peers": [f"PACS@{at}", f"TEACHING@{at}"],
            },
        )
        async with composition.open_archive_parts(settings) as parts:
            archive = parts.archive
            projects = (TRIAL, OTHER)
            archive.deidentification = Deidentification(
                projects, {"trial": KEY, "other": KEY}, parts.stores.deidentification
            )
            stored = patient(
                StudyInstanceUID=STUDY, SeriesInstanceUID=SERIES, SOPInstanceUID=INSTANCE,
                StudyDate="20260102", StudyDescription="CT of Zenobia", InstanceNumber="1",
            )  # fmt: skip
            await store(archive, 1, _encoded(stored), sop_instance_uid=INSTANCE)
            registry = composition.build_services(settings, archive, parts.stores, None)
            for service in registry.services:
                if links is not None and isinstance(service, FindScp):
                    service._options = replace(service._options, links=links)
                elif links is not None and isinstance(service, GetScp | MoveScp):
                    service.options = replace(service.options, links=links)
            notices, told = Notices(), []
            notices.subscribe(told.append, (object,))
            access = DeidentifiedCallers(AeTitleRules(), recipients or Recipients(projects))
            async with (
                serving(*registry.services, access=access, notices=notices) as server,
                open_association(
                    Peer("ISOCENTER", "127.0.0.1", port_of(server)),
                    CONTEXTS,
                    calling_ae_title=title,
                    scp_roles=scp_roles,
                    provider=take,
                ) as association,
            ):
                heard = Heard(association, told, archive)
                yield heard


async def test_searches_and_retrievals_give_pseudonyms() -> None:
    async with calling() as heard:
        (study,) = await heard.find(Level.STUDY, **ALL_KEYS)
        made = study.StudyInstanceUID
        (image,) = await heard.find(
            Level.IMAGE,
            StudyInstanceUID=made,
            SeriesInstanceUID=(
                await heard.find(Level.SERIES, StudyInstanceUID=made, SeriesInstanceUID="")
            )[0].SeriesInstanceUID,
            SOPInstanceUID="",
        )
        request = CGetRequest(
            message_id=heard.association.next_message_id(), affected_sop_class_uid=GET, priority=0
        )
        status, _ = await heard.ask(request, identifier(Level.STUDY, StudyInstanceUID=made))
        assert status == 0
        (got,) = heard.objects
        found = _read(got)
        assert found.StudyInstanceUID == made
        assert found.SOPInstanceUID == image.SOPInstanceUID
        assert (found.PatientID, found.PatientName) == (study.PatientID, study.PatientName)
        assert found.StudyDate == study.StudyDate
        assert int(study.NumberOfStudyRelatedInstances) == 1
        # Under another title that is no destination, what it asked for is sent de-identified, too.
        move = CMoveRequest(
            message_id=heard.association.next_message_id(), affected_sop_class_uid=MOVE,
            priority=0, move_destination="PACS",
        )  # fmt: skip
        status, _ = await heard.ask(move, identifier(Level.STUDY, StudyInstanceUID=made))
        assert (status, len(heard.objects)) == (0, 2)
        assert heard.objects[1] == got
        assert not heard.said_of_patient()
        # The audit trail tells which study it was.
        sent = [each for each in heard.told if isinstance(each, InstancesSent)]
        assert {study for each in sent for study in each.studies} == {STUDY}


async def test_originals_are_neither_found_nor_sent() -> None:
    async with calling() as heard:
        for keys in ({"PatientName": "Quixote*"}, {"PatientID": "ZQ-471100"},
                     {"StudyInstanceUID": STUDY}, {"StudyDate": "20260102"},
                     {"AccessionNumber": "ACC998877"}):  # fmt: skip
            assert not await heard.find(Level.STUDY, **{"StudyInstanceUID": "", **keys})
        for kind, model, more in (
            (CGetRequest, GET, {}),
            (CMoveRequest, MOVE, {"move_destination": "PACS"}),
        ):
            request = kind(
                message_id=heard.association.next_message_id(), affected_sop_class_uid=model,
                priority=0, **more,
            )  # fmt: skip
            await heard.ask(request, identifier(Level.STUDY, StudyInstanceUID=STUDY))
        assert not heard.objects


async def test_what_it_asks_for_is_not_sent_to_another_project() -> None:
    async with calling() as heard:
        (study,) = await heard.find(Level.STUDY, StudyInstanceUID="")
        move = CMoveRequest(
            message_id=heard.association.next_message_id(), affected_sop_class_uid=MOVE,
            priority=0, move_destination="TEACHING",
        )  # fmt: skip
        status, (failed,) = await heard.ask(
            move, identifier(Level.STUDY, StudyInstanceUID=study.StudyInstanceUID)
        )
        assert status == 0xA702
        assert not heard.objects
        assert failed.FailedSOPInstanceUIDList != INSTANCE
        assert not heard.said_of_patient()


async def test_services_that_know_nothing_of_projects_refuse() -> None:
    async with calling() as heard:
        next_id = heard.association.next_message_id
        reference = Dataset()
        reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = CT, INSTANCE
        commitment = Dataset()
        commitment.TransactionUID = "1.2.3.9"
        commitment.ReferencedSOPSequence = [reference]
        asked: list[tuple[Request, bytes | None]] = [
            (
                CFindRequest(
                    message_id=next_id(), affected_sop_class_uid=MODALITY_WORKLIST_FIND, priority=0
                ),
                build_identifier([("PatientName", "")], None, EXPLICIT_VR_LITTLE_ENDIAN),
            ),
            (
                CFindRequest(message_id=next_id(), affected_sop_class_uid=UPS_QUERY, priority=0),
                build_identifier([("PatientName", "")], None, EXPLICIT_VR_LITTLE_ENDIAN),
            ),
            (
                NGetRequest(
                    message_id=next_id(), requested_sop_class_uid=MPPS_RETRIEVE,
                    requested_sop_instance_uid="1.2.3",
                ),
                None,
            ),
            (
                NActionRequest(
                    message_id=next_id(), requested_sop_class_uid=STORAGE_COMMITMENT,
                    requested_sop_instance_uid=WELL_KNOWN_INSTANCE, action_type_id=REQUEST,
                ),
                _encoded(commitment),
            ),
        ]  # fmt: skip
        for request, data in asked:
            status, found = await heard.ask(request, data)
            assert (status, found) == (0x0124, []), request
        assert len([each for each in heard.told if isinstance(each, AccessDenied)]) == len(asked)
        echo = CEchoRequest(message_id=next_id(), affected_sop_class_uid=VERIFICATION)
        assert (await heard.ask(echo))[0] == 0


async def test_it_stores_nothing_to_learn_a_pseudonym_by() -> None:
    """With an object that names a patient it would see which pseudonym that one has."""
    async with calling(scp_roles=()) as heard:
        request = CStoreRequest(
            message_id=heard.association.next_message_id(), affected_sop_class_uid=CT, priority=0,
            affected_sop_instance_uid="1.2.3.4.5",
        )  # fmt: skip
        assert (await heard.ask(request, _encoded(patient())))[0] == 0x0124
        assert not await heard.archive.index.get(["1.2.3.4.5"])


class Links:
    """Links of patients that nobody may ask for."""

    async def linked(self, patient_id: str, issuer: str | None) -> Sequence[PatientKey]:
        raise AssertionError("how long that takes tells whether there are any")


async def test_links_of_originals_are_not_followed() -> None:
    async with calling(links=Links()) as heard:
        assert not await heard.find(Level.STUDY, PatientID="ZQ-471100")
        keys = identifier(Level.STUDY, PatientID="ZQ-471100", StudyInstanceUID="")
        for request in (
            CGetRequest(message_id=77, affected_sop_class_uid=GET, priority=0),
            CMoveRequest(
                message_id=78, affected_sop_class_uid=MOVE, priority=0, move_destination="PACS"
            ),
        ):
            status, _ = await heard.ask(request, keys)
            assert status in (0, 0xA900), request
        assert not heard.objects


@pytest.mark.parametrize("title", ["ANYBODY", "PACS"])
async def test_others_are_given_what_is_stored(title: str) -> None:
    """The words are really there: what the tests before look for, they would find."""
    async with calling(title) as heard:
        (study,) = await heard.find(Level.STUDY, **ALL_KEYS)
        assert study.StudyInstanceUID == STUDY
        assert {b"quixotebaum", b"zq-471100", b"acc998877"} <= set(heard.said_of_patient())


async def test_another_title_from_the_network_of_the_project_changes_nothing() -> None:
    here = Project(name="trial", profile=TRIAL.profile, addresses=("127.0.0.0/8",))
    async with calling("ANYBODY", recipients=Recipients([here])) as heard:
        (study,) = await heard.find(Level.STUDY, **ALL_KEYS)
        assert study.StudyInstanceUID != STUDY
        assert not heard.said_of_patient()


async def test_who_belongs_to_two_projects_is_given_nothing() -> None:
    both = [
        Project(name="trial", addresses=("127.0.0.0/8",)),
        Project(name="other", destinations=("TEACHING",)),
    ]
    async with calling("TEACHING", recipients=Recipients(both)) as heard:
        request = CFindRequest(
            message_id=heard.association.next_message_id(), affected_sop_class_uid=FIND, priority=0
        )
        status, found = await heard.ask(request, identifier(Level.STUDY, StudyInstanceUID=""))
        assert (status, found) == (0x0124, [])
