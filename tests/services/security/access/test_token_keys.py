"""Keys of a tokens' issuer: asked for seldom, kept through failures, and of the right kind."""

from __future__ import annotations

import json
import logging
import ssl
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import trio
from joserfc import jwk, jwt

from isocenter.engine.items import UserIdentity
from isocenter.services.security.access.errors import PolicyError
from isocenter.services.security.access.policy import Policy, User
from isocenter.services.security.access.token_keys import (
    KeysUnavailableError,
    KeysUrl,
    UrlKeys,
    fetch_keys,
)
from isocenter.services.security.access.tokens import TokenRules, TokenVerifier
from isocenter.services.security.access.user_identity import (
    JWT,
    IdentityRules,
    UserIdentified,
    UserIdentities,
    UserRejected,
)

URL = KeysUrl(url="https://idp.example/keys")
KEYS = {name: jwk.ECKey.generate_key("P-256", {"kid": name}) for name in ("a", "b", "c")}
HOUR = 3_600.0


def key_set(*names: str) -> bytes:
    return json.dumps({"keys": [KEYS[name].as_dict(private=False) for name in names]}).encode()


def bearer(key: str, key_id: str | None = "", **changes: Any) -> bytes:
    claims = {
        "iss": "https://idp",
        "aud": "isocenter",
        "sub": "carol",
        "exp": int(time.time()) + 600,
    } | changes
    header = {"alg": "ES256", "kid": key if key_id == "" else key_id}
    if key_id is None:
        del header["kid"]
    return jwt.encode(header, claims, KEYS[key], algorithms=["ES256"]).encode()


class Issuer:
    """What is at the URL, how often it was asked for, and what the time is."""

    def __init__(self, *names: str) -> None:
        self.content: bytes | Exception = key_set(*names)
        self.asked = 0
        self.now = 0.0
        self.keys = UrlKeys(URL, self.fetch, lambda: self.now)
        rules = TokenRules(
            keys=URL, issuer="https://idp", audience="isocenter", algorithms=("ES256",)
        )
        self.verifier = TokenVerifier(rules)
        self.verifier.keys = self.keys

    def fetch(self) -> bytes:
        self.asked += 1
        if isinstance(self.content, Exception):
            raise self.content
        return self.content

    def believes(self, token: bytes) -> bool:
        try:
            self.verifier.verify(token)
        except KeysUnavailableError:
            raise
        except PolicyError:
            return False
        return True


def test_keys_are_asked_for_when_the_first_token_comes() -> None:
    issuer = Issuer("a")
    assert issuer.asked == 0
    assert issuer.believes(bearer("a"))
    assert issuer.believes(bearer("a", sub="dave"))
    assert issuer.asked == 1


def test_an_unknown_key_is_asked_for_at_most_once_a_minute() -> None:
    issuer = Issuer("a")
    assert issuer.believes(bearer("a"))
    issuer.now = 30
    for number in range(20):
        assert not issuer.believes(bearer("b", f"invented {number}"))
    assert issuer.asked == 1, "the keys are half a minute old"
    issuer.content = key_set("a", "b")
    issuer.now = 60
    assert issuer.believes(bearer("b"))
    for number in range(20):
        assert not issuer.believes(bearer("c", f"invented {number}"))
    assert issuer.asked == 2


def test_old_keys_are_asked_for_again_and_used_meanwhile() -> None:
    issuer = Issuer("a", "b")
    assert issuer.believes(bearer("b"))
    issuer.content = key_set("a")
    issuer.now = HOUR - 1
    assert issuer.believes(bearer("b"))
    issuer.now = HOUR
    assert not issuer.believes(bearer("b")), "it is none of the issuer's any more"
    assert issuer.asked == 2


@pytest.mark.parametrize(
    "fault",
    [
        OSError("connection refused"),
        b"",
        b"<html>",
        b"[]",
        b'{"keys": []}',
        b'{"keys": {}}',
        b'{"keys": [{"kty": "oct", "k": "c2VjcmV0"}]}',
        b'{"keys": [{"kty": "EC"}]}',
        b'{"keys": [' + b"[" * 5_000,
        json.dumps({"keys": [KEYS["a"].as_dict(private=False)] * 101}).encode(),
        b'{"keys": [7, null, "x"]}',
    ],
)
def test_what_is_no_answer_changes_nothing(
    fault: bytes | Exception, caplog: pytest.LogCaptureFixture
) -> None:
    issuer = Issuer("a")
    assert issuer.believes(bearer("a"))
    issuer.content = fault
    with caplog.at_level(logging.WARNING, "isocenter.access"):
        for hours in range(1, 24):
            issuer.now = hours * HOUR
            assert issuer.believes(bearer("a"))
    assert "idp.example" in caplog.text
    issuer.now = 24 * HOUR + 1
    with pytest.raises(KeysUnavailableError):
        issuer.believes(bearer("a"))
    issuer.content = key_set("a")
    issuer.now += 60
    assert issuer.believes(bearer("a"))


def test_without_any_answer_no_token_can_be_judged() -> None:
    issuer = Issuer()
    issuer.content = OSError("no route to host")
    for _ in range(10):
        with pytest.raises(KeysUnavailableError):
            issuer.believes(bearer("a"))
    assert issuer.asked == 1


def test_of_a_set_the_keys_for_signatures_that_are_understood_count() -> None:
    issuer = Issuer("a")
    encrypts = KEYS["b"].as_dict(private=False) | {"use": "enc"}
    listed = [{"kty": "AKP", "alg": "ML-DSA-44"}, {"kty": "oct", "k": "c2VjcmV0"}, encrypts]
    issuer.content = json.dumps({"keys": [*listed, KEYS["a"].as_dict(private=False)]}).encode()
    assert issuer.believes(bearer("a"))
    assert not issuer.believes(bearer("b"))


def test_a_token_without_a_key_id_is_tried_with_the_keys() -> None:
    issuer = Issuer("a", "b")
    assert issuer.believes(bearer("b", None))
    assert not issuer.believes(bearer("c", None))
    assert not issuer.believes(bearer("b", "a")), "the name of a key is no matter of taste"


def test_whoever_has_keys_waits_for_nobody() -> None:
    issuer = Issuer("a")
    assert issuer.believes(bearer("a"))
    asked, go_on = threading.Event(), threading.Event()

    def slow() -> bytes:
        asked.set()
        assert go_on.wait(120)
        return key_set("a")

    issuer.keys._fetch = slow
    issuer.now = HOUR
    first = threading.Thread(target=issuer.keys.current)
    first.start()
    assert asked.wait(120)
    assert issuer.believes(bearer("a")), "while another waits for the answer"
    go_on.set()
    first.join()


@pytest.mark.parametrize("exp", ["NaN", "Infinity", "1e999", '"soon"', "true"])
def test_a_token_that_does_not_end_is_not_believed(exp: str) -> None:
    from base64 import urlsafe_b64encode

    claims = f'{{"iss":"https://idp","aud":"isocenter","sub":"carol","exp":{exp}}}'
    head = urlsafe_b64encode(b'{"alg":"ES256","kid":"a"}').rstrip(b"=")
    signed = head + b"." + urlsafe_b64encode(claims.encode()).rstrip(b"=")
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

    private: Any = KEYS["a"].private_key
    r, s = decode_dss_signature(private.sign(signed, ec.ECDSA(hashes.SHA256())))
    signature = urlsafe_b64encode(r.to_bytes(32, "big") + s.to_bytes(32, "big")).rstrip(b"=")
    assert not Issuer("a").believes(signed + b"." + signature)


# -- Verified once ------------------------------------------------------------------------

POLICY = Policy(users=(User(name="carol"),))


def identities_of(issuer: Issuer) -> UserIdentities:
    identities = UserIdentities(IdentityRules(), hooks={})
    identities._tokens = issuer.verifier
    return identities


async def shown(identities: UserIdentities, token: bytes, policy: Policy = POLICY) -> object:
    return await identities.identify(UserIdentity(JWT, False, token), policy, "10.0.0.7")


async def test_a_token_that_was_verified_is_known_until_something_changes() -> None:
    issuer = Issuer("a")
    identities = identities_of(issuer)
    token = bearer("a")
    assert isinstance(await shown(identities, token), UserIdentified)
    assert issuer.verifier.known(token) is not None
    # Not by failures from its address …
    for _ in range(10):
        assert isinstance(await shown(identities, b"x.y.z"), UserRejected)
    assert isinstance(await shown(identities, token), UserIdentified)
    # … but when its user has gone, and when its key has.
    gone = Policy(users=(User(name="carol", active=False),))
    assert isinstance(await shown(identities, token, gone), UserRejected)
    issuer.content = key_set("b")
    issuer.now = HOUR
    assert issuer.verifier.known(token) is None
    assert isinstance(await shown(identities_of(issuer), token), UserRejected)


async def test_a_known_token_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    issuer = Issuer("a")
    token = bearer("a", exp=int(time.time()) + 600)
    verified = issuer.verifier.verify(token)
    monkeypatch.setattr(
        "isocenter.services.security.access.tokens.time", lambda: verified.expires_at
    )
    assert issuer.verifier.known(token) is None


async def test_what_is_remembered_is_bounded() -> None:
    verifier = Issuer("a").verifier
    verified = verifier.verify(bearer("a"))
    for number in range(1_100):
        verifier._remember(b"%d" % number, verified, ())
    assert len(verifier._verified) == 1_024


async def test_while_there_are_no_keys_nobody_has_failed() -> None:
    issuer = Issuer()
    issuer.content = OSError("no route to host")
    identities = identities_of(issuer)
    for _ in range(20):
        answer = await shown(identities, bearer("a"))
        assert isinstance(answer, UserRejected)
        assert "cannot be had" in answer.why
    issuer.content, issuer.now = key_set("a"), 60.0
    assert isinstance(await shown(identities, bearer("a")), UserIdentified)


def test_a_reload_keeps_the_keys_and_asks_anew(tmp_path: Path) -> None:
    issuer = Issuer("a")
    rules = issuer.verifier._rules
    assert issuer.believes(bearer("a"))
    issuer.verifier = TokenVerifier(rules, issuer.verifier)
    assert issuer.verifier.keys is issuer.keys
    issuer.content = OSError("no route to host")
    assert issuer.believes(bearer("a"))
    assert issuer.asked == 2


def test_a_ca_that_cannot_be_used(tmp_path: Path) -> None:
    for ca in (tmp_path / "missing.crt", tmp_path):
        with pytest.raises(PolicyError, match="cannot be used as CA"):
            UrlKeys(KeysUrl(url="https://idp.example/keys", ca=ca))


# -- By a real server ---------------------------------------------------------------------


async def raw_server(answer: bytes, task_status: trio.TaskStatus[int]) -> None:
    """Says *answer* to whoever connects."""

    async def handle(stream: trio.SocketStream) -> None:
        try:
            await stream.receive_some(4_096)
            await stream.send_all(answer)
        except trio.BrokenResourceError:
            pass  # it has seen enough
        finally:
            await trio.aclose_forcefully(stream)

    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    task_status.started(listener.socket.getsockname()[1])
    await trio.serve_listeners(handle, [listener])


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        (
            b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
            "302",
        ),
        (b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n", "500"),
        (HEAD + b"Content-Length: 2000000\r\n\r\n" + b" " * 1_500_000, "more than 1048576 bytes"),
        (HEAD + b"Content-Length: 50\r\n\r\n{", "RemoteProtocolError"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "RemoteProtocolError"),
        (b"", "RemoteProtocolError"),
    ],
)
async def test_what_is_at_the_url_may_be_anything(answer: bytes, fault: str) -> None:
    async with trio.open_nursery() as nursery:
        port = await nursery.start(raw_server, answer)
        # In the clear here: what is fetched is bounded in the same way.
        with pytest.raises(OSError, match=fault):
            await trio.to_thread.run_sync(
                fetch_keys, f"http://127.0.0.1:{port}/keys", ssl.create_default_context()
            )
        nursery.cancel_scope.cancel()


async def test_an_answer_that_trickles_is_given_up() -> None:
    passed = iter(range(0, 1_000, 6))
    answer = HEAD + b"Content-Length: 5\r\n\r\n{}   "
    async with trio.open_nursery() as nursery:
        port = await nursery.start(raw_server, answer)
        with pytest.raises(OSError, match="no whole answer within 5 s"):
            await trio.to_thread.run_sync(
                fetch_keys,
                f"http://127.0.0.1:{port}/keys",
                ssl.create_default_context(),
                lambda: float(next(passed)),
            )
        nursery.cancel_scope.cancel()
