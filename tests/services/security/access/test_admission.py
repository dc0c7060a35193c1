"""Associations with a server that has a policy: who gets in, and for what."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from isocenter.engine.dimse.message_codec import (
    CEchoRequest,
    CFindRequest,
    CStoreRequest,
    CStoreResponse,
    Message,
)
from isocenter.engine.items import RoleSelection
from isocenter.engine.pdu import AssociateAccept, AssociateReject
from isocenter.engine.uid import VERIFICATION
from isocenter.services.association.access import AeTitleRules
from isocenter.services.association.operation import Operation
from isocenter.services.association.server import ListenAddress, Server
from isocenter.services.net.tls.certificates import identity_of_file
from isocenter.services.net.tls.contexts import TlsFiles, client_context, server_context
from isocenter.services.notices import (
    AccessDenied,
    AssociationEstablished,
    AssociationRejected,
    Notice,
)
from isocenter.services.security.access.permissions import parse_permission
from isocenter.services.security.access.policy import ApplicationEntity, CertificateRule
from isocenter.services.security.access.policy_file import PolicyFile
from isocenter.services.security.certificates.authority import CertificateAuthority
from isocenter.services.security.certificates.server_certificate import ensure_server_certificate
from isocenter.services.testing.clocks import patient_clock
from services.security.access.policy_support import CT, FIND, GET, MR, control, entities, heard
from support.raw import associate_request, raw_peer
from support.serving import Scripted, port_of, serving

NOT_RECOGNIZED = AssociateReject(1, 1, 3)
NOT_AUTHORIZED = 0x0124
USER_REJECTION = 1
STORE = CStoreRequest(message_id=1, affected_sop_class_uid=CT, affected_sop_instance_uid="1.2")
ECHO = CEchoRequest(message_id=2, affected_sop_class_uid=VERIFICATION)


@pytest.fixture
def clock() -> Iterator[trio.testing.MockClock]:
    """Time passes when nothing else happens, nor is on its way through the kernel."""
    with patient_clock(0.1) as clock:
        yield clock


def entity(title: str = "CT1", **facts: Any) -> ApplicationEntity:
    return ApplicationEntity(ae_title=title, **facts)


async def store(operation: Operation) -> None:
    async for _ in operation.fragments():
        pass
    await operation.respond(
        CStoreResponse(message_id_being_responded_to=operation.request.message_id, status=0)
    )


@dataclass(frozen=True)
class Certificates:
    """A server, CT1 and WS7, all of one CA."""

    server: TlsFiles
    folder: Path

    def of(self, name: str) -> TlsFiles:
        return TlsFiles(
            certificate=self.folder / f"{name}.crt",
            key=self.folder / f"{name}.key",
            ca=self.folder / "ca.crt",
        )

    def fingerprint(self, name: str) -> str:
        return identity_of_file(self.folder / f"{name}.crt").fingerprint


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    folder = tmp_path_factory.mktemp("certificates")
    ca = CertificateAuthority.create(folder / "ca")
    for name in ("CT1", "WS7"):
        ca.issue(name, folder=folder)
    return Certificates(ensure_server_certificate(ca.directory, "ISOCENTER"), folder)


@asynccontextmanager
async def served(
    folder: Path,
    *some: ApplicationEntity,
    certificates: Certificates | None = None,
    settings: AeTitleRules | None = None,
) -> AsyncIterator[tuple[Server, list[Notice]]]:
    notices, told = heard()
    binds = [ListenAddress(host="127.0.0.1", port=0)]
    if certificates is not None:
        context = server_context(certificates.server)
        binds.append(ListenAddress(host="127.0.0.1", port=0, tls=lambda: context))
    access = control(folder, entities(*some))
    if settings is not None:
        access.settings = settings
    services = [Scripted([CT, MR, FIND, GET], store)]
    async with serving(*services, addresses=binds, access=access, notices=notices) as server:
        yield server, told


def told_of(told: list[Notice], kind: type) -> list[Any]:
    return [notice for notice in told if isinstance(notice, kind)]


def status_of(message: Message) -> int:
    status = getattr(message, "status", None)
    assert isinstance(status, int)
    return status


async def test_without_entities_everybody_may_everything(tmp_path: Path) -> None:
    async with served(tmp_path) as (server, told), raw_peer(port_of(server)) as peer:
        accept = await peer.associate(CT, VERIFICATION, FIND)
        assert [one.result for one in accept.presentation_contexts] == [0, 0, 0]
        response, _ = await peer.exchange(1, STORE, b"")
        assert status_of(response) == 0
    assert told_of(told, AccessDenied) == []


REJECTED = {
    "unknown": ([entity("MR1")], "not in the policy", "isocenter ae add CT1 --address 127.0.0.1"),
    "denied": ([entity(active=False)], "denied by the policy", "isocenter ae allow CT1"),
    "in the clear": ([entity(tls=True)], "over TLS only", ""),
    "needs its certificate": (
        [entity(certificates=(CertificateRule(name="CT1"),))],
        "over TLS only",
        "",
    ),
    "from elsewhere": (
        [entity(addresses=("10.0.0.0/8",))],
        "may not call from 127.0.0.1",
        "isocenter ae allow CT1 --address 127.0.0.1",
    ),
}


@pytest.mark.parametrize("case", REJECTED)
async def test_who_is_rejected_and_the_same_reason_in_three_places(
    case: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    some, why, cure = REJECTED[case]
    async with served(tmp_path, *some) as (server, told), raw_peer(port_of(server)) as peer:
        assert await peer.ask(associate_request(calling="CT1")) == NOT_RECOGNIZED
    (notice,) = told_of(told, AssociationRejected)
    assert (notice.result, notice.source, notice.reason) == (1, 1, 3)
    assert why in notice.why
    assert notice.cure == cure
    lines = [one.getMessage() for one in caplog.records if one.levelno == logging.WARNING]
    assert [notice.why in line for line in lines] == [True]


@pytest.mark.parametrize("case", REJECTED)
async def test_nobody_learns_why_where_all_answers_are_the_same(case: str, tmp_path: Path) -> None:
    settings = AeTitleRules(ae_titles=frozenset({"ISOCENTER"}), uniform_rejection=True)
    async with served(tmp_path, *REJECTED[case][0], settings=settings) as (server, told):
        for request in (associate_request(calling="CT1"), associate_request(called="NOBODY")):
            async with raw_peer(port_of(server)) as peer:
                assert await peer.ask(request) == AssociateReject(1, 1, 1)
    assert REJECTED[case][1] in told_of(told, AssociationRejected)[0].why


async def test_a_certificate_opens_the_title_that_it_owns_and_no_other(
    tmp_path: Path, certificates: Certificates
) -> None:
    some = [
        entity("CT1", certificates=(CertificateRule(fingerprint=certificates.fingerprint("CT1")),)),
        # Another title than that of the certificate, whatever tls.identity says.
        entity("READER", certificates=(CertificateRule(name="WS7"),)),
        entity("FREE"),
        entity("WS7"),
    ]
    admitted: set[tuple[str, str]] = set()
    async with served(tmp_path, *some, certificates=certificates) as (server, told):
        for name in ("CT1", "WS7"):
            tls = client_context(certificates.of(name))
            for title in ("CT1", "READER", "FREE", "WS7"):
                async with raw_peer(port_of(server, tls=True), tls=tls) as peer:
                    answer = await peer.ask(associate_request(calling=title))
                    if isinstance(answer, AssociateAccept):
                        admitted.add((name, title))
                    else:
                        assert answer == NOT_RECOGNIZED
    assert admitted == {("CT1", "CT1"), ("WS7", "READER"), ("WS7", "WS7")}
    cures = {notice.cure for notice in told_of(told, AssociationRejected)}
    assert f"isocenter ae allow READER --fingerprint {certificates.fingerprint('CT1')}" in cures


async def test_contexts_that_may_not_be_used_are_refused_with_result_1(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    viewer = entity(roles=("Viewer",))
    async with served(tmp_path, viewer) as (server, told), raw_peer(port_of(server)) as peer:
        accept = await peer.associate(CT, VERIFICATION, FIND, MR, GET, "1.2.3", calling="CT1")
        results = [one.result for one in accept.presentation_contexts]
        assert results == [USER_REJECTION, 0, 0, USER_REJECTION, USER_REJECTION, 3]
        response, _ = await peer.exchange(3, ECHO)
        assert status_of(response) == 0
    denied = told_of(told, AccessDenied)
    assert [(one.command, one.why.partition(";")[0]) for one in denied] == [
        ("C-STORE", "CT1 lacks study:write for C-STORE"),
        ("C-GET", "CT1 lacks study:export for C-GET"),
    ]
    (established,) = told_of(told, AssociationEstablished)
    assert (established.contexts_accepted, established.contexts_proposed) == (2, 6)
    assert "isocenter ae allow CT1 study:write (and 2 SOP classes more)" in caplog.text


async def test_only_the_sop_classes_that_are_allowed(tmp_path: Path) -> None:
    only_ct = entity(sop_classes=frozenset({CT}))
    async with served(tmp_path, only_ct) as (server, told), raw_peer(port_of(server)) as peer:
        accept = await peer.associate(CT, MR, VERIFICATION, calling="CT1")
        assert [one.result for one in accept.presentation_contexts] == [0, USER_REJECTION, 0]
        response, _ = await peer.exchange(1, STORE, b"")
        assert status_of(response) == 0
    (denied,) = told_of(told, AccessDenied)
    assert denied.why.endswith(f"isocenter ae allow CT1 --sop-class {MR}")


async def test_a_context_for_c_get_is_none_for_c_store(tmp_path: Path) -> None:
    """Read and export, without write: the storage context is for what C-GET brings."""
    getter = entity(roles=(), allowed=parse_permission("C-GET"))
    roles = [RoleSelection(CT, scu_role=True, scp_role=True)]
    async with served(tmp_path, getter) as (server, told), raw_peer(port_of(server)) as peer:
        accept = await peer.associate(GET, CT, MR, roles=roles, calling="CT1")
        assert [one.result for one in accept.presentation_contexts] == [0, 0, USER_REJECTION]
        assert accept.user_information.role_selections == (RoleSelection(CT, False, True),)
        response, _ = await peer.exchange(3, STORE, b"data")
        assert status_of(response) == NOT_AUTHORIZED
        assert response.error_comment in ("", None)  # type: ignore[union-attr]
    assert [one.command for one in told_of(told, AccessDenied)] == ["C-STORE", "C-STORE"]


async def test_a_change_of_the_policy_holds_for_the_next_operation(
    tmp_path: Path, clock: trio.testing.MockClock
) -> None:
    file = PolicyFile(tmp_path)
    async with served(tmp_path, entity()) as (server, told):
        async with raw_peer(port_of(server), patience=float("inf")) as peer:
            await peer.associate(CT, VERIFICATION, calling="CT1")
            statuses = []
            for some in (
                entity(),
                entity(denied=parse_permission("C-STORE")),
                entity(),
                entity(active=False),
                entity("OTHER"),
            ):
                file.change(entities(some))
                await trio.sleep(1.5)
                response, _ = await peer.exchange(1, STORE, b"data")
                echoed, _ = await peer.exchange(3, ECHO)
                statuses.append((status_of(response), status_of(echoed)))
            denied = NOT_AUTHORIZED
            assert statuses == [(0, 0), (denied, 0), (0, 0), (denied, denied), (denied, denied)]
            await peer.release()
        async with raw_peer(port_of(server), patience=float("inf")) as peer:
            assert await peer.ask(associate_request(calling="CT1")) == NOT_RECOGNIZED
    assert len(told_of(told, AccessDenied)) == 5


async def test_an_unrecognized_operation_keeps_its_own_status(tmp_path: Path) -> None:
    request = CFindRequest(message_id=5, affected_sop_class_uid=FIND, priority=0)
    viewer = entity(roles=())
    async with served(tmp_path, viewer) as (server, _), raw_peer(port_of(server)) as peer:
        accept = await peer.associate(VERIFICATION, FIND, calling="CT1")
        assert [one.result for one in accept.presentation_contexts] == [0, USER_REJECTION]
        response, _ = await peer.exchange(1, request, b"")
        assert status_of(response) == NOT_AUTHORIZED


async def test_a_title_that_looks_like_an_option_gets_no_command(tmp_path: Path) -> None:
    async with served(tmp_path, entity()) as (server, told):
        for title in ("--role=System", "+x", "; rm -rf /"):
            async with raw_peer(port_of(server)) as peer:
                assert await peer.ask(associate_request(calling=title)) == NOT_RECOGNIZED
    cures = [notice.cure for notice in told_of(told, AssociationRejected)]
    assert cures == ["", "", "isocenter ae add '; rm -rf /' --address 127.0.0.1"]
