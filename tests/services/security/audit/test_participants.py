"""Who an audit message says that took part."""

from __future__ import annotations

import pytest

from isocenter.services.notices import ANONYMOUS, SYSTEM, Caller
from isocenter.services.security.audit.participants import ActiveProcess, peer_participant


@pytest.mark.parametrize(
    ("known", "user_id", "user_name"),
    [
        ({}, "127.0.0.1:5000", ANONYMOUS),
        ({"calling_ae_title": "CT1"}, "CT1", ANONYMOUS),
        ({"calling_ae_title": "CT1", "certificate": "ct1"}, "ct1", ""),
        ({"calling_ae_title": "CT1", "certificate": "ct1", "user": "alice"}, "alice", ""),
    ],
)
def test_who_proves_nothing_is_anonymous(
    known: dict[str, str], user_id: str, user_name: str
) -> None:
    caller = Caller(association="1", address="127.0.0.1:5000", **known)
    found = peer_participant(caller, None)
    assert (found.user_id, found.user_name) == (user_id, user_name)
    assert caller.principal == (ANONYMOUS if user_name else user_id)


def test_what_the_archive_does_by_itself_it_does_as_system() -> None:
    here = ActiveProcess(ae_titles=("ISOCENTER",))
    assert here.participant(None, is_requestor=True).user_name == SYSTEM
    assert here.participant(None).user_name == "isocenter"
