"""SOP classes that are accepted, and contexts for what C-GET brings."""

from __future__ import annotations

import pydicom
import pytest

from isocenter.engine.errors import LocalProtocolError
from isocenter.engine.items import CommonExtendedNegotiation
from isocenter.services.archive.object_scan import StoreError
from isocenter.services.dicom.uid_registry import BASIC_SYNTAXES, STUDY_ROOT_FIND
from isocenter.services.errors import NoPresentationContextError
from isocenter.services.service_classes.storage.scp import STORAGE_SERVICE_CLASS, StorageScp
from isocenter.services.testing import SyntheticData, associated, open_test_archive
from isocenter.services.testing.synthetic_data import CT_IMAGE_STORAGE, MR_IMAGE_STORAGE

CONTEXTS = [(CT_IMAGE_STORAGE, BASIC_SYNTAXES), (MR_IMAGE_STORAGE, BASIC_SYNTAXES)]


async def test_only_what_is_accepted_is_negotiated() -> None:
    data = SyntheticData()
    async with open_test_archive({"storage.sop_classes": ["MR"]}) as archive:
        async with associated([StorageScp(archive)], CONTEXTS) as association:
            assert (await association.store(data.mr())).status == 0
            with pytest.raises(NoPresentationContextError):
                await association.store(data.ct())
        # By whatever way it comes.
        with pytest.raises(StoreError) as refused:
            await archive.receive(
                sop_class_uid=CT_IMAGE_STORAGE,
                sop_instance_uid="1.2.3",
                transfer_syntax_uid=BASIC_SYNTAXES[0],
                source_ae_title="WEB",
            )
    assert refused.value.status == 0x0122


#: A maker's own kind of CT, of which nobody here has heard.
SPECIAL = "1.2.826.0.1.3680043.9.7"
OF_CT = CommonExtendedNegotiation(SPECIAL, STORAGE_SERVICE_CLASS, (CT_IMAGE_STORAGE,))


def special_ct() -> pydicom.Dataset:
    data = SyntheticData().ct()
    data.SOPClassUID = SPECIAL
    return data


async def test_a_special_class_is_kept_as_what_it_is_by_its_general_one() -> None:
    async with open_test_archive({"storage.sop_classes": ["CT"]}) as archive:
        services = [StorageScp(archive)]
        contexts = [(SPECIAL, BASIC_SYNTAXES)]
        async with associated(services, contexts) as association:
            assert not association.contexts
        async with associated(services, contexts, related=[OF_CT]) as association:
            data = special_ct()
            assert (await association.store(data)).status == 0
            (stored,) = (await archive.index.get([data.SOPInstanceUID])).values()
        assert stored.sop_class_uid == SPECIAL


@pytest.mark.parametrize(
    ("special", "related", "settings"),
    [
        # Of a class that is not taken.
        (SPECIAL, CommonExtendedNegotiation(SPECIAL, STORAGE_SERVICE_CLASS, (MR_IMAGE_STORAGE,)),
         {"storage.sop_classes": ["CT"]}),
        # No service class of storage.
        (SPECIAL, CommonExtendedNegotiation(SPECIAL, "1.2.840.10008.4.1", (CT_IMAGE_STORAGE,)), {}),
        # A SOP class that no stored object has.
        (STUDY_ROOT_FIND,
         CommonExtendedNegotiation(STUDY_ROOT_FIND, STORAGE_SERVICE_CLASS, (CT_IMAGE_STORAGE,)),
         {}),
    ],
)  # fmt: skip
async def test_what_is_said_of_a_class_has_to_be_of_what_is_stored(
    special: str, related: CommonExtendedNegotiation, settings: dict[str, object]
) -> None:
    async with open_test_archive(settings) as archive:
        contexts = [(special, BASIC_SYNTAXES)]
        async with associated([StorageScp(archive)], contexts, related=[related]) as association:
            assert not association.contexts


async def test_of_several_general_classes_the_one_that_is_taken_counts() -> None:
    general = (MR_IMAGE_STORAGE, CT_IMAGE_STORAGE)
    related = CommonExtendedNegotiation(SPECIAL, STORAGE_SERVICE_CLASS, general)
    async with open_test_archive({"storage.sop_classes": ["CT"]}) as archive:
        contexts = [(SPECIAL, BASIC_SYNTAXES)]
        async with associated([StorageScp(archive)], contexts, related=[related]) as association:
            assert (await association.store(special_ct())).status == 0


async def test_special_classes_can_be_refused() -> None:
    async with open_test_archive() as archive:
        services = [StorageScp(archive, specialized_sop_classes=False)]
        contexts = [(SPECIAL, BASIC_SYNTAXES)]
        async with associated(services, contexts, related=[OF_CT]) as association:
            assert not association.contexts


async def test_who_retrieves_gets_contexts_where_nothing_is_stored() -> None:
    async with open_test_archive() as archive:
        services = [StorageScp(archive, stores=False)]
        async with associated(services, CONTEXTS) as association:
            assert not association.contexts
        async with associated(services, CONTEXTS, scp_roles=[CT_IMAGE_STORAGE]) as association:
            (context,) = association.contexts
            assert context.abstract_syntax == CT_IMAGE_STORAGE
            assert (context.as_scu, context.as_scp) == (False, True)
            with pytest.raises((NoPresentationContextError, LocalProtocolError)):
                await association.store(SyntheticData().ct())
