"""Sign-in at an identity provider, as the settings want it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from isocenter.services.composition.access import openid_provider_of
from isocenter.services.security.access.errors import PolicyError
from isocenter.services.settings.errors import SettingsError
from isocenter.services.settings.loading import load_settings

OIDC = {
    "oidc.issuer": "https://login.example/realms/imaging",
    "oidc.client_id": "isocenter",
    "oidc.roles": ["radiology=Radiologist", "radiology=Viewer", "a=b=Administrator"],
    "oidc.groups_claim": "realm_access.roles",
}


def test_without_an_issuer_there_is_none() -> None:
    assert openid_provider_of(load_settings(None, {}, {})) is None


def test_groups_have_all_the_roles_that_are_named(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("s\n")
    values = OIDC | {"oidc.client_secret_file": str(secret)}
    provider = openid_provider_of(load_settings(None, {}, values))
    assert provider is not None
    assert provider.rules.roles == {
        "radiology": ("Radiologist", "Viewer"), "a=b": ("Administrator",),
    }  # fmt: skip
    assert provider.rules.groups_claim == "realm_access.roles"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"oidc.issuer": "http://login.example"}, "oidc.issuer"),
        ({"oidc.issuer": "login.example"}, "oidc.issuer"),
        ({"oidc.client_id": ""}, "oidc.client_id"),
        ({"oidc.scopes": ["profile"]}, "openid"),
        ({"oidc.roles": ["radiology"]}, "GROUP=ROLE"),
        ({"oidc.algorithms": ["HS256"]}, "oidc.algorithms"),
    ],
)
def test_settings_that_cannot_be_are_told(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        load_settings(None, {}, OIDC | changes)


def test_a_secret_that_is_not_there_is_told(tmp_path: Path) -> None:
    values = OIDC | {"oidc.client_secret_file": str(tmp_path / "none")}
    with pytest.raises((PolicyError, SettingsError), match="client_secret_file"):
        openid_provider_of(load_settings(None, {}, values))
