"""Configuration exchanged in a running server, and what stays when it is at fault."""

from __future__ import annotations

import logging
import os
import ssl
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trio
import trio.testing

from isocenter.services.cluster.duties import OneProcess
from isocenter.services.composition import TlsContexts
from isocenter.services.composition.access import access_control_of
from isocenter.services.composition.reloading import Reloader
from isocenter.services.composition.server import _watch_certificates
from isocenter.services.net.tls.contexts import TlsFiles, client_context, server_context
from isocenter.services.net.tls.errors import TlsFileError
from isocenter.services.notices import ConfigurationReloaded
from isocenter.services.security.access.policy import ApplicationEntity
from isocenter.services.security.access.policy_file import ACCESS_FOLDER, PolicyFile
from isocenter.services.security.certificates.authority import CertificateAuthority
from isocenter.services.security.certificates.expiry import (
    Expiry,
    expiries_of,
    renew_daily,
    warn_daily,
)
from isocenter.services.security.certificates.server_certificate import ensure_server_certificate
from isocenter.services.settings.errors import SettingsError
from isocenter.services.settings.loading import load_settings
from isocenter.services.settings.settings import Settings
from isocenter.services.system.pid_file import PidFile, pid_of_server
from isocenter.services.testing.clocks import patient_clock
from services.security.access.policy_support import entities, heard


@pytest.fixture(autouse=True)
def _quiet_again() -> object:
    """Reading settings sets the level of the log, which is the process's."""
    root = logging.getLogger("isocenter")
    before = root.level, root.handlers[:], root.propagate
    yield
    root.setLevel(before[0])
    root.handlers[:] = before[1]
    root.propagate = before[2]


class Setup:
    """A configuration file that a test changes, and what has come of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "isocenter.toml"
        self.write("")
        settings = self.load()
        self.notices, self.told = heard()
        self.tls = TlsContexts(settings, folder / "certs")
        self.access = access_control_of(settings)
        self.peers = {peer.ae_title: peer for peer in settings.peers}
        self.reloader = Reloader(
            self.load,
            settings,
            tls=self.tls,
            access=self.access,
            peers=self.peers,
            notices=self.notices,
        )

    def write(self, text: str) -> None:
        self.file.write_text(text)

    def load(self) -> Settings:
        return load_settings(
            self.file, environ={}, overrides={"storage.data_dir": str(self.folder / "data")}
        )

    async def reload(self) -> dict[str, str]:
        """By part, the fault that was told."""
        del self.told[:]
        await self.reloader.reload()
        return {one.what: one.fault for one in self.told if isinstance(one, ConfigurationReloaded)}


@pytest.fixture
def setup(tmp_path: Path) -> Setup:
    return Setup(tmp_path)


NO_FAULT = {"settings": "", "certificates": "", "access": "", "peers": ""}


async def test_everything_that_can_be_exchanged_is(setup: Setup) -> None:
    before = setup.tls.server
    setup.write(
        'peers = ["WS7@10.0.0.7:104"]\n[access]\nallow = ["CT1"]\nuniform_rejection = true\n'
        '[log]\nlevel = "debug"\n[identity]\nrequired = true\n[tls]\nidentity = "any"\n'
    )
    assert await setup.reload() == NO_FAULT
    assert setup.tls.server is not before
    assert list(setup.peers) == ["WS7"]
    assert setup.access.settings.allow == ("CT1",)
    assert setup.access.settings.uniform_rejection
    assert not setup.access.settings.certificate_owns_ae_title
    assert setup.access.identities is not None
    assert setup.access.identities.rules.required
    assert logging.getLogger("isocenter").level == logging.DEBUG
    setup.write("")
    assert await setup.reload() == NO_FAULT
    assert setup.peers == {}
    assert setup.access.settings.allow == ()


async def test_a_configuration_at_fault_changes_nothing(setup: Setup) -> None:
    setup.write('[access]\nallow = ["CT1"]\n')
    await setup.reload()
    setup.write('[access]\nallow = ["CT2"]\ncolour = "red"\n')
    faults = await setup.reload()
    assert "no such setting" in faults["settings"]
    assert setup.access.settings.allow == ("CT1",)


async def test_what_needs_a_restart_is_named(
    setup: Setup, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("isocenter.services.composition.reloading.configure_log", lambda _: None)
    setup.write('[server]\nport = 1104\nae_title = "OTHER"\n[access]\nallow = ["CT1"]\n')
    assert await setup.reload() == NO_FAULT
    assert "after a restart only: server.ae_title, server.port" in caplog.text
    assert setup.access.settings.allow == ("CT1",)
    assert setup.access.settings.ae_titles == {"ISOCENTER"}


async def test_what_a_start_would_warn_of_is_in_the_log_again(
    setup: Setup, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("isocenter.services.composition.reloading.configure_log", lambda _: None)
    setup.write('[access]\nenforce = "never"\n')
    await setup.reloader.reload(is_catching_up=True)
    assert "access.enforce" not in caplog.text
    assert await setup.reload() == NO_FAULT
    assert "access.enforce is never: whoever is admitted" in caplog.text


async def test_a_certificate_at_fault_leaves_the_old_one_and_exchanges_the_rest(
    setup: Setup,
) -> None:
    before = setup.tls.server
    (setup.folder / "certs" / "ca.key").chmod(0o644)
    setup.write('[access]\nallow = ["CT1"]\n')
    faults = await setup.reload()
    assert "open to others" in faults.pop("certificates")
    assert faults == {"settings": "", "access": "", "peers": ""}
    assert setup.tls.server is before
    assert setup.access.settings.allow == ("CT1",)
    (setup.folder / "certs" / "ca.key").chmod(0o600)
    assert await setup.reload() == NO_FAULT
    assert setup.tls.server is not before


async def test_a_policy_at_fault_leaves_the_old_one(setup: Setup) -> None:
    file = PolicyFile(setup.folder / "data" / ACCESS_FOLDER)
    file.change(entities(ApplicationEntity(ae_title="CT1")))
    assert await setup.reload() == NO_FAULT
    policy = setup.access.policy
    assert [one.ae_title for one in policy.entities] == ["CT1"]
    file.path.write_text("{}")
    for _ in range(2):
        faults = await setup.reload()
        assert "restore a backup" in faults["access"]
    assert setup.access.current.policy == policy


async def test_a_worker_that_catches_up_tells_only_faults(setup: Setup) -> None:
    del setup.told[:]
    await setup.reloader.reload(is_catching_up=True)
    assert setup.told == []
    setup.write("nonsense")
    await setup.reloader.reload(is_catching_up=True)
    assert [type(one) for one in setup.told] == [ConfigurationReloaded]


async def test_certificates_that_only_openssl_can_read_are_a_fault_and_no_end(
    setup: Setup,
) -> None:
    files = ensure_server_certificate(
        CertificateAuthority.create(setup.folder / "own").directory, "ISOCENTER"
    )
    assert files.ca is not None
    other = setup.folder / "trusted.crt"
    other.write_text(files.ca.read_text().replace(" CERTIFICATE-", " TRUSTED CERTIFICATE-"))
    setup.write(
        f'[tls]\ncertificate = "{files.certificate}"\nkey = "{files.key}"\nca = "{other}"\n'
    )
    before = setup.tls.server, setup.tls.ca
    faults = await setup.reload()
    assert "trusted.crt: holds a certificate in another form" in faults.pop("certificates")
    assert set(faults.values()) == {""}
    assert (setup.tls.server, setup.tls.ca) == before


async def test_a_fault_of_ours_in_a_reload_is_no_reason_to_stop_serving(
    setup: Setup, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(setup.tls, "reload", broken)
    faults = await setup.reload()
    assert faults == {"settings": "", "certificates": "internal error", "access": "", "peers": ""}
    assert "certificates: what is in use stays" in capsys.readouterr().err


# Sessions of TLS 1.2.


def shake_hands(server: ssl.SSLContext, client: ssl.SSLContext) -> ssl.SSLObject:
    """The server's end of a connection that both have closed in order."""
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = server.wrap_bio(up, down, server_side=True)
    theirs = client.wrap_bio(down, up)
    for end in 3 * (theirs, ours):
        with suppress(ssl.SSLWantReadError):
            end.do_handshake()
    for end in (theirs, ours):
        with suppress(ssl.SSLWantReadError):
            end.unwrap()
    return ours


@pytest.fixture
def clock() -> Iterator[trio.testing.MockClock]:
    """Contexts are made in threads."""
    with patient_clock() as clock:
        yield clock


async def test_sessions_of_peers_that_are_gone_are_few(
    setup: Setup, clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("isocenter.services.composition.tls_contexts._MOST_SESSIONS", 8)
    CertificateAuthority(setup.folder / "certs").issue("CT1", folder=setup.folder)
    client = client_context(
        TlsFiles(
            certificate=setup.folder / "CT1.crt",
            key=setup.folder / "CT1.key",
            ca=setup.folder / "certs" / "ca.crt",
        ),
        check_hostname=False,
    )
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    tls, first = setup.tls, setup.tls.server
    settings = setup.load()
    in_memory = replace(settings, storage=replace(settings.storage, data_dir=Path(":memory:")))
    lasting = [shake_hands(first, client)]
    tls.forget_sessions()
    assert tls.server is first  # it is one
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_watch_certificates, tls, in_memory, OneProcess())
        while first.session_stats()["number"] < 8:
            shake_hands(first, client)
        with trio.fail_after(20_000):  # before the day on which all is read again
            while tls.server is first:  # noqa: ASYNC110 - a thread is what changes it
                await trio.sleep(1)
        nursery.cancel_scope.cancel()
    assert tls.server.session_stats()["number"] == 0
    assert shake_hands(tls.server, client).getpeercert(binary_form=True)
    # Old contexts keep theirs for as long as somebody uses them: there are few of these, too.
    for _ in range(9):
        before = tls.server
        while tls.server.session_stats()["number"] < 8:
            lasting.append(shake_hands(tls.server, client))
        tls.forget_sessions()
    assert len({id(one.context) for one in lasting}) == 9
    assert tls.server is before
    # Files that changed are what `reload` is for.
    del lasting[:]
    (setup.folder / "certs" / "server.crt").touch()
    tls.forget_sessions()
    assert tls.server is before
    tls.reload()
    assert tls.server is not before


# Revocation lists.


def test_revocation_lists_from_a_folder(tmp_path: Path) -> None:
    first, second = (CertificateAuthority.create(tmp_path / name) for name in ("one", "two"))
    files = ensure_server_certificate(first.directory, "ISOCENTER")
    folder = tmp_path / "crls"
    folder.mkdir()
    files = replace(files, crl=folder)
    with pytest.raises(TlsFileError, match="folder is empty"):
        server_context(files)
    for number, ca in enumerate((first, second)):
        (folder / f"{number}.pem").write_bytes(ca.crl_path.read_bytes())
    (folder / ".hidden").write_text("no list")
    assert server_context(files).cert_store_stats()["crl"] == 2
    assert {one.name for one in expiries_of(files) if one.what == "revocation list"} == {
        ca.certificate.subject.rfc4514_string().removeprefix("CN=") for ca in (first, second)
    }
    (folder / "2.pem").write_text("no list")
    with pytest.raises(TlsFileError, match=r"2\.pem: holds no"):
        server_context(files)


def test_a_ca_directory_that_others_may_write_is_refused(tmp_path: Path) -> None:
    ca = CertificateAuthority.create(tmp_path / "ca")
    ca.directory.chmod(0o770)
    with pytest.raises(Exception, match="chmod 700"):
        CertificateAuthority(ca.directory)
    ca.directory.chmod(0o755)
    CertificateAuthority(ca.directory)


# What ends soon.

NOW = datetime(2026, 6, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("days", "said"),
    [(31, ""), (30, "ends in 30 days, on 2026-07-01"), (0.5, "ends in 0 days"), (-3, "has ended")],
)
def test_warnings_from_thirty_days_on(days: float, said: str, tmp_path: Path) -> None:
    one = Expiry("certificate", "ISOCENTER", tmp_path / "server.crt", NOW + timedelta(days=days))
    text = one.warning(NOW)
    assert (said in text) if said else text == ""
    # Of a CA that is not ours nothing can be renewed here.
    assert ("have its CA sign it again" in text) == bool(said)
    (tmp_path / "issued.json").write_text("[]")
    assert ("isocenter certs renew server)" in one.warning(NOW)) == bool(said)


def test_what_a_server_uses_and_until_when(tmp_path: Path) -> None:
    ca = CertificateAuthority.create(tmp_path / "ca")
    files = ensure_server_certificate(ca.directory, "ISOCENTER")
    found = {one.what: one for one in expiries_of(files)}
    assert found["certificate"].name == "ISOCENTER"
    assert 820 < found["certificate"].left().days < 826
    assert found["CA"].ends == ca.certificate.not_valid_after_utc
    assert found["revocation list"].ends == ca.certificate.not_valid_after_utc
    assert expiries_of(TlsFiles()) == ()


async def test_once_a_day(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    ends = datetime.now(UTC) + timedelta(days=3)
    looked: list[float] = []

    def in_use() -> list[Expiry]:
        looked.append(trio.current_time())
        return [Expiry("CA", "Clinic CA", Path("ca.crt"), ends)]

    with trio.move_on_after(2.5 * 86_400):
        await warn_daily(in_use)
    assert [time - looked[0] for time in looked] == [0, 86_400, 2 * 86_400]
    assert caplog.text.count("the CA of 'Clinic CA' ends in 2 days, on") == 3


async def test_a_server_that_runs_for_years_has_its_certificate_signed_again(
    setup: Setup, autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    ca = CertificateAuthority(setup.folder / "certs")
    soon = datetime.now(UTC) - timedelta(days=800)
    (setup.folder / "certs" / "server.crt").unlink()
    ensure_server_certificate(ca.directory, "ISOCENTER", now=soon)
    days = [one.left().days for one in ca_files(ca) if one.what == "certificate"]
    assert days == [24]
    done = trio.Event()

    def reload() -> None:
        setup.tls.reload()
        trio.from_thread.run_sync(done.set)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(renew_daily, reload)
        await done.wait()
        nursery.cancel_scope.cancel()
    left = [one.left().days for one in setup.tls.expiries if one.what == "certificate"]
    assert left[0] > 800
    assert "stay" not in caplog.text


def ca_files(ca: CertificateAuthority) -> tuple[Expiry, ...]:
    return expiries_of(
        TlsFiles(certificate=ca.directory / "server.crt", key=ca.directory / "server.key")
    )


# Which process it is.


def in_child(work: Callable[[], bool]) -> bool:
    """What *work* says in a process of its own: a process never stands in its own way."""
    pid = os.fork()
    if pid == 0:
        code = 2
        try:
            code = 0 if work() else 1
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_the_pid_of_a_server_is_known_while_it_lives(tmp_path: Path) -> None:
    assert pid_of_server(tmp_path) is None
    file = PidFile(tmp_path)
    own = os.getpid()
    assert in_child(lambda: pid_of_server(tmp_path) == own)

    def cannot() -> bool:
        try:
            PidFile(tmp_path)
        except OSError:
            return True
        return False

    assert in_child(cannot)
    # The child had the descriptor too, and its end has taken the lock from nobody.
    assert in_child(lambda: pid_of_server(tmp_path) == own)
    file.close()
    assert in_child(lambda: pid_of_server(tmp_path) is None)


def test_what_a_crash_left_behind_is_no_server(tmp_path: Path) -> None:
    (tmp_path / "server.pid").write_text("1\n")
    assert pid_of_server(tmp_path) is None


def test_settings_that_do_not_fit_together(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"identity\.jwt_issuer and identity\.jwt_audience"):
        load_settings(environ={"ISOCENTER__IDENTITY__JWT_KEYS": str(tmp_path)})
