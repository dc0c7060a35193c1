"""The identity provider, as doctor sees it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from isocenter.services.diagnostics.doctor.identity_provider import check_provider
from isocenter.services.diagnostics.findings import Severity
from isocenter.services.settings.loading import load_settings
from isocenter.services.settings.settings import Settings
from services.security.access.test_issuer import Provider, certificates, running

__all__ = ["certificates"]  # a fixture


@pytest.fixture(scope="module")
def idp(certificates: Path) -> Iterator[Provider]:
    with running(certificates) as provider:
        yield provider


def settings_of(idp: Provider, **changes: Any) -> Settings:
    values = {"issuer": idp.url, "client_id": "archive", "ca": str(idp.ca), "roles": ["a=Viewer"]}
    return load_settings(None, {}, {f"oidc.{k}": v for k, v in (values | changes).items()})


def test_one_that_answers_is_well(idp: Provider) -> None:
    found = check_provider(settings_of(idp))
    assert found.findings == ()
    assert found.seen == f"{idp.url}: 1 keys; signs people out, too"


def test_that_nobody_gets_in_is_told(idp: Provider) -> None:
    (finding,) = check_provider(settings_of(idp, roles=[])).findings
    assert finding.severity is Severity.WARNING
    assert "oidc.roles" in finding.text


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"issuer": "https://127.0.0.1:9"}, "its metadata"),
        ({"ca": None}, "CERTIFICATE_VERIFY_FAILED"),
    ],
)
def test_what_is_wrong_is_told(idp: Provider, changes: dict[str, Any], why: str) -> None:
    changes = {name: value for name, value in changes.items() if value is not None}
    settings = settings_of(idp, **changes)
    if why == "CERTIFICATE_VERIFY_FAILED":
        settings = load_settings(
            None, {}, {"oidc.issuer": idp.url, "oidc.client_id": "archive", "oidc.roles": ["a=b"]}
        )
    (finding,) = check_provider(settings).findings
    assert finding.severity is Severity.ERROR
    assert why in finding.text
