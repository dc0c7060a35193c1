"""Remote nodes as people write them."""

from __future__ import annotations

import pytest

from isocenter.engine.dataset import EXPLICIT_LITTLE, DataSetError, write_data_set
from isocenter.engine.uid import EXPLICIT_VR_LITTLE_ENDIAN
from isocenter.services.association.peer import Peer
from isocenter.services.composition.jobs import node_of_peer
from isocenter.services.dicom.pydicom_datasets import read_identifier
from isocenter.services.workflow.nodes.node import new_node
from isocenter.services.workflow.nodes.remote_study import remote_study


def test_a_peer_is_named_by_its_ae_title_and_a_service_by_its_host() -> None:
    node = new_node("PACS:192.0.2.1:104", tls=True)
    assert (node.name, node.is_web) == ("PACS", False)
    assert node.peer == Peer("PACS", "192.0.2.1", 104, tls=True)
    named = new_node("PACS@192.0.2.1:104", tls=True, server_name="pacs.example")
    assert named.peer == Peer("PACS", "192.0.2.1", 104, tls=True, server_name="pacs.example")
    web = new_node("https://pacs.example:8443/dicom-web")
    assert (web.name, web.is_web) == ("pacs.example", True)
    assert new_node("A@[::1]:104", "second archive").peer.host == "::1"


def test_a_peer_of_the_settings_is_the_same_as_a_node() -> None:
    for peer in (
        Peer("PACS", "192.0.2.1", 104),
        Peer("PACS", "::1", 104, tls=True, server_name="pacs.example"),
        Peer("PACS", "192.0.2.1", 104, tls=True, verify_host=False),
    ):
        assert node_of_peer(peer).peer == peer


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
        ("https://host/", {"server_name": "other"}, "its host says"),
        ("PACS@host:104", {"server_name": "other"}, "about TLS"),
        ("PACS@host:104", {"server_name": "a b", "tls": True}, "a host name or an address"),
        ("PACS@host:104", {"server_name": "a" * 254, "tls": True}, "a host name or an address"),
        ("https://host/" + "a" * 1_000, {}, "characters"),
    ],
)
def test_what_is_no_node_is_refused_with_what_it_has_to_be(
    address: str, options: dict[str, object], fault: str
) -> None:
    with pytest.raises(ValueError, match=fault) as caught:
        new_node(address, **options)  # type: ignore[arg-type]
    assert "secret" not in str(caught.value)


def test_a_value_that_is_none_of_its_vr_is_a_fault_of_the_data_set() -> None:
    """pydicom reads it when it is asked for, and raises what it likes: a job must not end so."""
    answer = write_data_set(
        [(0x0020000D, "UI", b"1.2.3"), (0x00201208, "IS", b"many")], EXPLICIT_LITTLE
    )
    match = read_identifier(answer, EXPLICIT_VR_LITTLE_ENDIAN)
    with pytest.raises(DataSetError, match="NumberOfStudyRelatedInstances cannot be read"):
        remote_study(match)


@pytest.mark.parametrize("path", ["a\0b", "/etc/\n", "/etc/\ud800", "/" + "a" * 1_000])
@pytest.mark.parametrize("what", ["token_file", "ca_file"])
def test_files_have_names_that_a_database_keeps(what: str, path: str) -> None:
    with pytest.raises(ValueError, match="printable characters"):
        new_node("https://pacs.example/rs", **{what: path})  # type: ignore[arg-type]
