"""What is negotiated by SOP class, by peer, and of SOP classes nobody knows, with pynetdicom."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
    JPEGLSLossless,
)
from pynetdicom import AE, build_role, evt
from pynetdicom.pdu_primitives import SOPClassCommonExtendedNegotiation

from isocenter.services.dicom import uid_registry as sop_classes
from isocenter.services.testing import SyntheticData
from support.processes import ServedArchive, served_archive

CT, US = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.6.1"
STORAGE_SERVICE = "1.2.840.10008.4.2"
#: A maker's own kind of CT.
SPECIAL = "1.2.826.0.1.3680043.9.7"
ALL = [ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEGBaseline8Bit, JPEGLSLossless]
CONFIGURATION = """
[[transfer_syntaxes.orders]]
sop_classes = ["US"]
preference = ["jpeg-baseline"]
only = true

[[transfer_syntaxes.orders]]
ae_titles = ["WS*"]
preference = ["jpeg-ls"]
"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::UserWarning:pydicom"),
]


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedArchive]:
    folder = tmp_path_factory.mktemp("negotiation")
    config = folder / "isocenter.toml"
    config.write_text(CONFIGURATION)
    with served_archive(folder / "archive", "--config", config) as served:
        yield served


@contextmanager
def associated(
    archive: ServedArchive,
    *contexts: tuple[str, list[str]],
    title: str = "PYNETDICOM",
    **options: Any,
) -> Iterator[Any]:
    ae = AE(ae_title=title)
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 30
    for context in contexts:
        ae.add_requested_context(*context)
    association = ae.associate("127.0.0.1", archive.port, ae_title="ISOCENTER", **options)
    assert association.is_established
    try:
        yield association
    finally:
        association.release()


def special(*general: str) -> SOPClassCommonExtendedNegotiation:
    item = SOPClassCommonExtendedNegotiation()
    item.sop_class_uid = SPECIAL
    item.service_class_uid = STORAGE_SERVICE
    item.related_general_sop_class_identification = list(general)
    return item


@pytest.mark.parametrize(
    ("title", "abstract_syntax", "proposed", "chosen"),
    [
        ("CT1", CT, ALL, ExplicitVRLittleEndian),
        ("WS1", CT, ALL, JPEGLSLossless),
        ("CT1", US, ALL, JPEGBaseline8Bit),
        # The first order that is about it holds.
        ("WS1", US, ALL, JPEGBaseline8Bit),
        # The default transfer syntax is always taken (PS3.5 10.1).
        ("CT1", US, ALL[:2], ImplicitVRLittleEndian),
    ],
)
def test_the_transfer_syntax_is_chosen_by_sop_class_and_caller(
    archive: ServedArchive, title: str, abstract_syntax: str, proposed: list[str], chosen: str
) -> None:
    with associated(archive, (abstract_syntax, proposed), title=title) as association:
        (context,) = association.accepted_contexts
        assert context.transfer_syntax == [chosen]


def test_what_an_order_leaves_out_is_not_accepted(archive: ServedArchive) -> None:
    contexts = (US, [ExplicitVRLittleEndian]), (CT, [ExplicitVRLittleEndian])
    with associated(archive, *contexts) as association:
        assert [one.abstract_syntax for one in association.accepted_contexts] == [CT]
        (refused,) = association.rejected_contexts
        assert (refused.abstract_syntax, refused.result) == (US, 4)


def test_a_special_class_is_stored_found_and_retrieved(archive: ServedArchive) -> None:
    data = SyntheticData().ct()
    data.SOPClassUID = SPECIAL
    data.file_meta.MediaStorageSOPClassUID = SPECIAL
    offered = (SPECIAL, [ExplicitVRLittleEndian])
    with associated(archive, offered, (CT, [ExplicitVRLittleEndian])) as association:
        assert [one.abstract_syntax for one in association.accepted_contexts] == [CT]
    negotiation = [special("1.2.3.4", CT)]
    with associated(archive, offered, ext_neg=negotiation) as association:
        assert association.send_c_store(data).Status == 0
    question = Dataset()
    question.QueryRetrieveLevel = "IMAGE"
    question.StudyInstanceUID = data.StudyInstanceUID
    question.SeriesInstanceUID = data.SeriesInstanceUID
    question.SOPInstanceUID = data.SOPInstanceUID
    question.SOPClassUID = ""
    find = (sop_classes.STUDY_ROOT_FIND, [ExplicitVRLittleEndian])
    with associated(archive, find) as association:
        found = [one for _, one in association.send_c_find(question, find[0]) if one is not None]
    assert [one.SOPClassUID for one in found] == [SPECIAL]
    del question.SOPClassUID
    received: list[Dataset] = []

    def keep(event: Any) -> int:
        received.append(event.dataset)
        return 0

    get = (sop_classes.STUDY_ROOT_GET, [ExplicitVRLittleEndian])
    with associated(
        archive,
        get,
        offered,
        ext_neg=[*negotiation, build_role(SPECIAL, scp_role=True)],
        evt_handlers=[(evt.EVT_C_STORE, keep)],
    ) as association:
        statuses = [status.Status for status, _ in association.send_c_get(question, get[0])]
    assert statuses[-1] == 0
    (back,) = received
    assert (back.SOPClassUID, back.PixelData) == (SPECIAL, data.PixelData)
