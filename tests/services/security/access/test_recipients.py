"""Recipients of de-identified objects: by role, title, certificate and network."""

from __future__ import annotations

from isocenter.services.archive.deidentification.project import Project
from isocenter.services.net.peer_identity import PeerIdentity
from isocenter.services.security.access.recipients import SEVERAL, Recipients

TRIAL = Project(
    name="trial", destinations=("TRIAL", "Node.Example."), roles=("Research",),
    addresses=("10.7.0.0/16",),
)  # fmt: skip
OTHER = Project(name="other", roles=("Teaching",))
BOTH = Recipients([TRIAL, OTHER])


def certificate(*names: str) -> PeerIdentity:
    return PeerIdentity(
        common_name=names[0], subject_alternative_names=names[1:], fingerprint="ab" * 32,
        subject="", issuer="", serial_number=1,
    )  # fmt: skip


def test_each_sign_of_a_project_is_enough() -> None:
    assert BOTH.project_of(titles=["trial"]) == "trial"
    assert BOTH.project_of(titles=["node.example"]) == "trial"
    assert BOTH.project_of(titles=["CT1"], identity=certificate("TRIAL")) == "trial"
    assert BOTH.project_of(titles=["CT1"], identity=certificate("x", "TRIAL")) == "trial"
    assert BOTH.project_of(titles=["CT1"], host="10.7.3.4") == "trial"
    assert BOTH.project_of(roles=["Viewer", "Research"]) == "trial"
    assert BOTH.project_of(roles=["Teaching"]) == "other"


def test_a_destination_that_is_an_address_is_where_callers_are() -> None:
    """The same system asks that is sent something."""
    there = Project(name="trial", destinations=("TRIAL", "10.9.0.7", "2001:db8::7"))
    for host in ("10.9.0.7", "::ffff:10.9.0.7", "2001:db8:0::7"):
        assert Recipients([there]).project_of(titles=["CT1"], host=host) == "trial"
    assert not Recipients([there]).project_of(titles=["CT1"], host="10.9.0.8")


def test_others_belong_to_none() -> None:
    assert not BOTH.project_of(
        titles=["CT1"], identity=certificate("CT1"), host="10.8.0.1", roles=["Viewer"]
    )


def test_two_projects_are_not_one() -> None:
    assert BOTH.project_of(titles=["TRIAL"], roles=["Teaching"]) == SEVERAL


def test_projects_for_nobody_are_no_matter() -> None:
    assert not Recipients([Project(name="basic")])
    assert BOTH
