"""What is negotiated of queries, and retrieval by instance, with pynetdicom on either side."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE, build_role, evt
from pynetdicom.pdu_primitives import SOPClassExtendedNegotiation

from isocenter.engine.dimse.message_codec import CStoreRequest
from isocenter.services.association.operation import Operation
from isocenter.services.association.peer import Peer
from isocenter.services.dicom import uid_registry as sop_classes
from isocenter.services.dicom.uid_registry import BASIC_SYNTAXES
from isocenter.services.service_classes.client import open_association
from isocenter.services.service_classes.query_retrieve.identifier_builder import build_identifier
from support.processes import ISOCENTER, ServedArchive, run, served_archive

MULTI_FRAME = "1.2.840.10008.5.1.4.1.1.7.2"
UID = "1.2.3.4.5"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::UserWarning:pydicom"),
]


def multi_frame() -> Dataset:
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = MULTI_FRAME
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = UID
    data.StudyInstanceUID, data.SeriesInstanceUID = "1.2.3", "1.2.3.4"
    data.StudyDate, data.StudyTime = "20240229", "233000"
    data.SpecificCharacterSet = "ISO_IR 100"
    data.PatientID, data.PatientName = "P1", "Müller^Jörg"
    data.Rows, data.Columns, data.SamplesPerPixel = 4, 4, 1
    data.PhotometricInterpretation, data.PixelRepresentation = "MONOCHROME2", 0
    data.BitsAllocated, data.BitsStored, data.HighBit = 8, 8, 7
    data.NumberOfFrames, data.FrameTime = 5, 40
    data.FrameIncrementPointer = 0x00181063
    data.PixelData = np.repeat(np.arange(5, dtype=np.uint8), 16).tobytes()
    return data


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedArchive]:
    folder = tmp_path_factory.mktemp("query")
    config = folder / "isocenter.toml"
    config.write_text('[server]\ntime_zone = "UTC"\n')
    with served_archive(folder / "archive", "--config", config) as served:
        with associated(served, (MULTI_FRAME, ExplicitVRLittleEndian)) as association:
            assert association.send_c_store(multi_frame()).Status == 0
        yield served


@contextmanager
def associated(
    archive: ServedArchive, *contexts: tuple[str, str], negotiation: Any = (), **handlers: Any
) -> Iterator[Any]:
    ae = AE(ae_title="PYNETDICOM")
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 30
    for context in contexts:
        ae.add_requested_context(*context)
    association = ae.associate(
        "127.0.0.1", archive.port, ae_title="ISOCENTER", ext_neg=list(negotiation), **handlers
    )
    assert association.is_established
    try:
        yield association
    finally:
        association.release()


def flags(*numbers: int) -> SOPClassExtendedNegotiation:
    item = SOPClassExtendedNegotiation()
    item.sop_class_uid = sop_classes.STUDY_ROOT_FIND
    item.service_class_application_information = bytes(numbers)
    return item


def found(archive: ServedArchive, keys: dict[str, str], *numbers: int) -> list[Dataset]:
    identifier = Dataset()
    identifier.QueryRetrieveLevel = "STUDY"
    for keyword, value in keys.items():
        setattr(identifier, keyword, value)
    model = sop_classes.STUDY_ROOT_FIND
    negotiation = [flags(*numbers)] if numbers else []
    with associated(
        archive, (model, ExplicitVRLittleEndian), negotiation=negotiation
    ) as association:
        if numbers:
            agreed = association.acceptor.sop_class_extended[model]
            assert agreed == bytes(numbers)
        answers = list(association.send_c_find(identifier, model))
    assert answers[-1][0].Status == 0
    return [data for _, data in answers[:-1]]


def test_names_that_sound_alike(archive: ServedArchive) -> None:
    keys = {"PatientName": "JOERG MUELLER", "StudyInstanceUID": ""}
    assert found(archive, keys) == []
    assert [one.StudyInstanceUID for one in found(archive, keys, 0, 0, 1)] == ["1.2.3"]


def test_another_time_zone(archive: ServedArchive) -> None:
    keys = {"StudyDate": "20240301", "StudyTime": "", "TimezoneOffsetFromUTC": "+0100"}
    assert found(archive, keys | {"TimezoneOffsetFromUTC": "+0000"}, 0, 0, 0, 1) == []
    (one,) = found(archive, keys, 0, 0, 0, 1)
    assert (one.StudyDate, one.StudyTime) == ("20240301", "003000")
    assert one.TimezoneOffsetFromUTC == "+0100"


@pytest.mark.parametrize("is_whole", [True, False])
def test_pynetdicom_retrieves_frames_and_headers(archive: ServedArchive, is_whole: bool) -> None:
    model = (
        sop_classes.COMPOSITE_INSTANCE_GET
        if is_whole
        else sop_classes.COMPOSITE_INSTANCE_GET_WITHOUT_BULK_DATA
    )
    came: list[Dataset] = []

    def take(event: Any) -> int:
        came.append(event.dataset)
        return 0

    identifier = Dataset()
    identifier.QueryRetrieveLevel = "FRAME" if is_whole else "IMAGE"
    identifier.SOPInstanceUID = UID
    if is_whole:
        identifier.CalculatedFrameList = [2, 0xFFFFFFFF, 2]
    with associated(
        archive,
        (model, ExplicitVRLittleEndian),
        (MULTI_FRAME, ExplicitVRLittleEndian),
        negotiation=[build_role(MULTI_FRAME, scp_role=True)],
        evt_handlers=[(evt.EVT_C_STORE, take)],
    ) as association:
        answers = list(association.send_c_get(identifier, model))
    assert answers[-1][0].Status == 0
    (one,) = came
    assert one.PatientID == "P1"
    if is_whole:
        assert one.SOPInstanceUID != UID
        assert (one.NumberOfFrames, one.FrameTime, one.FrameDelay) == (2, 80, 40)
        assert set(one.PixelData) == {1, 3}
    else:
        assert one.SOPInstanceUID == UID
        assert "PixelData" not in one


def test_our_commands_retrieve_them(archive: ServedArchive, tmp_path: Path) -> None:
    peer = f"ISOCENTER@127.0.0.1:{archive.port}"
    for options, count in ((["--frames", "1,3-4"], 3), (["--without-bulk-data"], 0)):
        folder = tmp_path / str(count)
        folder.mkdir()
        done = run(
            *ISOCENTER, "getscu", peer, "--sop-instance-uid", UID, *options, "-od", folder,
            "--sop-class", MULTI_FRAME,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout
        (path,) = folder.rglob("*.dcm")
        one = pydicom.dcmread(path)
        assert len(one.get("PixelData", b"")) == 16 * count
    done = run(
        *ISOCENTER, "findscu", peer, "-S", "--patient-name", "mueller", "--fuzzy",
        "--time-zone=+0100", "-o", "json",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert '"20240301"' in done.stdout
    bad = run(*ISOCENTER, "getscu", peer, "--study-uid", "1.2.3", "--frames", "1")
    assert bad.returncode == 2
    assert "--sop-instance-uid" in bad.stdout


async def test_we_ask_pynetdicom_for_an_instance() -> None:
    """Of which its Composite Instance Root SCP gives us what its handler has."""

    def handle(event: Any) -> Iterator[Any]:
        assert event.identifier.QueryRetrieveLevel == "IMAGE"
        assert event.identifier.SOPInstanceUID == UID
        yield 1
        yield 0xFF00, multi_frame()

    ae = AE(ae_title="PYNETDICOM")
    for model in (
        sop_classes.COMPOSITE_INSTANCE_GET,
        sop_classes.COMPOSITE_INSTANCE_GET_WITHOUT_BULK_DATA,
    ):
        ae.add_supported_context(model)
    ae.add_supported_context(MULTI_FRAME, scu_role=True, scp_role=True)
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_GET, handle)])
    came: list[str] = []

    async def take(operation: Operation, request: CStoreRequest) -> int:
        async for _ in operation.fragments():
            pass
        came.append(request.affected_sop_instance_uid)
        return 0

    try:
        peer = Peer("PYNETDICOM", *server.server_address[:2])
        contexts = [
            *((model, BASIC_SYNTAXES) for model in sop_classes.COMPOSITE_INSTANCE_CLASSES),
            (MULTI_FRAME, BASIC_SYNTAXES),
        ]
        async with open_association(peer, contexts, scp_roles=[MULTI_FRAME]) as association:
            for model in (
                sop_classes.COMPOSITE_INSTANCE_GET,
                sop_classes.COMPOSITE_INSTANCE_GET_WITHOUT_BULK_DATA,
            ):
                identifier = partial(build_identifier, [("SOPInstanceUID", UID)], "IMAGE")
                result = await association.get(identifier, take, sop_class_uid=model)
                assert result.completed == 1
    finally:
        server.shutdown()
    assert came == [UID, UID]
