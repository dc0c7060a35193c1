"""Plug-ins that the settings name: found, imported, checked, and made services of the server."""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextvars import copy_context
from dataclasses import replace
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Final
from weakref import WeakKeyDictionary

import trio

from isocenter.engine.dimse.message_codec import sop_class_of, sop_instance_of
from isocenter.engine.dimse.message_fields import operation_name
from isocenter.engine.dimse.status import Status
from isocenter.engine.error_codes import ErrorCode
from isocenter.engine.errors import IsocenterError
from isocenter.engine.fast_init import dataclass
from isocenter.engine.negotiation import Offer
from isocenter.engine.uid import is_uid
from isocenter.services.association.operation import Operation
from isocenter.services.association.service_registry import Service, ServiceRegistry, Statuses
from isocenter.services.conformance.statement import PluginRow
from isocenter.services.dicom.uid_registry import is_private
from isocenter.services.errors import OperationError
from isocenter.services.monitoring.plugin_monitor import HangingOperation, PluginMonitoring
from isocenter.services.notices import Notices, PluginOperationEnded, PluginStarted
from isocenter.services.security.access.permissions import (
    NEEDS,
    Permissions,
    needs_of,
    parse_permission,
    permission_texts,
    union,
)
from isocenter.services.service_classes.plugin import (
    GROUP,
    PluginContext,
    PluginSopClass,
    ServicePlugin,
)
from isocenter.services.settings.plugins import PluginEntry, faults_of, kind_of, values_of

log = logging.getLogger("isocenter.plugins")

#: Within which an operation ends that is cancelled when the server ends; one that does not, hangs.
LEAVE_SECONDS: Final = 5.0
_SETTING_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,63}")


class PluginError(IsocenterError):
    """A plug-in that cannot serve; the message says which, why, and what helps."""

    error_code = ErrorCode.PLUGIN


@dataclass(frozen=True, slots=True, kw_only=True)
class Plugin:
    """A plug-in that can serve.

    Attributes:
        distribution: what it comes from, and its version.
        values: its settings.
        needs: abstract syntax → operation → permissions.
    """

    name: str
    distribution: str
    version: str
    declared: ServicePlugin
    values: Mapping[str, Any]
    needs: Mapping[str, Mapping[str, Permissions]]

    @property
    def title(self) -> str:
        """For people."""
        return f"{self.name} ({self.distribution} {self.version})"

    def rows(self) -> Iterator[PluginRow]:
        """For the conformance statement."""
        for one in self.declared.sop_classes:
            needs = permission_texts(union(self.needs[one.uid].values()))
            yield PluginRow(
                plugin=self.name,
                distribution=f"{self.distribution} {self.version}",
                sop_class=one.name,
                uid=one.uid,
                operations=", ".join(one.operations),
                permissions=" ".join(needs) or "none",
            )


def installed() -> list[str]:
    """The names of all plug-ins that are installed; imports none of them."""
    return sorted({entry.name for entry in entry_points(group=GROUP)})


def load_plugin(entry: PluginEntry) -> Plugin:
    """Import what *entry* names, and check what it declares and what is set of it.

    Raises:
        PluginError: it is not there, cannot be imported, declares what cannot be, or its settings
            are wrong.
    """
    point = _entry_point(entry.name)
    declared = _declared_by(point)
    title = _title(point)
    faults = [*_faults_of_declaration(declared), *faults_of(declared.settings, entry)]
    if faults:
        raise PluginError(f"the plug-in {title}: {'; '.join(faults)}")
    assert point.dist is not None
    return Plugin(
        name=entry.name,
        distribution=point.dist.name,
        version=point.dist.version,
        declared=declared,
        values=values_of(declared.settings, entry),
        needs={one.uid: _needs(one) for one in declared.sop_classes},
    )


def declared_by(name: str) -> tuple[str, ServicePlugin]:
    """What a plug-in says of itself, whether or not it is switched on; and its title.

    Raises:
        PluginError: it is not there, or cannot be imported.
    """
    point = _entry_point(name)
    return _title(point), _declared_by(point)


def check_plugins(plugins: Sequence[Plugin]) -> None:
    """Whether they can serve side by side.

    Raises:
        PluginError: one is named twice, or two serve the same SOP class.
    """
    whose: dict[str, Plugin] = {}
    names: set[str] = set()
    for plugin in plugins:
        if plugin.name in names:
            raise PluginError(f"the plug-in {plugin.name!r} is named twice in the settings")
        names.add(plugin.name)
        for sop_class in plugin.declared.sop_classes:
            other = whose.setdefault(sop_class.uid, plugin)
            if other is not plugin:
                raise PluginError(
                    f"the plug-ins {plugin.title} and {other.title} both serve {sop_class.uid}; "
                    "switch one of them off"
                )


def services_of(
    plugins: Iterable[Plugin],
    context: PluginContext,
    notices: Notices,
    ours: Sequence[Service],
    monitoring: PluginMonitoring,
) -> list[PluginService]:
    """The services of plug-ins, beside *ours*; *monitoring* gets their checks and metrics.

    Raises:
        PluginError: a plug-in fails, or wants to serve what we do.
    """
    registry = ServiceRegistry(ours)
    services = []
    for plugin in plugins:
        for sop_class in plugin.declared.sop_classes:
            # A storage service that takes every private SOP class leaves this one out.
            if not is_private(sop_class.uid) and registry.offer(sop_class.uid) is not None:
                raise PluginError(
                    f"the plug-in {plugin.title}: {sop_class.uid} is served by Isocenter itself "
                    "with these settings"
                )
        mine = replace(context, monitor=monitoring.of(plugin.name))
        services.append(PluginService(plugin, mine, monitoring.hanging))
        notices.publish(
            PluginStarted(
                name=plugin.name, distribution=plugin.distribution, version=plugin.version
            )
        )
        log.info("the plug-in %s serves", plugin.title)
    return services


class PluginService:
    """The service of a plug-in as the server has it: what was declared, told to the audit trail.

    Args:
        hanging: gets what cannot be ended when the server ends.
    """

    def __init__(
        self, plugin: Plugin, context: PluginContext, hanging: list[HangingOperation]
    ) -> None:
        self._hanging = hanging
        self._is_ending = trio.Event()
        self._studies: WeakKeyDictionary[Operation, tuple[str, ...]] = WeakKeyDictionary()
        self.name = plugin.name
        self.sop_classes = {one.uid: one.name for one in plugin.declared.sop_classes}
        self._operations = {
            one.uid: frozenset(one.operations) for one in plugin.declared.sop_classes
        }
        try:
            self._service = plugin.declared.make(
                replace(context, settings=plugin.values, concerns=self._concerns)
            )
            self._offers = {uid: self._service.offer(uid) for uid in self.sop_classes}
            self.statuses: Statuses = dict(self._service.statuses)
        except (Exception, SystemExit) as error:
            log.exception("the plug-in %s cannot be made", plugin.title)
            raise PluginError(
                f"the plug-in {plugin.title} fails: {type(error).__name__}: {error}; where, the "
                "log says. Mend it, or switch it off"
            ) from error
        for uid, offer in self._offers.items():
            if not isinstance(offer, Offer):
                raise PluginError(
                    f"the plug-in {plugin.title} declares {uid} and does not offer it"
                )
        self.takes_raw_uids = bool(getattr(self._service, "takes_raw_uids", False))

    def operations_on(self, sop_class_uid: str) -> Collection[str]:
        """What the plug-in declared; nothing of SOP classes that are not its own."""
        return self._operations.get(sop_class_uid, ())

    def offer(self, abstract_syntax: str) -> Offer | None:
        """What the plug-in offered when it was made."""
        return self._offers.get(abstract_syntax)

    async def perform(self, operation: Operation) -> None:
        """Have the plug-in perform it; whatever comes of it, the audit trail hears."""
        request = operation.request
        command = operation_name(type(request))
        association = operation.association
        operation.completion_notice = lambda: PluginOperationEnded(
            caller=association.caller,
            plugin=self.name,
            command=command,
            sop_class_uid=sop_class_of(request) or operation.context.abstract_syntax,
            sop_instance_uid=sop_instance_of(request),
            status=operation.status,
            studies=self._studies.pop(operation, ()),
        )
        if command not in self._operations[operation.context.abstract_syntax]:
            raise OperationError(Status.UNRECOGNIZED_OPERATION)
        await self._wait_for(_Running(self._service.perform, operation), command)

    async def watch(self) -> None:
        """Until cancelled, the server goes on; from then on nobody waits for what hangs."""
        try:
            await trio.sleep_forever()
        finally:
            self._is_ending.set()

    async def _wait_for(self, running: _Running, command: str) -> None:
        """Wait for an operation; when the server ends not for one that cannot be cancelled."""
        try:
            await running.ended.wait()
        except trio.Cancelled:
            running.scope.cancel()
            with trio.CancelScope(shield=True):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._lose_patience, nursery.cancel_scope)
                    await running.ended.wait()
                    nursery.cancel_scope.cancel()
            if not running.ended.is_set():
                self._hanging.append(
                    HangingOperation(plugin=self.name, command=command, ended=running.ended)
                )
                raise
            if running.scope.cancelled_caught:
                raise
        if running.fault is not None:
            raise running.fault

    async def _lose_patience(self, waiting: trio.CancelScope) -> None:
        await self._is_ending.wait()
        await trio.sleep(LEAVE_SECONDS)
        waiting.cancel()

    def _concerns(self, operation: Operation, studies: tuple[str, ...]) -> None:
        self._studies[operation] = tuple(dict.fromkeys(filter(None, studies)))


class _Running:
    """An operation of a plug-in, in a task of its own, that nobody has to wait for: it may not let
    itself be cancelled, as when it waits in a thread.

    Attributes:
        fault: what it has raised.
    """

    def __init__(
        self, perform: Callable[[Operation], Awaitable[None]], operation: Operation
    ) -> None:
        self.scope = trio.CancelScope()
        self.ended = trio.Event()
        self.fault: BaseException | None = None
        trio.lowlevel.spawn_system_task(self._run, perform, operation, context=copy_context())

    async def _run(
        self, perform: Callable[[Operation], Awaitable[None]], operation: Operation
    ) -> None:
        try:
            with self.scope:
                await perform(operation)
        except trio.Cancelled:  # the process ends
            raise
        except BaseException as error:  # whoever waits has it
            self.fault = error
        finally:
            self.ended.set()


def _entry_point(name: str) -> EntryPoint:
    found = {
        (point.value, point.dist.name if point.dist else ""): point
        for point in entry_points(group=GROUP, name=name)
    }
    if not found:
        known = ", ".join(installed())
        raise PluginError(
            f"there is no plug-in {name!r} in this Python environment "
            f"({'installed: ' + known if known else 'none is installed'}); install its "
            "distribution there, or take it out of the settings"
        )
    if len(found) > 1:
        owners = " and ".join(sorted(owner for _, owner in found))
        raise PluginError(f"{owners} both have a plug-in {name!r}; uninstall one of them")
    (point,) = found.values()
    return point


def _title(point: EntryPoint) -> str:
    assert point.dist is not None  # they come from distributions, and from nowhere else
    return f"{point.name} ({point.dist.name} {point.dist.version})"


def _declared_by(point: EntryPoint) -> ServicePlugin:
    """Import a plug-in."""
    title = _title(point)
    try:
        declared = point.load()
    except (Exception, SystemExit) as error:
        log.exception("the plug-in %s cannot be imported", title)
        raise PluginError(
            f"the plug-in {title} cannot be imported from {point.value}: {type(error).__name__}: "
            f"{error}; where, the log says. Mend it, or switch it off"
        ) from error
    if not isinstance(declared, ServicePlugin):
        raise PluginError(
            f"the plug-in {title}: {point.value} is no isocenter.services.ServicePlugin, but "
            f"{type(declared).__name__}"
        )
    return declared


def _faults_of_declaration(declared: ServicePlugin) -> list[str]:
    faults = []
    if not declared.sop_classes:
        faults.append("it declares no SOP class")
    for one in declared.sop_classes:
        if not is_uid(one.uid):
            faults.append(f"it declares the SOP class {one.uid!r}, which is no UID")
        unknown = [operation for operation in one.operations if operation not in NEEDS]
        if unknown or not one.operations:
            which = repr(unknown[0]) if unknown else "no operation"
            faults.append(f"it declares {which} on {one.uid}; there are {', '.join(NEEDS)}")
        for permission in one.permissions:
            try:
                parse_permission(permission)
            except ValueError as error:
                faults.append(str(error))
    names = [setting.name for setting in declared.settings]
    for setting in declared.settings:
        if not _SETTING_NAME.fullmatch(setting.name) or setting.name == "name":
            faults.append(f"a setting cannot be called {setting.name!r}")
        elif names.count(setting.name) > 1:
            faults.append(f"two settings are called {setting.name!r}")
        try:
            kind_of(setting)
        except ValueError as error:
            faults.append(str(error))
    return list(dict.fromkeys(faults))


def _needs(sop_class: PluginSopClass) -> Mapping[str, Permissions]:
    if not sop_class.permissions:
        return {operation: needs_of(operation) for operation in sop_class.operations}
    needs = union(map(parse_permission, sop_class.permissions))
    return dict.fromkeys(sop_class.operations, needs)
