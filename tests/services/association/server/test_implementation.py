"""Implementation Class UID and Version Name of products that are made with the library."""

from __future__ import annotations

from typing import Any

import pytest

from isocenter.engine.errors import LocalProtocolError
from isocenter.engine.uid import (
    IMPLEMENTATION_CLASS_UID,
    IMPLEMENTATION_VERSION_NAME,
    VERIFICATION,
)
from isocenter.services.association.peer import Peer
from isocenter.services.association.requestor import association_request
from isocenter.services.association.server import serve
from isocenter.services.association.service_registry import ServiceRegistry
from isocenter.services.dicom.uid_registry import BASIC_SYNTAXES
from isocenter.services.service_classes.client import open_association
from isocenter.services.service_classes.verification import VerificationScp
from isocenter.services.settings.settings import SETTINGS
from support.serving import port_of, serving

CONTEXTS = [(VERIFICATION, BASIC_SYNTAXES)]
OURS = (IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME)


@pytest.mark.parametrize(
    ("options", "seen"),
    [
        ({}, OURS),
        (
            {"implementation_class_uid": "1.2.3", "implementation_version_name": "THEIRS_2"},
            ("1.2.3", "THEIRS_2"),
        ),
    ],
)
async def test_each_side_says_which_program_it_is(
    options: dict[str, Any], seen: tuple[str, str]
) -> None:
    async with serving(**options) as server:
        peer = Peer("ISOCENTER", "127.0.0.1", port_of(server))
        async with open_association(peer, CONTEXTS, **options) as association:
            found = association.negotiated
    assert seen == (found.peer_implementation_class_uid, found.peer_implementation_version_name)
    asked = association_request(peer, CONTEXTS, calling_ae_title="ME", **options).user_information
    assert seen == (asked.implementation_class_uid, asked.implementation_version_name)


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"implementation_class_uid": ""}, "implementation class UID '' is not a UID"),
        ({"implementation_class_uid": "my product"}, "'my product' is not a UID"),
        ({"implementation_version_name": "M\u00fcller"}, "characters of ASCII"),
        ({"implementation_version_name": "longer than sixteen"}, "is not 1 to 16"),
    ],
)
async def test_what_cannot_be_said_is_refused_at_the_start(
    options: dict[str, Any], fault: str
) -> None:
    with pytest.raises(LocalProtocolError, match=fault):
        await serve(ServiceRegistry([VerificationScp()]), [], **options)


def test_the_archive_itself_cannot_be_called_another_program() -> None:
    assert not [one.key for one in SETTINGS if "implementation" in one.key]
