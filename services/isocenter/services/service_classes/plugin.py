"""A service class that another distribution adds to ``isocenter serve``.

The distribution names a `ServicePlugin` as an entry point of the group `GROUP`.  Nothing of it is
imported until an operator names it in the settings (``[[plugins]]``).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from isocenter.engine.fast_init import dataclass

if TYPE_CHECKING:  # the settings know what a plug-in declares, and nothing of this
    from isocenter.services.archive.archive import Archive
    from isocenter.services.association.operation import Operation
    from isocenter.services.association.peer import Peer
    from isocenter.services.association.requestor import Context
    from isocenter.services.association.service_registry import Service
    from isocenter.services.service_classes.client import ClientAssociation

#: The group of entry points.
GROUP: Final = "isocenter.services"


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginSopClass:
    """A SOP class of a plug-in, and who may ask for what on it.

    Attributes:
        uid: the abstract syntax.
        name: for the conformance statement.
        operations: what a peer may ask for: ``C-STORE``, ``N-ACTION`` …; anything else is answered
            0211H before the plug-in sees it.
        permissions: what a caller needs for that, as ``isocenter ae allow`` takes it
            (``study:read``, ``system:execute``); empty: what each operation needs on any SOP class.
    """

    uid: str
    name: str
    operations: tuple[str, ...]
    permissions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginSetting:
    """A setting of a plug-in: it stands beside the name in the plug-in's table in ``[[plugins]]``.

    Attributes:
        type: ``str``, ``int``, ``bool`` or ``pathlib.Path``, which is relative to the file that it
            stands in.  A secret is a path to a file that holds it.
        help: what it is for, in a few words.
        default: None where it is not set.
        is_required: it has to be set.
        is_list: it is a list of such values.
        choices: of a text, what it may be; empty: anything.
        minimum, maximum: of a number.
    """

    name: str
    type: type[str | int | bool | Path]
    help: str
    default: Any = None
    is_required: bool = False
    is_list: bool = False
    choices: tuple[str, ...] = ()
    minimum: int = 0
    maximum: int = 1_000_000_000


class PluginConnect(Protocol):
    """Opens an association with a peer: under the server's AE title, with its certificate and its
    deadlines."""

    def __call__(
        self, peer: Peer, contexts: Sequence[Context], *, operations_window: int = 1
    ) -> AbstractAsyncContextManager[ClientAssociation]: ...


#: Says what is wrong, in words and without patients; empty: all is well.
HealthCheck = Callable[[], Awaitable[str]]


class PluginCounter(Protocol):
    """A metric that counts, and never falls."""

    def add(self, amount: float = 1, **labels: str) -> None:
        """Count *amount* more."""
        ...


class PluginGauge(Protocol):
    """A metric that rises and falls; those of several processes are added up."""

    def set(self, value: float, **labels: str) -> None:
        """It is *value* now."""
        ...


class PluginHistogram(Protocol):
    """A metric that counts values by their size, and adds them up."""

    def observe(self, value: float, **labels: str) -> None:
        """Count one of size *value*."""
        ...


class PluginMonitor(Protocol):
    """Checks and metrics of a plug-in.  Names are of small letters, digits and ``_``.

    A metric stands at ``/metrics`` as ``isocenter_plugin_PLUGIN_NAME``.  Labels have few values:
    beyond 100 combinations all others are counted as ``other``.

    Raises:
        ValueError: a name or label cannot be, or is there already.
    """

    def add_check(self, name: str, check: HealthCheck, *, is_vital: bool = False) -> None:
        """Have *check* asked whenever somebody asks for the server's health, beside all others and
        for at most ``monitoring.check_timeout``.

        What it says, and that it fails or does not answer, makes the server degraded.

        Args:
            is_vital: makes it unhealthy: nobody should send anything.
        """
        ...

    def counter(self, name: str, text: str, labels: Sequence[str] = ()) -> PluginCounter:
        """A new counter; its name on the page ends in ``_total``."""
        ...

    def gauge(self, name: str, text: str, labels: Sequence[str] = ()) -> PluginGauge:
        """A new gauge."""
        ...

    def histogram(
        self,
        name: str,
        text: str,
        labels: Sequence[str] = (),
        *,
        buckets: Sequence[float] | None = None,
    ) -> PluginHistogram:
        """A new histogram; *buckets*: their upper bounds, rising; None: those of seconds, from
        0.1 ms to 300 s."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginContext:
    """What the server gives to a plug-in.

    Attributes:
        settings: the plug-in's own, by name, checked.
        ae_title: the server's.
        archive: what the server keeps.
        peers: by AE title (``[[peers]]``); look when one is needed: a reload exchanges them.
        connect: opens an association with one of them.
        concerns: tells the audit trail which studies an operation is about, by Study Instance UID;
            it adds the patients that the archive knows.
        monitor: takes health checks and metrics of the plug-in.
    """

    settings: Mapping[str, Any]
    ae_title: str
    archive: Archive
    peers: Mapping[str, Peer]
    connect: PluginConnect
    concerns: Callable[[Operation, tuple[str, ...]], None]
    monitor: PluginMonitor


@dataclass(frozen=True, slots=True, kw_only=True)
class ServicePlugin:
    """What an entry point of the group ``isocenter.services`` names.

    Attributes:
        about: one sentence for operators.
        sop_classes: what it serves; a server refuses to start where it serves one of them itself.
        make: makes the service, once in each process of a server.  The service offers each of the
            SOP classes, and sees only operations that are declared and that the caller may ask for.
        settings: what can be set of it.
    """

    about: str
    sop_classes: tuple[PluginSopClass, ...]
    make: Callable[[PluginContext], Service]
    settings: tuple[PluginSetting, ...] = ()
