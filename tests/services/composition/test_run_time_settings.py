"""Settings that are changed while a server runs: checked, kept, applied, told."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from isocenter.services.composition.access import access_control_of
from isocenter.services.composition.reloading import RELOADED, Reloader
from isocenter.services.composition.run_time_settings import RunTimeSettings
from isocenter.services.composition.tls_contexts import TlsContexts
from isocenter.services.notices import Caller, SettingsChanged
from isocenter.services.settings.changed_settings import ChangedSettings
from isocenter.services.settings.settings import SETTINGS
from isocenter.services.settings.source import SettingsSource
from isocenter.services.web.configuration import InvalidChangeError, ShownSetting
from services.security.access.policy_support import heard

ALICE = Caller(association="http-1", address="10.0.0.1", user="alice")


@pytest.fixture(autouse=True)
def _quiet_again() -> Iterator[None]:
    """Reading settings sets the level of the log, which is the process's."""
    root = logging.getLogger("isocenter")
    before = root.level, root.handlers[:], root.propagate
    yield
    root.setLevel(before[0])
    root.handlers[:] = before[1]
    root.propagate = before[2]


class Running:
    """What a server has that its settings reach."""

    def __init__(self, folder: Path, *, in_memory: bool = False) -> None:
        self.data = folder / "data"
        place = ":memory:" if in_memory else str(self.data)
        file = folder / "isocenter.toml"
        file.write_text(f"[storage]\ndata_dir = {place!r}\n")
        self.source = SettingsSource(config_file=file, environ={})
        settings = self.source.settings()
        self.notices, self.told = heard()
        self.tls = TlsContexts(settings, folder / "certs")
        self.access = access_control_of(settings)
        self.peers = {peer.ae_title: peer for peer in settings.peers}
        self.others = 0
        self.reloader = Reloader(
            self.source.settings, settings, tls=self.tls, access=self.access, peers=self.peers,
            notices=self.notices,
        )  # fmt: skip
        self.configuration = RunTimeSettings(
            self.source,
            self.reloader,
            self.notices,
            folder=None if in_memory else self.data,
            tell_others=self._tell,
        )

    def _tell(self) -> None:
        self.others += 1

    async def shown(self, key: str) -> ShownSetting:
        (found,) = [one for one in await self.configuration.settings() if one.key == key]
        return found

    async def refused(self, **values: Any) -> str:
        with pytest.raises(InvalidChangeError) as caught:
            await self.change(**values)
        return str(caught.value)

    async def change(self, **values: Any) -> Any:
        named = {key.replace("__", "."): value for key, value in values.items()}
        return await self.configuration.change(named, ALICE)


@pytest.fixture
def running(tmp_path: Path) -> Running:
    return Running(tmp_path)


async def test_what_can_be_exchanged_is_in_use_at_once(running: Running) -> None:
    done = await running.change(
        log__level="debug", access__allow=["CT1"],
        peers=[{"ae_title": "WS7", "host": "10.0.0.7", "port": 104}],
    )  # fmt: skip
    assert done.after_restart == ()
    assert logging.getLogger("isocenter").level == logging.DEBUG
    assert running.access.settings.allow == ("CT1",)
    assert list(running.peers) == ["WS7"]
    assert running.others == 1
    (told,) = [one for one in running.told if isinstance(one, SettingsChanged)]
    assert (told.caller, told.keys) == (ALICE, ("log.level", "access.allow", "peers"))
    shown = await running.shown("log.level")
    assert (shown.value, shown.is_changed, shown.needs_restart) == ("debug", True, False)
    assert shown.source.startswith("changed by alice on ")
    assert not shown.is_pending
    # A server that starts again finds it.
    assert running.source.settings().access.allow == ("CT1",)


async def test_what_needs_a_restart_says_so_and_is_kept(running: Running) -> None:
    done = await running.change(server__port=11999, log__level="debug")
    assert (done.applied, done.after_restart) == (("log.level",), ("server.port",))
    shown = await running.shown("server.port")
    assert (shown.value, shown.is_pending, shown.needs_restart) == (11999, True, True)
    assert running.reloader.settings.server.port != 11999
    assert running.source.settings().server.port == 11999


async def test_what_cannot_be_used_is_taken_back(running: Running) -> None:
    """A certificate can be read only when it is tried."""
    await running.change(log__level="debug")
    before = ChangedSettings(running.data).read()
    context = running.tls.server
    with (running.data.parent / "isocenter.toml").open("a") as file:  # as somebody edits it
        file.write('[tls]\ncertificate = "none.pem"\nkey = "none.key"\nca = "none.ca"\n')
    fault = await running.refused(log__level="info", tls__strict=True)
    assert "none" in fault
    assert ChangedSettings(running.data).read() == before
    assert logging.getLogger("isocenter").level == logging.DEBUG
    assert not running.reloader.settings.tls.strict
    assert running.tls.server is context
    assert running.others == 1


async def test_what_is_wrong_is_told_and_changes_nothing(running: Running) -> None:
    assert "did you mean log.level?" in await running.refused(log__lvel="x", server__port=-1)
    assert not ChangedSettings(running.data).path.exists()
    assert not [one for one in running.told if isinstance(one, SettingsChanged)]


async def test_no_command_is_named_from_afar(running: Running) -> None:
    """Whoever may change settings would else be the user of the server."""
    file = running.data.parent / "isocenter.toml"
    command = {"name": "c", "command": ["/bin/true"]}
    with file.open("a") as more:
        more.write(
            "[schedules]\nprograms = ['report=/bin/report']\n"
            "[[events.consumers]]\nname = 'c'\ncommand = ['/bin/true']\n"
        )
    assert "on the machine" in await running.refused(
        schedules__programs=["report=/bin/report", "x=/bin/sh -c id"]
    )
    for new in {"name": "x", "command": ["/bin/sh"]}, {"name": "x", "python": "os:system"}:
        assert "on the machine" in await running.refused(events__consumers=[new])
    assert not ChangedSettings(running.data).path.exists()
    webhook = {"name": "w", "webhook": "https://ris.example/"}
    there = (await running.shown("events.consumers")).value
    assert isinstance(there, list)
    assert there[0]["command"] == command["command"]
    await running.change(events__consumers=[*there, webhook])
    await running.change(schedules__programs=["report=/bin/report"])
    await running.change(schedules__programs=[], events__consumers=[webhook])


async def test_an_archive_in_memory_keeps_no_settings(tmp_path: Path) -> None:
    running = Running(tmp_path, in_memory=True)
    assert "in memory" in await running.refused(log__level="debug")
    assert (await running.shown("log.level")).value == "info"


async def test_every_setting_is_shown_as_json_has_it(running: Running) -> None:
    shown = await running.configuration.settings()
    assert [one.key for one in shown] == [one.key for one in SETTINGS]
    assert {one.key for one in shown if not one.needs_restart} == RELOADED & {
        one.key for one in SETTINGS
    }
    for one in shown:
        assert isinstance(one.value, str | int | float | bool | list | dict | None), one.key
        assert one.text, one.key
        assert one.allowed, one.key
    secrets = [one for one in shown if one.is_secret]
    assert secrets
    assert not any(one.can_be_changed for one in secrets)


async def test_what_is_shown_can_be_sent_back(running: Running) -> None:
    """Also lists of tables: whoever edits one in a page sends the others as they were."""
    values = {
        "peers": [{"ae_title": "WS7", "host": "10.0.0.7", "port": 104}],
        "rules": [{"name": "all", "forward": ["WS7"]}],
        "log.level": "warning",
    }
    for key, value in values.items():
        await running.configuration.change({key: value}, ALICE)
        shown = await running.shown(key)
        await running.configuration.change({key: shown.value}, ALICE)
        assert (await running.shown(key)).value == shown.value


PLACES = {
    "log.file": "/etc/cron.d/x",
    "server.capture": "/srv",
    "jobs.export_folder": "/srv",
    "jobs.import_folders": ["/"],
    "audit.folder": "/srv",
    "print.directory": "/srv",
    "hl7.reject_folder": "/srv",
    "worklist.folder": "/srv",
    "tls.key": "/etc/shadow",
    "objects.url": "file:///srv",
    "tiers.cold": "file:///srv",
    "database.url": "postgresql://elsewhere/x",
    "signatures.trusted": ["/srv/x.pem"],
    "plugins": ["evil"],
}


async def test_places_of_the_machine_are_set_there_only(running: Running) -> None:
    file = running.data.parent / "isocenter.toml"
    for key, value in PLACES.items():
        fault = await running.refused(**{key.replace(".", "__"): value})
        assert fault.startswith(f"{key}: it names a place of this machine")
        assert f"isocenter config set {key}, or {file}" in fault
        shown = await running.shown(key)
        assert shown.is_of_machine
        assert not shown.can_be_changed
    assert not ChangedSettings(running.data).path.exists()
    # Said again with others, it is no change; and what was changed on the machine is put back.
    await running.change(log__level="debug", jobs__import_folders=[])
    await running.change(log__file=None)


FILES = {
    "events.consumers": {"name": "x", "url": "https://evil.example/", "secret_file": "/etc/shadow"},
    "sharing.repositories": {
        "name": "x", "kind": "mhd", "url": "https://evil.example/", "token_file": "/etc/shadow",
    },
    "deidentification": {"name": "x", "key_file": "/etc/shadow"},
    "ai_services": {
        "name": "x", "url": "https://evil.example/", "authentication": "bearer",
        "key_file": "/etc/shadow",
    },
}  # fmt: skip


@pytest.mark.parametrize("key", FILES)
async def test_no_table_from_afar_names_a_file_of_the_machine(running: Running, key: str) -> None:
    """What is read from there is sent to where the table says."""
    fault = await running.refused(**{key.replace(".", "__"): [FILES[key]]})
    assert "what names a file of this machine is set and changed there" in fault
    assert not ChangedSettings(running.data).path.exists()
    # Nor as one text: that is no list of tables.
    await running.refused(**{key.replace(".", "__"): f"[{FILES[key]!r}]"})


def test_whatever_is_a_file_or_a_folder_is_of_the_machine() -> None:
    of_machine = {one.key for one in SETTINGS if one.is_of_machine}
    assert of_machine >= PLACES.keys()
    words = ("folder", "_file", "directory", "data_dir", ".file")
    assert not [one.key for one in SETTINGS if one.key.endswith(words) and not one.is_of_machine]
