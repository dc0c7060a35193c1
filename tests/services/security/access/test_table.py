"""The policy as a value, and as the text of its file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isocenter.services.net.peer_identity import PeerIdentity
from isocenter.services.security.access.errors import PolicyError
from isocenter.services.security.access.permissions import (
    ROLES,
    Action,
    Resource,
    operations,
    parse_permission,
)
from isocenter.services.security.access.policy import (
    ApplicationEntity,
    CertificateRule,
    Policy,
    User,
    from_text,
    to_text,
)
from isocenter.services.security.access.policy_file import CurrentPolicy, PolicyFile
from services.security.access.policy_support import CT, entities

IDENTITY = PeerIdentity(
    common_name="CT1",
    subject="CN=CT1,O=Clinic",
    subject_alternative_names=("ct1.example.org",),
    fingerprint="ab" * 32,
    serial_number=7,
    issuer="CN=Clinic CA",
)


@pytest.mark.parametrize(
    ("rule", "fits"),
    [
        (CertificateRule(fingerprint="ab" * 32), True),
        (CertificateRule(fingerprint="ac" * 32), False),
        (CertificateRule(subject="CN=CT1,O=Clinic"), True),
        (CertificateRule(subject="CN=CT1"), False),
        (CertificateRule(name="CT1"), True),
        (CertificateRule(name="ct1.example.org"), True),
        (CertificateRule(name="ct1"), False),
        (CertificateRule(issuer="CN=Clinic CA"), True),
        (CertificateRule(issuer="CN=Other CA"), False),
        (CertificateRule(name="CT1", issuer="CN=Clinic CA"), True),
        (CertificateRule(name="CT1", issuer="CN=Other CA"), False),
        (CertificateRule(name="CT2", issuer="CN=Clinic CA"), False),
    ],
)
def test_which_certificates_a_rule_means(rule: CertificateRule, fits: bool) -> None:
    assert rule.matches(IDENTITY) is fits


@pytest.mark.parametrize(
    ("addresses", "host", "comes"),
    [
        ((), "10.0.0.1", True),
        (("10.0.0.0/8",), "10.200.0.1", True),
        (("10.0.0.0/8",), "11.0.0.1", False),
        (("10.0.0.1", "fe80::/10"), "fe80::1%eth0", True),
        (("10.0.0.1",), "::ffff:10.0.0.1", True),
        (("10.0.0.1",), "fe80::1", False),
        (("10.0.0.1",), "not an address", False),
    ],
)
def test_where_it_may_come_from(addresses: tuple[str, ...], host: str, comes: bool) -> None:
    assert ApplicationEntity(ae_title="CT1", addresses=addresses).comes_from(host) is comes


def test_the_same_title_goes_before_patterns_and_long_patterns_before_short() -> None:
    titles = ("*", "CT*", "CT1", "C?1*")
    policy = Policy(entities=tuple(ApplicationEntity(ae_title=title) for title in titles))
    for called, found in (("CT1", "CT1"), ("CT2", "CT*"), ("CX12", "C?1*"), ("MR", "*")):
        entity = policy.entity(called)
        assert entity is not None
        assert entity.ae_title == found
    assert Policy().entity("CT1") is None


def test_permissions_of_an_entity_and_a_user_add_up_but_for_what_is_denied() -> None:
    entity = ApplicationEntity(
        ae_title="WS",
        roles=("Viewer",),
        allowed=parse_permission("C-MOVE"),
        denied=parse_permission("study:delete"),
    )
    policy = Policy(entities=(entity,), users=(User(name="alice", roles=("Radiologist",)),))
    may = operations(policy.permissions(entity, None))
    assert may == ["C-ECHO", "C-FIND", "C-MOVE", "C-GET", "N-GET", "N-EVENT-REPORT"]
    may = operations(policy.permissions(entity, policy.user("alice")))
    assert "C-STORE" in may
    assert "N-DELETE" not in may


def test_roles_can_be_replaced() -> None:
    policy = Policy(
        entities=(ApplicationEntity(ae_title="WS", roles=("Viewer",)),),
        roles={"Viewer": parse_permission("C-FIND")},
    )
    assert operations(policy.permissions(policy.entities[0], None)) == ["C-ECHO", "C-FIND"]


def test_a_token_means_a_user_by_name_or_subject() -> None:
    policy = Policy(users=(User(name="carol", subjects=("carol@example.org",)), User(name="dan")))
    for subject, name in (("carol@example.org", "carol"), ("dan", "dan")):
        user = policy.user_of_subject(subject)
        assert user is not None
        assert user.name == name
    assert policy.user_of_subject("eve") is None


# As text.

texts = st.text(st.characters(categories=("L", "N")), min_size=1, max_size=12)
permissions = st.dictionaries(st.sampled_from(Resource), st.integers(1, 31).map(Action), max_size=3)
rules = st.builds(CertificateRule, subject=texts, issuer=st.just("") | texts)
entity_values = st.builds(
    ApplicationEntity,
    ae_title=st.text("ABC123*?", min_size=1, max_size=16),
    certificates=st.lists(rules, max_size=2).map(tuple),
    addresses=st.sampled_from(((), ("10.0.0.0/8", "::1"))),
    tls=st.booleans(),
    roles=st.lists(st.sampled_from(sorted(ROLES)), max_size=2).map(tuple),
    allowed=permissions,
    denied=permissions,
    sop_classes=st.sampled_from((frozenset(), frozenset({CT}))),
    active=st.booleans(),
    description=st.text(max_size=20),
)
user_values = st.builds(
    User,
    name=texts,
    password_hash=st.text(max_size=10),
    without_passcode=st.booleans(),
    roles=st.lists(st.sampled_from(sorted(ROLES)), max_size=2).map(tuple),
    subjects=st.lists(texts, max_size=2).map(tuple),
    active=st.booleans(),
)


@given(
    st.lists(entity_values, max_size=3, unique_by=lambda one: one.ae_title),
    st.lists(user_values, max_size=3, unique_by=lambda one: one.name),
    st.dictionaries(texts, permissions, max_size=2),
)
def test_what_is_written_is_read(
    some: list[ApplicationEntity], people: list[User], roles: dict[str, dict[Resource, Action]]
) -> None:
    policy = Policy(entities=tuple(some), users=tuple(people), roles=roles)
    assert from_text(to_text(policy)) == policy


def test_a_password_hash_is_in_no_repr() -> None:
    assert "secret" not in repr(Policy(users=(User(name="alice", password_hash="secret"),)))


GOOD: dict[str, Any] = json.loads(
    to_text(
        Policy(
            entities=(
                ApplicationEntity(ae_title="CT1", certificates=(CertificateRule(name="CT1"),)),
            ),
            users=(User(name="alice"),),
        )
    )
)


@pytest.mark.parametrize(
    ("where", "value", "said"),
    [
        (("format",), 2, "format 1"),
        (("users",), None, "cannot be read"),
        (("application_entities", 0, "ae_title"), "A" * 17, "no AE title"),
        (("application_entities", 0, "ae_title"), 5, "ae_title must be text"),
        (("application_entities", 0, "tls"), "yes", "tls must be true or false"),
        (("application_entities", 0, "active"), 1, "active must be true or false"),
        (("application_entities", 0, "colour"), "red", "'colour' means nothing here"),
        (("application_entities", 0, "addresses"), ["10.0.0.1/8"], "no address or network"),
        (("application_entities", 0, "roles"), ["King"], "no role 'King'"),
        (("application_entities", 0, "roles"), "Viewer", "list of texts"),
        (("application_entities", 0, "allowed"), ["study:fly"], "RESOURCE:ACTION"),
        (("application_entities", 0, "sop_classes"), ["CT"], "no UID"),
        (("application_entities", 0, "certificates"), [{}], "needs a fingerprint"),
        (("application_entities", 0, "certificates"), [{"fingerprint": "12"}], "64 hexadecimal"),
        (("users", 0, "name"), " alice", "no user name"),
        (("users", 0, "name"), "a\nb", "no user name"),
    ],
)
def test_what_is_wrong_with_a_policy(where: tuple[Any, ...], value: object, said: str) -> None:
    document = json.loads(json.dumps(GOOD))
    target = document
    for step in where[:-1]:
        target = target[step]
    target[where[-1]] = value
    with pytest.raises(PolicyError, match=said):
        from_text(json.dumps(document).encode())


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"null", b"[" * 10_000, b"\xff"])
def test_what_is_no_policy_at_all(text: bytes) -> None:
    with pytest.raises(PolicyError):
        from_text(text)


def test_one_title_stands_there_once() -> None:
    twice = (ApplicationEntity(ae_title="CT1"), ApplicationEntity(ae_title="CT1"))
    with pytest.raises(PolicyError, match="'CT1' stands there twice"):
        Policy(entities=twice)


# The file.


def test_the_file_is_private_and_replaced_as_a_whole(tmp_path: Path) -> None:
    file = PolicyFile(tmp_path / "data" / "access")
    assert file.read() == Policy()
    file.change(entities(ApplicationEntity(ae_title="CT1")))
    assert file.path.stat().st_mode & 0o777 == 0o600
    assert file.folder.stat().st_mode & 0o777 == 0o700
    before = file.path.read_bytes()

    def fail(policy: Policy) -> Policy:
        raise PolicyError("no")

    with pytest.raises(PolicyError, match="no"):
        file.change(fail)
    assert file.path.read_bytes() == before
    assert {path.name for path in file.folder.iterdir()} == {".lock", "policy.json"}


def test_a_damaged_file_says_which_and_stops_the_start(tmp_path: Path) -> None:
    file = PolicyFile(tmp_path)
    file.path.write_text("{}")
    with pytest.raises(PolicyError, match=r"policy\.json: .*restore a backup"):
        CurrentPolicy(file)


def test_a_running_server_keeps_the_old_policy_when_the_new_one_is_damaged(tmp_path: Path) -> None:
    file = PolicyFile(tmp_path)
    first = file.change(entities(ApplicationEntity(ae_title="CT1")))
    told: list[str] = []
    current = CurrentPolicy(file, on_change=told.append)
    assert current.refresh() == first
    assert told == []
    good = file.path.read_bytes()
    file.path.write_bytes(good[:-10])
    assert current.refresh() == first
    file.path.unlink()
    assert current.refresh() == first
    assert len(told) == 2
    assert "cannot be read" in told[0]
    assert "has gone" in told[1]
    file.path.write_bytes(good)
    second = file.change(entities(ApplicationEntity(ae_title="CT2")))
    assert current.refresh() == second
    assert told[2:] == [""]
