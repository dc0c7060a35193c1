"""The policy of a served archive, met by DCMTK and pynetdicom: two certificates, two roles, users;
certificates exchanged and revoked under associations that go on."""

from __future__ import annotations

import re
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pydicom
import pytest
from pydicom.data import get_testdata_file
from pynetdicom import AE, build_role
from pynetdicom.association import Association
from pynetdicom.pdu_primitives import UserIdentityNegotiation
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    CTImageStorage,
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    Verification,
)

from support.processes import (
    ServedArchive,
    isocenter_command,
    options_for_tls,
    run,
    served_archive,
    wait_until,
)

pytestmark = [
    pytest.mark.interop("echoscu", "storescu", "findscu"),
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::UserWarning:pydicom"),
]

PASSCODE = "correct horse battery"
WAIT_SECONDS = 60.0
USER_REJECTION = 1
NOT_AUTHORIZED = 0x0124


@pytest.fixture(scope="module")
def ct_file() -> Path:
    return Path(str(get_testdata_file("CT_small.dcm")))


class Site:
    """An archive with a policy, and its operator."""

    def __init__(self, archive: ServedArchive, folder: Path) -> None:
        self.archive = archive
        self.folder = folder

    def operator(self, *words: object, code: int = 0) -> str:
        done = isocenter_command(*words, "--data-dir", self.archive.data_dir)
        assert done.returncode == code, done.stdout
        return done.stdout

    def certificate(self, ae_title: str) -> tuple[Path, Path, Path]:
        return self.archive.certificate(ae_title, self.folder)

    def dcmtk(
        self, tool: str, certificate: str, title: str, *words: object
    ) -> subprocess.CompletedProcess[str]:
        """Over TLS, with the certificate of one AE title, as another or the same."""
        return run(
            tool, "-v", *options_for_tls(self.certificate(certificate)), "-aet", title,
            "-aec", "ISOCENTER", "127.0.0.1", self.archive.tls_port, *words,
        )  # fmt: skip

    def wait_for_log(self, pattern: str, since: int = 0) -> str:
        deadline = time.monotonic() + WAIT_SECONDS
        while True:
            text = self.archive.log.read_text()[since:]
            found = re.search(pattern, text)
            if found is not None:
                return found[0]
            assert time.monotonic() < deadline, f"{pattern} is not in\n{text}"
            with pytest.raises(subprocess.TimeoutExpired):
                self.archive.process.wait(0.05)

    def reload(self) -> None:
        since = len(self.archive.log.read_text())
        self.operator("reload")
        self.wait_for_log("peers: read again, and in use", since)


@contextmanager
def a_site(folder: Path, *options: object) -> Iterator[Site]:
    with served_archive(folder / "archive", *options, tls=True) as archive:
        certificates = folder / "certificates"
        certificates.mkdir()
        yield Site(archive, certificates)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("policy")
    with a_site(folder) as made:
        for title, role in (("CT1", "Modality"), ("WS7", "Viewer")):
            certificate, _, _ = made.certificate(title)
            made.operator("ae", "add", title, "--certificate", certificate, "--role", role)
        made.operator("ae", "add", "DESK", "--role", "Viewer", "--address", "127.0.0.1")
        passcode = folder / "passcode"
        passcode.write_text(PASSCODE)
        made.operator("user", "add", "alice", "--role", "Radiologist", "--passcode-file", passcode)
        yield made


@pytest.mark.parametrize(
    ("certificate", "title", "admitted"),
    [("CT1", "CT1", True), ("WS7", "WS7", True), ("WS7", "CT1", False), ("CT1", "MR1", False)],
)
def test_a_certificate_opens_its_own_title(
    site: Site, certificate: str, title: str, admitted: bool
) -> None:
    done = site.dcmtk("echoscu", certificate, title)
    assert (done.returncode == 0) is admitted, done.stdout
    assert admitted or "Calling AE Title Not Recognized" in done.stdout


def test_a_modality_stores_and_a_viewer_does_not(site: Site, ct_file: Path) -> None:
    refused = site.dcmtk("storescu", "WS7", "WS7", ct_file)
    assert refused.returncode != 0
    assert "No Acceptable Presentation Contexts" in refused.stdout
    assert site.archive.objects() == []
    stored = site.dcmtk("storescu", "CT1", "CT1", ct_file)
    assert stored.returncode == 0, stored.stdout
    assert len(site.archive.objects()) == 1
    found = site.dcmtk(
        "findscu", "WS7", "WS7", "-S", "-k", "QueryRetrieveLevel=STUDY", "-k", "StudyInstanceUID"
    )
    assert found.returncode == 0
    assert pydicom.dcmread(ct_file).StudyInstanceUID in found.stdout


def test_what_was_turned_away_is_admitted_by_the_command_that_is_shown(site: Site) -> None:
    assert site.dcmtk("echoscu", "CT1", "NEW1").returncode != 0
    deadline = time.monotonic() + WAIT_SECONDS
    while "NEW1 at" not in (said := site.operator("ae", "rejected")):
        assert time.monotonic() < deadline, said
    (cure,) = re.findall(r"^ +isocenter (ae add NEW1 .*)$", said, re.MULTILINE)
    site.operator(*cure.split())
    assert site.dcmtk("echoscu", "CT1", "NEW1").returncode == 0
    site.operator("ae", "remove", "NEW1")
    assert site.dcmtk("echoscu", "CT1", "NEW1").returncode != 0


# User identity.


def associate(
    site: Site, *sop_classes: str, identity: UserIdentityNegotiation | None = None
) -> Association:
    ae = AE("DESK")
    for uid in sop_classes:
        ae.add_requested_context(uid)
    negotiation = [] if identity is None else [identity]
    return ae.associate(
        "127.0.0.1",
        site.archive.port,
        ae_title="ISOCENTER",
        ext_neg=negotiation,  # type: ignore[arg-type]
    )


def user(name: str, passcode: str, kind: int = 2) -> UserIdentityNegotiation:
    item = UserIdentityNegotiation()
    item.user_identity_type = kind
    item.primary_field = name.encode()
    item.secondary_field = passcode.encode()
    item.positive_response_requested = True
    return item


def another(ct_file: Path) -> pydicom.Dataset:
    """An object that is not there yet."""
    item = pydicom.dcmread(ct_file)
    item.SOPInstanceUID = item.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
    return item


def results(association: Association) -> dict[str, int | None]:
    contexts = [*association.accepted_contexts, *association.rejected_contexts]
    return {str(one.abstract_syntax): one.result for one in contexts}


def test_pynetdicom_with_a_user_may_what_the_user_may(site: Site, ct_file: Path) -> None:
    wanted = (Verification, CTImageStorage, StudyRootQueryRetrieveInformationModelFind)
    without = associate(site, *wanted)
    assert results(without) == dict(zip(wanted, (0, USER_REJECTION, 0), strict=True))
    without.release()
    alice = associate(site, *wanted, identity=user("alice", PASSCODE))
    assert results(alice) == dict.fromkeys(wanted, 0)
    (response,) = [
        item
        for item in alice.acceptor.user_information
        if isinstance(item, UserIdentityNegotiation)
    ]
    assert response.server_response == b""
    assert alice.send_c_store(another(ct_file)).Status == 0
    alice.release()


@pytest.mark.parametrize("identity", [user("alice", "wrong passcode"), user("alice", "", 1)])
def test_pynetdicom_with_a_user_who_is_not_believed(
    site: Site, identity: UserIdentityNegotiation
) -> None:
    association = associate(site, Verification, identity=identity)
    assert association.is_rejected
    answer = association.acceptor.primitive
    assert answer is not None
    assert (answer.result, answer.result_source, answer.diagnostic) == (1, 1, 1)


def test_dcmtk_and_ours_as_a_user(site: Site, ct_file: Path) -> None:
    def dcmtk(passcode: str) -> subprocess.CompletedProcess[str]:
        return run(
            "storescu", "-v", "-aet", "DESK", "-aec", "ISOCENTER", "-usr", "alice",
            "-pwd", passcode, "-rsp", "127.0.0.1", site.archive.port, ct_file,
        )  # fmt: skip

    assert dcmtk(PASSCODE).returncode == 0
    assert dcmtk("wrong passcode").returncode != 0
    passcode = site.folder.parent / "passcode"
    done = isocenter_command(
        "storescu", "-aet", "DESK", "--user", "alice", "--password-file", passcode, "-rsp",
        f"ISOCENTER@127.0.0.1:{site.archive.port}", ct_file,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    log = site.archive.log.read_text()
    assert PASSCODE not in log
    assert "wrong passcode" not in log


def test_a_storage_context_for_c_get_only(site: Site) -> None:
    site.operator("ae", "allow", "DESK", "C-GET")
    ae = AE("DESK")
    ae.add_requested_context(StudyRootQueryRetrieveInformationModelGet)
    ae.add_requested_context(CTImageStorage)
    association = ae.associate(
        "127.0.0.1",
        site.archive.port,
        ae_title="ISOCENTER",
        ext_neg=[build_role(CTImageStorage, scu_role=True, scp_role=True)],  # type: ignore[list-item]
    )
    accepted = {one.abstract_syntax: one for one in association.accepted_contexts}
    assert set(accepted) == {StudyRootQueryRetrieveInformationModelGet, CTImageStorage}
    assert (accepted[CTImageStorage].as_scu, accepted[CTImageStorage].as_scp) == (False, True)
    association.release()
    site.operator("ae", "deny", "DESK", "study:export")


def test_a_right_that_is_taken_is_gone_at_the_next_operation(site: Site, ct_file: Path) -> None:
    site.operator("ae", "allow", "DESK", "C-STORE")
    association = associate(site, CTImageStorage)
    item = another(ct_file)
    assert association.send_c_store(item).Status == 0
    site.operator("ae", "deny", "DESK", "study:write")
    deadline = time.monotonic() + WAIT_SECONDS
    while (status := association.send_c_store(item).Status) == 0:
        assert time.monotonic() < deadline
    assert status == NOT_AUTHORIZED
    association.release()
    assert "DESK lacks study:write for C-STORE" in site.archive.log.read_text()


# Exchange under associations that go on.


def tls_association(site: Site, certificate: str) -> Association:
    crt, key, ca = site.certificate(certificate)
    context = ssl.create_default_context(cafile=str(ca))
    context.load_cert_chain(crt, key)
    context.check_hostname = False
    ae = AE(certificate)
    ae.add_requested_context(Verification)
    return ae.associate(
        "127.0.0.1",
        site.archive.tls_port or 0,
        ae_title="ISOCENTER",
        tls_args=(context, "localhost"),
    )


@pytest.mark.parametrize("workers", [1, 2])
def test_certificates_are_revoked_and_renewed_and_only_who_was_revoked_is_dropped(
    tmp_path: Path, workers: int
) -> None:
    with a_site(tmp_path, "--workers", workers) as site:
        held, revoked = tls_association(site, "WS7"), tls_association(site, "CT1")
        assert held.is_established
        assert revoked.is_established
        assert site.dcmtk("echoscu", "CT1", "CT1").returncode == 0
        before = served_certificate(site)

        site.operator("certs", "revoke", "ct1")
        site.operator("certs", "renew", "server")
        site.reload()
        wait_until(
            lambda: site.dcmtk("echoscu", "CT1", "CT1").returncode != 0,
            site.archive.process,
            WAIT_SECONDS,
        )
        assert "revoked" in site.wait_for_log("TLS handshake failed: .*revoked.*")
        wait_until(lambda: served_certificate(site) != before, site.archive.process, WAIT_SECONDS)
        assert site.dcmtk("echoscu", "WS7", "WS7").returncode == 0
        # Whoever was there before stays, except with the certificate that was revoked.
        assert held.send_c_echo().Status == 0
        wait_until(lambda: not revoked.is_established, site.archive.process, WAIT_SECONDS)

        # A key that others can read is not taken, and the one in use serves on.
        key = site.archive.data_dir / "certs" / "ca.key"
        key.chmod(0o644)
        since = len(site.archive.log.read_text())
        site.operator("reload")
        assert "open to others" in site.wait_for_log("certificates: what is in use stays.*", since)
        assert site.dcmtk("echoscu", "WS7", "WS7").returncode == 0
        assert held.send_c_echo().Status == 0
        key.chmod(0o600)
        held.release()

        # SIGHUP does the same.
        since = len(site.archive.log.read_text())
        site.archive.process.send_signal(signal.SIGHUP)
        site.wait_for_log("certificates: read again, and in use", since)


def served_certificate(site: Site) -> str:
    crt, key, ca = site.certificate("WS7")
    context = ssl.create_default_context(cafile=str(ca))
    context.load_cert_chain(crt, key)
    context.check_hostname = False
    address = ("127.0.0.1", site.archive.tls_port)
    with closing(context.wrap_socket(socket.create_connection(address, 60))) as sock:
        certificate = sock.getpeercert(binary_form=True)
    assert certificate is not None
    return ssl.DER_cert_to_PEM_cert(certificate)


def test_a_server_with_a_damaged_policy_or_an_open_key_does_not_start(tmp_path: Path) -> None:
    with a_site(tmp_path) as site:
        site.operator("ae", "add", "CT1")
        data_dir = site.archive.data_dir

    def start() -> str:
        done = isocenter_command("serve", "--data-dir", data_dir, "--port", 0, "--tls-port", 0)
        assert done.returncode == 2, done.stdout
        assert "ready" not in done.stdout
        return done.stdout

    policy = data_dir / "access" / "policy.json"
    good = policy.read_text()
    policy.write_text(good[:-5])
    assert "restore a backup" in start()
    policy.write_text(good)
    for name in ("server.key", "ca.key"):
        key = data_dir / "certs" / name
        key.chmod(0o640)
        assert f"chmod 600 {key}" in start()
        key.chmod(0o600)
