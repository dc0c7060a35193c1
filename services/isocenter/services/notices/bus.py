"""Bus of notices: whoever does something tells it, whoever listens hears it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from contextvars import ContextVar

from isocenter.services.notices.administration import (
    ConfigurationReloaded,
    FunctionUsed,
    NodesChanged,
    OrderChanged,
    RulesChanged,
    SettingsChanged,
    TasksChanged,
)
from isocenter.services.notices.associations import (
    AccessDenied,
    AssociationEnded,
    AssociationEstablished,
    AssociationRejected,
    AssociationRevoked,
    ConnectionRefused,
    OperationEnded,
    PluginOperationEnded,
    PluginStarted,
    ServerStarted,
    ServerStopped,
)
from isocenter.services.notices.caller import WingNotice
from isocenter.services.notices.objects import (
    InstanceRefused,
    InstancesCompressed,
    InstancesRead,
    InstancesSent,
    InstanceStored,
    ObjectDamaged,
    ObjectTranscoded,
    QueryAnswered,
    RetrieveFailed,
    SearchAnswered,
    TransferStarted,
)
from isocenter.services.notices.workflow import (
    AnalysisEnded,
    CommitmentDone,
    EventBacklogMeasured,
    EventDelivery,
    ForwardAttempted,
    ForwardQueueMeasured,
    OrderMessageAnswered,
    PerformedStepChanged,
    PrintJobChanged,
    ProcedureRecordRead,
    TrashMeasured,
    WorkitemChanged,
)

#: Name of the association, or connection, that the task at hand works for; empty: none.
association_name: ContextVar[str] = ContextVar("association_name", default="")

log = logging.getLogger("isocenter.server")

Notice = (
    ServerStarted
    | ServerStopped
    | ConfigurationReloaded
    | SettingsChanged
    | FunctionUsed
    | NodesChanged
    | TasksChanged
    | RulesChanged
    | OrderChanged
    | ConnectionRefused
    | AssociationRejected
    | AssociationEstablished
    | AssociationRevoked
    | AssociationEnded
    | OperationEnded
    | AccessDenied
    | PluginStarted
    | PluginOperationEnded
    | InstanceStored
    | InstanceRefused
    | ObjectDamaged
    | QueryAnswered
    | SearchAnswered
    | TransferStarted
    | InstancesSent
    | InstancesRead
    | RetrieveFailed
    | PerformedStepChanged
    | PrintJobChanged
    | AnalysisEnded
    | ProcedureRecordRead
    | WorkitemChanged
    | CommitmentDone
    | TrashMeasured
    | EventDelivery
    | EventBacklogMeasured
    | ForwardAttempted
    | ObjectTranscoded
    | InstancesCompressed
    | ForwardQueueMeasured
    | WingNotice
    | OrderMessageAnswered
)

#: Hears everything that happens; must not wait.
Listener = Callable[[Notice], None]


class Notices:
    """Carries notices to their listeners.

    A listener that raises is a bug of ours, and none of the peer's: it is logged, and
    neither the operation nor the other listeners notice.
    """

    __slots__ = ("_listeners", "_of_kind")

    def __init__(self, *listeners: Listener) -> None:
        self._listeners: tuple[tuple[Listener, tuple[type, ...]], ...] = ()
        #: Who hears a kind of notice, worked out when the first of it is published.
        self._of_kind: dict[type, tuple[Listener, ...]] = {}
        for listener in listeners:
            self.subscribe(listener)

    def __bool__(self) -> bool:
        """Whether anybody listens: what costs something to tell need not be told to nobody."""
        return bool(self._listeners)

    def subscribe(self, listener: Listener, kinds: Iterable[type] = (object,)) -> None:
        """*listener* hears of *kinds* of notices, by default of all."""
        self._listeners = (*self._listeners, (listener, tuple(kinds)))
        self._of_kind = {}

    def _hear(self, kind: type) -> tuple[Listener, ...]:
        found = tuple(one for one, kinds in self._listeners if issubclass(kind, kinds))
        self._of_kind[kind] = found
        return found

    def publish(self, notice: Notice) -> None:
        kind = type(notice)
        listeners = self._of_kind.get(kind)
        for listener in self._hear(kind) if listeners is None else listeners:
            try:
                listener(notice)
            except Exception:
                log.exception("a listener failed on %s", type(notice).__name__)
