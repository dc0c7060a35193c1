"""Remote nodes as people write them."""

from __future__ import annotations

import pytest

from isocenter.services.association.peer import Peer
from isocenter.services.workflow.nodes.node import new_node


def test_a_peer_is_named_by_its_ae_title_and_a_service_by_its_host() -> None:
    node = new_node("PACS:192.0.2.1:104", tls=True)
    assert (node.name, node.is_web) == ("PACS", False)
    assert node.peer == Peer("PACS", "192.0.2.1", 104, tls=True)
    web = new_node("https://pacs.example:8443/dicom-web")
    assert (web.name, web.is_web) == ("pacs.example", True)
    assert new_node("A@[::1]:104", "second archive").peer.host == "::1"


@pytest.mark.parametrize(
    ("address", "options", "fault"),
    [
        ("PACS", {}, "AET@host:port"),
        ("PACS@host:0", {}, "a port from 1"),
        ("PACS@host:104", {"name": "../x"}, "name of a node"),
        ("PACS@host:104", {"token_file": "/t"}, "DICOMweb"),
        ("PACS@host:104", {"ca_file": "/t"}, "DICOMweb"),
        ("ftp://host/x", {}, "http://host"),
        ("https://", {}, "http://host"),
        ("https://[::1/x", {}, "the URL is none"),
        ("https://host:x/", {}, "the URL is none"),
        ("https://user:secret@host/", {}, "a token comes from a file"),
        ("https://host/?a=b", {}, "a token comes from a file"),
        ("https://höst/", {"name": "h"}, "ASCII"),
        ("https://host/a b", {}, "ASCII"),
        ("https://host/", {"tls": True}, "its scheme"),
        ("https://host/" + "a" * 1_000, {}, "characters"),
    ],
)
def test_what_is_no_node_is_refused_with_what_it_has_to_be(
    address: str, options: dict[str, object], fault: str
) -> None:
    with pytest.raises(ValueError, match=fault) as caught:
        new_node(address, **options)  # type: ignore[arg-type]
    assert "secret" not in str(caught.value)
