"""Tokens of a real OpenID Connect provider, by the keys that it shows at its URL."""

from __future__ import annotations

import logging
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from isocenter.services.composition.access import access_control_of, identity_rules_of
from isocenter.services.notices import Notices
from isocenter.services.security.access.policy import User
from isocenter.services.security.access.policy_file import ACCESS_FOLDER, PolicyFile
from isocenter.services.security.certificates.authority import CertificateAuthority
from isocenter.services.settings.errors import SettingsError
from isocenter.services.settings.loading import load_settings
from isocenter.services.web.access import WebAccess
from isocenter.services.web.principal import caller_of
from services.security.access.policy_support import users
from services.web.test_access import refused, route_of, with_token

PROGRAM = Path(__file__).with_name("oidc_issuer.py")


@dataclass
class Provider:
    url: str
    ca: Path

    def _client(self) -> httpx.Client:
        trust = ssl.create_default_context(cafile=self.ca)
        return httpx.Client(verify=trust, base_url=self.url, trust_env=False)

    def keys_url(self) -> str:
        with self._client() as client:
            return str(client.get("/.well-known/openid-configuration").json()["jwks_uri"])

    def token(self, subject: str, audience: str = "isocenter") -> str:
        """By the code flow, as a program that signs somebody in."""
        back = "https://viewer.example/back"
        asked = {
            "client_id": audience,
            "redirect_uri": back,
            "response_type": "code",
            "scope": "openid",
        }
        with self._client() as client:
            sent = client.post("/oauth2/authorize", params=asked, data={"sub": subject})
            (code,) = parse_qs(urlsplit(sent.headers["location"]).query)["code"]
            wanted = {
                "grant_type": "authorization_code",
                "code": code,
                "redirect_uri": back,
                "client_id": audience,
                "client_secret": "any",
            }
            answer = client.post("/oauth2/token", data=wanted)
            return str(answer.json()["id_token"])


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ca")
    ca = CertificateAuthority.create(folder / "ca")
    ca.issue("IDP", hosts=["127.0.0.1"], folder=folder)
    return folder


@contextmanager
def running(certificates: Path) -> Iterator[Provider]:
    command = [
        sys.executable,
        PROGRAM,
        certificates / "IDP.crt",
        certificates / "IDP.key",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            port = int(process.stdout.readline())
            yield Provider(f"https://127.0.0.1:{port}", certificates / "ca" / "ca.crt")
        finally:
            process.kill()


@pytest.fixture(scope="module")
def provider(certificates: Path) -> Iterator[Provider]:
    with running(certificates) as provider:
        yield provider


def access_of(provider: Provider, folder: Path, **changes: object) -> WebAccess:
    """As a server's: by its settings."""
    values = {
        "storage.data_dir": str(folder),
        "identity.jwt_keys_url": provider.keys_url(),
        "identity.jwt_keys_ca": str(provider.ca),
        "identity.jwt_issuer": provider.url,
        "identity.jwt_audience": "isocenter",
    } | {f"identity.{name}": value for name, value in changes.items()}
    settings = load_settings(overrides=values, environ={})
    PolicyFile(folder / ACCESS_FOLDER).change(users(User(name="carol", roles=("Viewer",))))
    return WebAccess(access_control_of(settings), Notices())


@pytest.mark.slow
async def test_its_tokens_are_believed(provider: Provider, tmp_path: Path) -> None:
    access = access_of(provider, tmp_path)
    request = with_token(f"Bearer {provider.token('carol')}")
    await access(request, route_of("read"))
    assert caller_of(request).user == "carol"
    for token in (provider.token("eve"), provider.token("carol", audience="another")):
        error = await refused(access, with_token(f"Bearer {token}"), "read")
        assert error.code == "TOKEN_REFUSED"


async def test_those_of_another_provider_are_not(
    provider: Provider, certificates: Path, tmp_path: Path
) -> None:
    access = access_of(provider, tmp_path)
    with running(certificates) as other:
        foreign = other.token("carol")
    error = await refused(access, with_token(f"Bearer {foreign}"), "read")
    assert error.code == "TOKEN_REFUSED"


async def test_its_certificate_must_be_good(
    provider: Provider, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stranger = CertificateAuthority.create(tmp_path / "other").certificate_path
    access = access_of(provider, tmp_path, jwt_keys_ca=str(stranger))
    with caplog.at_level(logging.WARNING, "isocenter.access"):
        error = await refused(access, with_token(f"Bearer {provider.token('carol')}"), "read")
    assert (error.status, error.code) == (503, "UNAVAILABLE")
    assert "CERTIFICATE_VERIFY_FAILED" in caplog.text


@pytest.mark.parametrize(
    ("values", "fault"),
    [
        ({"identity.jwt_keys_url": "http://idp/keys"}, "https URL"),
        ({"identity.jwt_keys_url": "https://me:secret@idp/keys"}, "https URL"),
        ({"identity.jwt_keys_url": "https://"}, "https URL"),
        ({"identity.jwt_keys_url": "https://idp:99999/keys"}, "https URL"),
        ({"identity.jwt_keys_url": "https://idp/ke ys"}, "https URL"),
        ({"identity.jwt_keys_url": "https://idp/keys"}, "jwt_issuer and identity.jwt_audience"),
        (
            {
                "identity.jwt_keys_url": "https://idp/keys",
                "identity.jwt_keys": str(PROGRAM),
                "identity.jwt_issuer": "i",
                "identity.jwt_audience": "a",
            },
            "takes the place of identity.jwt_keys",
        ),
        ({"identity.jwt_keys_ca": str(PROGRAM)}, "jwt_keys_url, which is not set"),
        ({"identity.jwt_clock_skew": 601}, "from 0 to 600 seconds"),
    ],
)
def test_settings_that_cannot_be(values: dict[str, object], fault: str) -> None:
    with pytest.raises(SettingsError, match=fault):
        load_settings(overrides=values, environ={})


def test_without_an_issuer_there_are_no_rules_for_tokens() -> None:
    assert identity_rules_of(load_settings(environ={})).tokens is None
