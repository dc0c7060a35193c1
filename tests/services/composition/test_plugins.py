"""Plug-ins: found by entry point, imported when they are named, checked, and kept in bounds."""

from __future__ import annotations

import logging
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import trio

from isocenter.engine.dimse.message_codec import response_to
from isocenter.engine.dimse.messages import NActionRequest, NGetRequest, Request
from isocenter.engine.dimse.status import Status
from isocenter.engine.errors import IsocenterError
from isocenter.engine.negotiation import Offer
from isocenter.engine.uid import IMPLICIT_VR_LITTLE_ENDIAN, VERIFICATION
from isocenter.services import composition
from isocenter.services.association.operation import Operation
from isocenter.services.association.peer import Peer
from isocenter.services.association.server import Server, serve
from isocenter.services.association.service_registry import Service, ServiceRegistry
from isocenter.services.composition import plugins
from isocenter.services.composition.plugins import Plugin, PluginError, installed, load_plugin
from isocenter.services.composition.services import build_services_and_workflow
from isocenter.services.errors import OperationError
from isocenter.services.monitoring.plugin_monitor import PluginMonitoring
from isocenter.services.net.listeners import ListenAddress
from isocenter.services.notices import Notice, Notices, PluginOperationEnded, PluginStarted
from isocenter.services.service_classes.client import ClientAssociation, open_association
from isocenter.services.service_classes.plugin import (
    PluginContext,
    PluginSetting,
    PluginSopClass,
    ServicePlugin,
)
from isocenter.services.settings.loading import load_settings
from isocenter.services.settings.plugins import PluginEntry
from support.plugins import EXAMPLE, unpack, wheel
from support.serving import port_of

NOTES = "2.25.99"
OTHER = "2.25.98"

SOURCE = """
from isocenter.services import ServicePlugin, PluginSopClass, Offer
def make(context): {make}
class Service:
    name = "notes"
    statuses = {{0: "done"}}
    def offer(self, uid): {offer}
    async def perform(self, operation): ...
plugin = ServicePlugin(about="Notes.", make=make, sop_classes=(
    PluginSopClass(
        uid={uid!r}, name="Notes", operations={operations!r}, permissions={permissions!r}
    ),
))
"""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for distributions, on the path."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    before = set(sys.modules)
    yield folder
    for name in set(sys.modules) - before:
        if (getattr(sys.modules[name], "__file__", None) or "").startswith(str(folder)):
            del sys.modules[name]


def add(
    site: Path, source: str, *, module: str = "acme", name: str = "notes", value: str = "plugin"
) -> PluginEntry:
    built = wheel(
        site.parent, f"dist-{module}", "1.2", module, source, **{name: f"{module}:{value}"}
    )
    unpack(site, built)
    return PluginEntry(name)


def source(**changes: Any) -> str:
    return SOURCE.format(
        **{
            "make": "return Service()",
            "offer": "return Offer(transfer_syntaxes=('1.2.840.10008.1.2',))",
            "uid": NOTES,
            "operations": ("N-ACTION",),
            "permissions": (),
            **changes,
        }
    )


def test_what_is_installed_is_listed_and_not_imported(site: Path) -> None:
    add(site, "raise RuntimeError('imported')")
    assert installed() == ["notes"]
    assert "acme" not in sys.modules
    # Nor do the settings import what they name.
    settings = load_settings(None, {}, {"plugins": "notes", "storage.data_dir": ":memory:"})
    assert settings.plugins == (PluginEntry("notes"),)
    assert "acme" not in sys.modules


def test_one_that_is_not_there(site: Path) -> None:
    with pytest.raises(PluginError, match=r"no plug-in 'notes' .*\(none is installed\); install"):
        load_plugin(PluginEntry("notes"))
    add(site, source())
    with pytest.raises(PluginError, match=r"no plug-in 'nots' .*\(installed: notes\)"):
        load_plugin(PluginEntry("nots"))


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("raise RuntimeError('oops')", r"cannot be imported from acme:plugin: RuntimeError: oops"),
        ("import nothing_of_that_name", r"ModuleNotFoundError: No module named"),
        ("import sys; sys.exit(3)", r"cannot be imported from acme:plugin: SystemExit: 3"),
        ("def def", "SyntaxError"),
        ("x = 1", "AttributeError"),
        ("plugin = 7", "acme:plugin is no isocenter.services.ServicePlugin, but int"),
        (source(uid="1.2..3"), r"declares the SOP class '1.2..3', which is no UID"),
        (source(operations=()), "declares no operation on 2.25.99; there are C-ECHO, C-STORE"),
        (source(operations=("N-DANCE",)), "declares 'N-DANCE' on"),
        (source(permissions=("study:dance",)), "'study:dance' is no permission"),
        (source() + "\nimport dataclasses; plugin = dataclasses.replace(plugin, sop_classes=())",
         "declares no SOP class"),
    ],
)  # fmt: skip
def test_one_that_is_broken_is_told_with_its_distribution(
    site: Path, text: str, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    entry = add(site, text)
    with pytest.raises(PluginError, match=fault) as raised:
        load_plugin(entry)
    assert "notes (dist-acme 1.2)" in str(raised.value)


def test_two_of_one_name(site: Path) -> None:
    add(site, source(), module="acme")
    entry = add(site, source(), module="bcme")
    with pytest.raises(PluginError, match="dist-acme and dist-bcme both have a plug-in 'notes'"):
        load_plugin(entry)


def test_two_that_serve_the_same(site: Path) -> None:
    first = load_plugin(add(site, source(), module="acme", name="notes"))
    second = load_plugin(add(site, source(), module="bcme", name="scribbles"))
    composition.check_plugins([first])
    with pytest.raises(PluginError, match=r"both serve 2.25.99; switch one of them off"):
        composition.check_plugins([first, second])
    with pytest.raises(PluginError, match="'notes' is named twice in the settings"):
        composition.check_plugins([first, first])


# Settings.


DECLARED = (
    PluginSetting(name="folder", type=Path, help="where", is_required=True),
    PluginSetting(name="limit", type=int, help="how many", default=5, minimum=1, maximum=9),
    PluginSetting(name="mode", type=str, help="how", default="a", choices=("a", "b")),
    PluginSetting(name="titles", type=str, help="whose", default=(), is_list=True),
    PluginSetting(name="strict", type=bool, help="whether", default=False),
)


def declared(**changes: Any) -> ServicePlugin:
    return ServicePlugin(
        **{
            "about": "Notes.",
            "make": Notes,
            "sop_classes": (PluginSopClass(uid=NOTES, name="Notes", operations=("N-ACTION",)),),
            "settings": DECLARED,
            **changes,
        }
    )


def from_toml(tmp_path: Path, text: str) -> PluginEntry:
    config = tmp_path / "conf" / "isocenter.toml"
    config.parent.mkdir(exist_ok=True)
    config.write_text(text)
    (entry,) = load_settings(config, {}, {"storage.data_dir": ":memory:"}).plugins
    return entry


def test_settings_are_read_by_what_is_declared(site: Path, tmp_path: Path) -> None:
    add(site, "plugin = None")
    sys.modules.pop("acme", None)
    (site / "acme.py").write_text(
        "from services.composition.test_plugins import declared\nplugin = declared()"
    )
    entry = from_toml(
        tmp_path,
        "[[plugins]]\nname = 'notes'\nfolder = 'in'\nlimit = 7\ntitles = ['CT1', 'MR1']\n",
    )
    plugin = load_plugin(entry)
    assert plugin.values == {
        "folder": tmp_path / "conf" / "in",
        "limit": 7,
        "mode": "a",
        "titles": ("CT1", "MR1"),
        "strict": False,
    }


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        ("", ["folder is missing: where"]),
        ("folder = 7", ["folder = 7: must be a path"]),
        ("folder = 'x'\nlimit = 10", ["limit = 10: must be a whole number from 1 to 9"]),
        ("folder = 'x'\nlimit = true", ["limit = true: must be a whole number"]),
        ("folder = 'x'\nmode = 'c'", ['mode = "c": must be a or b']),
        ("folder = 'x'\ntitles = 'CT1'", ['titles = "CT1": must be a list, each text']),
        ("folder = 'x'\nlimits = 1\nstrict = 'no'",
         ["there is no limits; it has folder, limit, mode, strict, titles",
          'strict = "no": must be true or false']),
    ],
)  # fmt: skip
def test_wrong_settings_are_told_all_at_once(
    site: Path, tmp_path: Path, text: str, faults: list[str]
) -> None:
    add(site, "from services.composition.test_plugins import declared\nplugin = declared()")
    entry = from_toml(tmp_path, f"[[plugins]]\nname = 'notes'\n{text}\n")
    with pytest.raises(PluginError) as raised:
        load_plugin(entry)
    for fault in faults:
        assert fault in str(raised.value)


@pytest.mark.parametrize(
    "setting",
    [
        PluginSetting(name="name", type=str, help="x"),
        PluginSetting(name="With Space", type=str, help="x"),
        PluginSetting(name="x", type=dict, help="x"),  # type: ignore[arg-type]
    ],
)
def test_a_setting_that_cannot_be(
    site: Path, monkeypatch: pytest.MonkeyPatch, setting: PluginSetting
) -> None:
    entry = add(site, "from services.composition import test_plugins\nplugin = test_plugins.WRONG")
    monkeypatch.setattr(
        sys.modules[__name__], "WRONG", declared(settings=(setting,)), raising=False
    )
    with pytest.raises(PluginError, match=r"a setting cannot be called|is of no type"):
        load_plugin(entry)


# Serving.


class Notes:
    """Answers every N-ACTION, N-GET with 0105H."""

    name = "anything"
    statuses: Mapping[int, str] = {0: "noted", 0x0105: "no such attribute"}

    def __init__(self, context: PluginContext) -> None:
        self.context = context
        self.seen: list[Request] = []

    def offer(self, abstract_syntax: str) -> Offer | None:
        return Offer(transfer_syntaxes=(IMPLICIT_VR_LITTLE_ENDIAN,))

    async def perform(self, operation: Operation) -> None:
        self.seen.append(operation.request)
        self.context.concerns(operation, ("1.2.3", "1.2.3"))
        if isinstance(operation.request, NGetRequest):
            raise OperationError(0x0105)
        await operation.respond(response_to(operation.request, Status.SUCCESS))


def plugin_of(**changes: Any) -> Plugin:
    needs = changes.pop("needs", {})
    return Plugin(
        name="notes",
        distribution="dist-acme",
        version="1.2",
        declared=declared(**changes),
        values={"limit": 5},
        needs=needs,
    )


@asynccontextmanager
async def registry_with(
    plugin: Plugin,
    notices: Notices | None = None,
    monitoring: PluginMonitoring | None = None,
    **overrides: object,
) -> AsyncIterator[ServiceRegistry]:
    settings = load_settings(
        None, {}, {"storage.data_dir": ":memory:", "tls.enabled": "false", **overrides}
    )
    async with composition.open_archive_parts(settings) as parts:
        registry, _ = build_services_and_workflow(
            settings,
            parts.archive,
            parts.stores,
            None,
            notices,
            plugins=[plugin],
            monitoring=monitoring,
        )
        yield registry


@asynccontextmanager
async def asking(registry: ServiceRegistry, notices: Notices) -> AsyncIterator[ClientAssociation]:
    async with trio.open_nursery() as nursery:
        server: Server = await nursery.start(
            lambda task_status: serve(
                registry,
                [ListenAddress(host="127.0.0.1", port=0)],
                notices=notices,
                task_status=task_status,
            )
        )
        peer = Peer("ANY", "127.0.0.1", port_of(server))
        contexts = [(uid, [IMPLICIT_VR_LITTLE_ENDIAN]) for uid in (NOTES, OTHER, VERIFICATION)]
        async with open_association(peer, contexts) as association:
            yield association
        nursery.cancel_scope.cancel()


async def ask(association: ClientAssociation, request: Request) -> int:
    (context,) = (one for one in association.contexts if one.abstract_syntax == NOTES)
    return (await association.invoke(context.context_id, request)).message.status


def suppressing(function: Any) -> Any:
    async def call(*arguments: Any) -> None:
        with suppress(IsocenterError):
            await function(*arguments)

    return call


def action(association: ClientAssociation, uid: str = "1.2.3.9") -> NActionRequest:
    return NActionRequest(
        message_id=association.next_message_id(),
        requested_sop_class_uid=NOTES,
        requested_sop_instance_uid=uid,
        action_type_id=1,
    )


def get(association: ClientAssociation) -> NGetRequest:
    return NGetRequest(
        message_id=association.next_message_id(),
        requested_sop_class_uid=NOTES,
        requested_sop_instance_uid="1.2.3.9",
    )


async def test_a_plugin_serves_what_it_declares_and_the_audit_hears() -> None:
    heard: list[Notice] = []
    notices = Notices(heard.append)
    made: list[Notes] = []

    def make(context: PluginContext) -> Service:
        made.append(Notes(context))
        return made[0]

    sop_class = PluginSopClass(uid=NOTES, name="Notes", operations=("N-ACTION",))
    plugin = plugin_of(make=make, sop_classes=(sop_class,))
    async with registry_with(plugin, notices) as registry:
        assert registry.services[-1].name == "notes"
        async with asking(registry, notices) as association:
            # OTHER is offered by the plug-in and not declared.
            assert {one.abstract_syntax for one in association.contexts} == {NOTES, VERIFICATION}
            assert await ask(association, action(association)) == 0
            assert await ask(association, get(association)) == Status.UNRECOGNIZED_OPERATION
            assert await ask(association, action(association, "../x")) == 0x0117
            assert await association.echo() == 0
    (notes,) = made
    assert [type(one) for one in notes.seen] == [NActionRequest]
    assert notes.context.settings == {"limit": 5}
    assert notes.context.ae_title == "ISOCENTER"
    assert [one for one in heard if isinstance(one, PluginStarted)] == [
        PluginStarted(name="notes", distribution="dist-acme", version="1.2")
    ]
    told = [one for one in heard if isinstance(one, PluginOperationEnded)]
    assert [(one.command, one.status, one.studies) for one in told] == [
        ("N-ACTION", 0, ("1.2.3",)),
        ("N-GET", 0x0211, ()),
    ]
    assert told[0].plugin == "notes"
    assert told[0].sop_class_uid == NOTES
    assert told[0].sop_instance_uid == "1.2.3.9"


async def test_a_fault_of_a_plugin_is_one_operation(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Notes):
        async def perform(self, operation: Operation) -> None:
            raise ZeroDivisionError("oops")

    heard: list[Notice] = []
    notices = Notices(heard.append)
    async with (
        registry_with(plugin_of(make=Broken), notices) as registry,
        asking(registry, notices) as association,
    ):
        assert await ask(association, action(association)) == Status.PROCESSING_FAILURE
        assert await association.echo() == 0
    assert "oops" in caplog.text
    (told,) = (one for one in heard if isinstance(one, PluginOperationEnded))
    assert told.status == 0x0110


async def test_who_hangs_is_left_behind_when_the_server_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(plugins, "LEAVE_SECONDS", 0.05)
    begun, released = trio.Event(), trio.Event()

    class Hanging(Notes):
        async def perform(self, operation: Operation) -> None:
            begun.set()
            with trio.CancelScope(shield=True):  # as in a thread
                await released.wait()
            await trio.sleep_forever()

    monitoring, notices = PluginMonitoring(), Notices()
    async with registry_with(plugin_of(make=Hanging), notices, monitoring) as registry:
        async with asking(registry, notices) as association, trio.open_nursery() as nursery:
            nursery.start_soon(suppressing(ask), association, action(association))
            await begun.wait()
            assert monitoring.hanging == []
            nursery.cancel_scope.cancel()
        # The server has ended without it.
        (left,) = monitoring.hanging
        assert (left.plugin, left.command) == ("notes", "N-ACTION")
        assert not left.ended.is_set()
        released.set()
        # It was cancelled, and ends as soon as it can.
        await left.ended.wait()


async def test_who_takes_long_is_waited_for_when_its_association_ends() -> None:
    begun, released = trio.Event(), trio.Event()
    heard: list[Notice] = []

    class Slow(Notes):
        async def perform(self, operation: Operation) -> None:
            begun.set()
            with trio.CancelScope(shield=True):
                await released.wait()
            self.context.concerns(operation, ("1.2.77",))
            await trio.sleep_forever()

    ended = trio.Event()

    def hear(notice: Notice) -> None:
        heard.append(notice)
        if isinstance(notice, PluginOperationEnded):
            ended.set()

    monitoring, notices = PluginMonitoring(), Notices(hear)
    async with (
        registry_with(plugin_of(make=Slow), notices, monitoring) as registry,
        asking(registry, notices) as association,
    ):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(suppressing(ask), association, action(association))
            await begun.wait()
            await association.abort()
        assert not ended.is_set()
        released.set()
        await ended.wait()
    assert monitoring.hanging == []
    (told,) = (one for one in heard if isinstance(one, PluginOperationEnded))
    assert told.studies == ("1.2.77",)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"make": lambda context: 1 / 0}, r"notes \(dist-acme 1.2\) fails: ZeroDivisionError"),
        ({"make": lambda context: object()}, "fails: AttributeError"),
        ({"sop_classes": (PluginSopClass(uid=VERIFICATION, name="x", operations=("C-ECHO",)),)},
         "1.2.840.10008.1.1 is served by Isocenter itself"),
    ],
)  # fmt: skip
async def test_one_that_cannot_serve(change: dict[str, Any], fault: str) -> None:
    with pytest.raises(PluginError, match=fault):
        async with registry_with(plugin_of(**change)):
            pass


async def test_one_that_does_not_offer_what_it_declares() -> None:
    class Shy(Notes):
        def offer(self, abstract_syntax: str) -> Offer | None:
            return None

    with pytest.raises(PluginError, match=r"declares 2.25.99 and does not offer it"):
        async with registry_with(plugin_of(make=Shy)):
            pass


async def test_a_plugin_has_its_private_sop_class_before_storage() -> None:
    overrides = {"storage.private_sop_classes": "true"}
    async with registry_with(plugin_of(), **overrides) as registry:
        assert registry._find_service(NOTES).service.name == "notes"  # type: ignore[union-attr]
        assert registry._find_service(OTHER).service.name == "storage"  # type: ignore[union-attr]


async def test_the_example_is_what_the_guide_says(site: Path, tmp_path: Path) -> None:
    add(site, EXAMPLE.read_text("utf-8"), module="acme_raw_data", name="raw_data")
    logging.getLogger("isocenter.plugins").setLevel(logging.INFO)
    plugin = load_plugin(PluginEntry("raw-data", (("folder", str(tmp_path / "raw")),)))
    async with registry_with(plugin) as registry:
        (uid,) = plugin.needs
        assert registry.offer(uid) is not None
    assert (tmp_path / "raw").is_dir()
