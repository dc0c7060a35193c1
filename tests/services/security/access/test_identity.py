"""User identity items: who is believed, and what it costs a stranger to try (PS3.7 D.3.3.7)."""

from __future__ import annotations

import base64
import importlib
import json
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from joserfc import jwk, jwt

from isocenter.engine.dimse.message_codec import CStoreRequest
from isocenter.engine.items import UserIdentity
from isocenter.engine.pdu import AssociateAccept, AssociateReject
from isocenter.services.association.access import Admitted, AeTitleRules, ConnectionOrigin, Rejected
from isocenter.services.notices import AssociationEstablished, AssociationRejected
from isocenter.services.security.access import passwords
from isocenter.services.security.access.errors import PolicyError
from isocenter.services.security.access.policy import ApplicationEntity, Policy, User
from isocenter.services.security.access.policy_file import PolicyFile
from isocenter.services.security.access.tokens import TokenRules, TokenVerifier
from isocenter.services.security.access.user_identity import (
    IdentityRules,
    UserIdentified,
    UserIdentities,
    UserRejected,
    installed_hooks,
)
from services.security.access.policy_support import CT, FIND, control, entities, heard, users
from support.raw import associate_request, raw_peer
from support.serving import Scripted, port_of, serving

PASSCODE = "correct horse"
HOST = "10.0.0.7"
NO_REASON = AssociateReject(1, 1, 1)
CONGESTION = AssociateReject(2, 3, 1)


def by_passcode(name: str = "alice", passcode: str = PASSCODE, rsp: bool = True) -> UserIdentity:
    return UserIdentity(2, rsp, name.encode(), passcode.encode())


@pytest.fixture(scope="module")
def people() -> Policy:
    return Policy(
        users=(
            User(
                name="alice",
                password_hash=passwords.hash_passcode(PASSCODE),
                roles=("Radiologist",),
            ),
            User(name="bob", password_hash=passwords.hash_passcode(PASSCODE), active=False),
            User(name="carol", subjects=("carol@example.org",)),
            User(name="desk", without_passcode=True),
        )
    )


async def identify(
    item: UserIdentity | None, policy: Policy, rules: IdentityRules | None = None, **hooks: Any
) -> UserIdentified | UserRejected | None:
    found = {{"kerberos": 3, "saml": 4}[name]: hook for name, hook in hooks.items()}
    return await UserIdentities(rules or IdentityRules(), found).identify(item, policy, HOST)


# Names and passcodes.


@pytest.mark.parametrize(
    ("item", "name"),
    [
        (by_passcode(), "alice"),
        (by_passcode(passcode="wrong horse"), None),
        (by_passcode(passcode=""), None),
        (by_passcode("ALICE"), None),
        (by_passcode("nobody"), None),
        (by_passcode("carol"), None),
        (by_passcode("bob"), None),
        (by_passcode(passcode=PASSCODE + "x" * 60_000), None),
        (UserIdentity(2, True, b"\xff", b""), None),
        (UserIdentity(1, True, b"desk"), "desk"),
        (UserIdentity(1, True, b"alice"), None),
        (UserIdentity(1, True, b"nobody"), None),
    ],
)
async def test_who_is_believed(item: UserIdentity, name: str | None, people: Policy) -> None:
    match await identify(item, people):
        case UserIdentified(user, response):
            assert user.name == name
            assert response == b""
        case UserRejected(reject, why):
            assert name is None
            assert reject == NO_REASON
            for secret in (item.primary_field, item.secondary_field):
                assert not secret or secret.decode("utf-8", "replace") not in why
        case None:
            raise AssertionError("it was ignored")


async def test_the_same_answer_after_the_same_work_for_who_exists_and_who_does_not(
    people: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    verified: list[str] = []
    verify = passwords.verify_passcode

    def counting(password_hash: str, passcode: bytes) -> bool:
        verified.append(password_hash)
        return verify(password_hash, passcode)

    monkeypatch.setattr(passwords, "verify_passcode", counting)
    answers = [await identify(by_passcode(name, "wrong"), people) for name in ("alice", "nobody")]
    assert answers[0] == answers[1]
    assert [bool(one) for one in verified] == [True, False]
    # Nobody's hash is verified as well, with the same parameters.
    assert passwords._nobodys().split("$")[:4] == verified[0].split("$")[:4]


async def test_a_response_is_sent_only_when_it_was_asked_for(people: Policy) -> None:
    asked, not_asked = [await identify(by_passcode(rsp=rsp), people) for rsp in (True, False)]
    assert isinstance(asked, UserIdentified)
    assert isinstance(not_asked, UserIdentified)
    assert (asked.response, not_asked.response) == (b"", None)


@pytest.mark.parametrize("kind", [1, 2, 3, 4, 5, 6, 0])
async def test_what_nothing_here_can_verify_is_ignored(kind: int) -> None:
    item = UserIdentity(kind, True, b"alice", b"secret")
    assert await identify(item, Policy()) is None


async def test_where_users_are_required_nothing_is_ignored(people: Policy) -> None:
    rules = IdentityRules(required=True)
    for item in (None, UserIdentity(3, True, b"ticket")):
        answer = await identify(item, people, rules)
        assert isinstance(answer, UserRejected)
        assert answer.reject == NO_REASON
        assert "identity.required" in answer.why
    assert isinstance(await identify(by_passcode(), people, rules), UserIdentified)


# What it costs.


async def test_guessing_is_not_worth_while(
    people: Policy, autojump_clock: trio.testing.MockClock
) -> None:
    identities = UserIdentities(IdentityRules(), {})
    for _ in range(10):
        answer = await identities.identify(by_passcode(passcode="guess"), people, HOST)
        assert isinstance(answer, UserRejected)
        assert answer.reject == NO_REASON
    # The right one is not looked at either, and who calls from elsewhere does not suffer.
    answer = await identities.identify(by_passcode(), people, HOST)
    assert isinstance(answer, UserRejected)
    assert answer.reject == CONGESTION
    assert isinstance(await identities.identify(by_passcode(), people, "10.0.0.8"), UserIdentified)
    await trio.sleep(60)
    assert isinstance(await identities.identify(by_passcode(), people, HOST), UserIdentified)


async def test_who_guesses_learns_no_title_where_all_answers_are_the_same(
    people: Policy, tmp_path: Path
) -> None:
    edits = users(*people.users), entities(ApplicationEntity(ae_title="WS7"))
    access = control(tmp_path, *edits, settings=AeTitleRules(uniform_rejection=True))
    for title in [*("WS7" for _ in range(11)), "NOBODY"]:
        request = associate_request(calling=title)
        info = replace(request.user_information, user_identity=by_passcode(passcode="guess"))
        answer = await access.admit(
            replace(request, user_information=info), ConnectionOrigin(host=HOST)
        )
        assert isinstance(answer, Rejected)
        assert answer.reject == NO_REASON


async def test_verifications_are_few_at_once_and_few_may_wait(people: Policy) -> None:
    running = threading.Semaphore(0)
    go_on = threading.Event()
    at_once: list[int] = []

    def hook(ticket: bytes) -> tuple[str, bytes]:
        at_once.append(1)
        running.release()
        go_on.wait(120)
        return "alice", b"server ticket"

    identities = UserIdentities(IdentityRules(), {3: hook})
    answers: list[object] = []

    async def ask() -> None:
        answers.append(await identities.identify(UserIdentity(3, True, b"t"), people, HOST))

    async with trio.open_nursery() as nursery:
        for _ in range(33):
            nursery.start_soon(ask)
        for _ in range(2):
            await trio.to_thread.run_sync(running.acquire)
        await trio.testing.wait_all_tasks_blocked(0.02)
        assert len(at_once) == 2
        (refused,) = answers
        assert isinstance(refused, UserRejected)
        assert refused.reject == CONGESTION
        go_on.set()
    assert len(answers) == 33
    assert answers[1:] == [UserIdentified(people.users[0], b"server ticket")] * 32


async def test_remembered_addresses_are_bounded() -> None:
    identities = UserIdentities(IdentityRules(), {})
    for number in range(4_200):
        identities.failures.count(f"10.0.{number // 256}.{number % 256}")
    assert len(identities.failures._failures) == 4_096


# Tokens.


def key_files(folder: Path, key: Any) -> dict[str, Path]:
    pem, jwks = folder / "key.pem", folder / "keys.json"
    pem.write_bytes(key.as_pem(private=False))
    jwks.write_text(json.dumps({"keys": [key.as_dict(private=False)]}))
    return {"pem": pem, "jwks": jwks}


def token_rules(keys: Path, **changes: Any) -> TokenRules:
    rules = TokenRules(
        keys=keys, issuer="https://idp", audience="isocenter", algorithms=("RS256", "ES256")
    )
    return replace(rules, **changes)


def token(key: Any, algorithm: str = "RS256", **changes: Any) -> bytes:
    claims = {
        "iss": "https://idp",
        "aud": "isocenter",
        "sub": "carol@example.org",
        "exp": int(time.time()) + 600,
    } | changes
    claims = {name: value for name, value in claims.items() if value is not None}
    return jwt.encode({"alg": algorithm}, claims, key, algorithms=[algorithm]).encode()


RSA_KEY = jwk.RSAKey.generate_key(2048)
EC_KEY = jwk.ECKey.generate_key("P-256")


@pytest.mark.parametrize("form", ["pem", "jwks"])
@pytest.mark.parametrize(("key", "algorithm"), [(RSA_KEY, "RS256"), (EC_KEY, "ES256")])
async def test_a_token_of_the_issuer_means_its_user(
    form: str, key: Any, algorithm: str, people: Policy, tmp_path: Path
) -> None:
    rules = IdentityRules(tokens=token_rules(key_files(tmp_path, key)[form]))
    answer = await identify(UserIdentity(5, True, token(key, algorithm)), people, rules)
    assert isinstance(answer, UserIdentified)
    assert (answer.user, answer.response) == (people.users[2], b"")


def _forged_with_the_public_key(folder: Path) -> bytes:
    """CVE-2015-9235: the public key, taken for a shared secret."""
    public = RSA_KEY.as_pem(private=False)
    secret = jwk.OctKey.import_key(base64.urlsafe_b64encode(public).decode())
    return token(secret, "HS256")


def _unsigned(_: Path) -> bytes:
    head, body, _signature = token(RSA_KEY).split(b".")
    del head
    return b"eyJhbGciOiJub25lIn0." + body + b"."


def _changed(_: Path) -> bytes:
    head, _body, signature = token(RSA_KEY).split(b".")
    return b".".join((head, token(RSA_KEY, sub="alice").split(b".")[1], signature))


@pytest.mark.parametrize(
    "make",
    [
        lambda _: token(RSA_KEY, exp=int(time.time()) - 120),
        lambda _: token(RSA_KEY, exp=None),
        lambda _: token(RSA_KEY, nbf=int(time.time()) + 600),
        lambda _: token(RSA_KEY, iss="https://other"),
        lambda _: token(RSA_KEY, iss=None),
        lambda _: token(RSA_KEY, aud="another archive"),
        lambda _: token(RSA_KEY, aud=None),
        lambda _: token(RSA_KEY, sub=None),
        lambda _: token(RSA_KEY, sub=5),
        lambda _: token(jwk.RSAKey.generate_key(2048)),
        lambda _: token(RSA_KEY, "RS512"),
        _forged_with_the_public_key,
        _unsigned,
        _changed,
        lambda _: b"",
        lambda _: b"a.b.c",
        lambda _: b"\xff" * 60_000,
        lambda _: b"." * 60_000,
    ],
)
async def test_tokens_that_are_not_believed(
    make: Callable[[Path], bytes], people: Policy, tmp_path: Path
) -> None:
    rules = IdentityRules(tokens=token_rules(key_files(tmp_path, RSA_KEY)["pem"]))
    answer = await identify(UserIdentity(5, True, make(tmp_path)), people, rules)
    assert isinstance(answer, UserRejected)
    assert answer.reject == NO_REASON
    assert "not believed" in answer.why or "is no text" in answer.why


async def test_a_token_for_somebody_who_is_no_user(people: Policy, tmp_path: Path) -> None:
    rules = IdentityRules(tokens=token_rules(key_files(tmp_path, RSA_KEY)["pem"]))
    item = UserIdentity(5, True, token(RSA_KEY, sub="eve"))
    answer = await identify(item, people, rules)
    assert isinstance(answer, UserRejected)
    assert "isocenter user add --subject" in answer.why
    assert "eve" not in answer.why


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "no public keys"),
        (b"{}", "no public keys"),
        (b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "no public keys"),
        (b'{"keys": [{"kty": "oct", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQ"}]}', "shared secret"),
        (None, "identity.jwt_keys"),
    ],
)
def test_keys_that_cannot_be_used_stop_the_start(
    content: bytes | None, said: str, tmp_path: Path
) -> None:
    path = tmp_path / "keys"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(PolicyError, match=said):
        TokenVerifier(token_rules(path))


# Tickets and assertions.


async def test_a_hook_says_who_it_is_and_what_to_answer(people: Policy) -> None:
    def kerberos(ticket: bytes) -> tuple[str, bytes]:
        assert ticket == b"ticket"
        return "carol@example.org", b"server ticket"

    answer = await identify(UserIdentity(3, True, b"ticket"), people, kerberos=kerberos)
    assert answer == UserIdentified(people.users[2], b"server ticket")


@pytest.mark.parametrize("error", [ValueError("secret ticket"), RuntimeError("secret ticket")])
async def test_a_hook_that_raises_admits_nobody_and_tells_no_secret(
    error: Exception, people: Policy, caplog: pytest.LogCaptureFixture
) -> None:
    def saml(_: bytes) -> tuple[str, bytes]:
        raise error

    answer = await identify(UserIdentity(4, True, b"secret ticket"), people, saml=saml)
    assert isinstance(answer, UserRejected)
    assert answer.reject == NO_REASON
    assert "secret" not in answer.why + caplog.text


def test_hooks_come_from_installed_distributions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = tmp_path / "site_kerberos-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: site-kerberos\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[isocenter.user_identity]\nkerberos = site_kerberos:verify\n"
    )
    (tmp_path / "site_kerberos.py").write_text(
        "def verify(ticket):\n    return ticket.decode(), b'response'\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    hooks = installed_hooks()
    assert set(hooks) == {3}
    assert hooks[3](b"carol") == ("carol", b"response")
    sys.modules.pop("site_kerberos", None)


# Over the wire.


async def test_what_a_user_may_comes_beside_what_the_entity_may(
    people: Policy, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def perform(_: object) -> None: ...

    desk = ApplicationEntity(ae_title="WS7", roles=("Viewer",))
    notices, told = heard()
    access = control(tmp_path, users(*people.users), entities(desk))

    async def ask(item: UserIdentity | None) -> AssociateAccept | AssociateReject:
        request = associate_request(CT, FIND, calling="WS7")
        info = replace(request.user_information, user_identity=item)
        async with raw_peer(port_of(server)) as peer:
            answer = await peer.ask(replace(request, user_information=info))
            assert isinstance(answer, AssociateAccept | AssociateReject)
            return answer

    async with serving(Scripted([CT, FIND], perform), access=access, notices=notices) as server:
        accepts = [
            await ask(item)
            for item in (
                None,
                by_passcode(),
                by_passcode(rsp=False),
                UserIdentity(1, True, b"desk"),
            )
        ]
        assert await ask(by_passcode(passcode="wrong horse")) == NO_REASON
    results = []
    for accept in accepts:
        assert isinstance(accept, AssociateAccept)
        info = accept.user_information
        results.append(
            ([one.result for one in accept.presentation_contexts], info.user_identity_response)
        )
    assert results == [([1, 0], None), ([0, 0], b""), ([0, 0], None), ([1, 0], b"")]
    callers = [one.caller.user for one in told if isinstance(one, AssociationEstablished)]
    assert callers == ["", "alice", "alice", "desk"]
    (rejected,) = (one for one in told if isinstance(one, AssociationRejected))
    assert rejected.caller.user == ""
    for secret in (PASSCODE, "wrong horse"):
        assert secret not in caplog.text + repr(told)


async def test_a_user_who_is_deactivated_loses_the_rights_at_once(
    people: Policy, tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    access = control(
        tmp_path,
        users(*people.users),
        entities(ApplicationEntity(ae_title="WS7", roles=())),
    )
    request = associate_request(CT, calling="WS7")
    info = replace(request.user_information, user_identity=by_passcode())
    request = replace(request, user_information=info)
    admitted = await access.admit(request, ConnectionOrigin(host=HOST))
    assert isinstance(admitted, Admitted)
    store = CStoreRequest(message_id=1, affected_sop_class_uid=CT, affected_sop_instance_uid="1.2")
    assert admitted.grant.refusal(CT, store) == ""
    file = PolicyFile(tmp_path)
    file.change(users(*(replace(one, active=False) for one in people.users)))
    await trio.sleep(1.5)
    assert "deactivated" in admitted.grant.refusal(CT, store)


def test_passcodes_have_a_length() -> None:
    for passcode in ("short", "x" * 1_025):
        with pytest.raises(PolicyError, match="8 characters to 1024 bytes"):
            passwords.hash_passcode(passcode)
    hashed = passwords.hash_passcode(PASSCODE)
    assert hashed.startswith("$argon2id$")
    assert passwords.verify_passcode(hashed, PASSCODE.encode())
    assert not passwords.verify_passcode("", PASSCODE.encode())
    assert not passwords.verify_passcode("no hash", PASSCODE.encode())
