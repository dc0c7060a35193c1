"""What a route needs of its caller, beside what DIMSE needs for the same."""

from __future__ import annotations

import pytest

from isocenter.services.notices import Caller
from isocenter.services.security.access.permissions import ROLES, needs_of, without
from isocenter.services.security.access.scopes import SCOPES as KNOWN
from isocenter.services.web.principal import NEEDS, PUBLIC, SCOPES, caller_name


@pytest.mark.parametrize(
    ("needs", "operation"),
    [
        ("search", "C-FIND"),
        ("read", "N-GET"),
        ("write", "C-STORE"),
        ("write", "N-CREATE"),
        ("write", "N-SET"),
        ("delete", "N-DELETE"),
        ("commit", "N-ACTION"),
    ],
)
def test_a_route_needs_what_dimse_needs(needs: str, operation: str) -> None:
    assert NEEDS[needs] == needs_of(operation)


def test_a_modality_may_do_over_the_web_what_it_does() -> None:
    for needs in ("search", "read", "write", "commit"):
        assert not without(NEEDS[needs], ROLES["Modality"])
    assert without(NEEDS["commit"], ROLES["Viewer"])


def test_whatever_is_needed_has_scopes_that_exist() -> None:
    assert NEEDS.keys() == SCOPES.keys()
    for needs, scopes in SCOPES.items():
        assert scopes <= frozenset(KNOWN)
        assert scopes or needs == PUBLIC


@pytest.mark.parametrize(
    ("user", "certificate", "name"),
    [("jane", "VIEWER", "jane"), ("", "VIEWER", "VIEWER"), ("", "", "10.0.0.7")],
)
def test_who_it_is(user: str, certificate: str, name: str) -> None:
    caller = Caller(association="x", address="10.0.0.7", user=user, certificate=certificate)
    assert caller_name(caller) == name
