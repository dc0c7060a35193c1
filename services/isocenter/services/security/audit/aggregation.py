"""Aggregation of audit messages: instances of a study, repeated alerts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import field
from typing import Final

from isocenter.engine.fast_init import dataclass
from isocenter.services.notices import Caller, InstancesRead, InstanceStored
from isocenter.services.security.audit.alert_messages import repeated
from isocenter.services.security.audit.message_builder import instances_read, instances_received
from isocenter.services.security.audit.messages import Action, AuditMessage
from isocenter.services.security.audit.participants import ActiveProcess, Patient, host_of

#: Instances after which their message is not put off any longer.
MOST_INSTANCES: Final = 1_000
#: Nothing more came for a study.
QUIET_SECONDS: Final = 10.0
#: And however much comes: what is gathered is lost when the process is killed.
LONGEST_SECONDS: Final = 60.0
#: Studies under way at once; beyond, the one that is the oldest is told.
MOST_GROUPS: Final = 4_096

_ACTIONS: Final = {
    "stored": Action.CREATE,
    "quarantined": Action.CREATE,
    "replaced": Action.UPDATE,
}


@dataclass(slots=True)
class _Group:
    caller: Caller
    action: Action
    study: str
    patient: Patient
    began: float
    last: float
    sop_classes: Counter[str] = field(default_factory=Counter)
    count: int = 0


class ReceivedInstances:
    """Stored instances by association, study and what became of them."""

    def __init__(self, here: ActiveProcess, tell: Callable[[AuditMessage], None]) -> None:
        self._here = here
        self._record = tell
        self._groups: dict[tuple[str, str, Action, str], _Group] = {}

    def add(self, stored: InstanceStored, now: float) -> None:
        """One more instance."""
        # What the archive had already, or did not take, it has only read.
        action = _ACTIONS.get(stored.outcome, Action.READ)
        caller = stored.caller
        key = (caller.association, stored.study_instance_uid, action, stored.patient_id)
        group = self._groups.get(key)
        if group is None:
            if len(self._groups) >= MOST_GROUPS:
                self._end([next(iter(self._groups))])
            group = self._groups[key] = _Group(
                caller=caller,
                action=action,
                study=stored.study_instance_uid,
                patient=Patient(stored.patient_id, stored.patient_name),
                began=now,
                last=now,
            )
        group.last = now
        group.sop_classes[stored.sop_class_uid] += 1
        group.count += 1
        if group.count >= MOST_INSTANCES:
            self._end([key])

    def end(self, association: str) -> None:
        """It is over: tell what came with it."""
        self._end([key for key in self._groups if key[0] == association])

    def tick(self, now: float) -> None:
        """Tell what has waited long enough."""
        self._end(
            [
                key
                for key, group in self._groups.items()
                if now - group.last >= QUIET_SECONDS or now - group.began >= LONGEST_SECONDS
            ]
        )

    def flush(self) -> None:
        """Tell everything."""
        self._end(list(self._groups))

    def _end(self, keys: Iterable[tuple[str, str, Action, str]]) -> None:
        for key in keys:
            group = self._groups.pop(key)
            self._record(
                instances_received(
                    self._here,
                    group.caller,
                    group.action,
                    group.study,
                    group.sop_classes,
                    group.patient,
                )
            )


@dataclass(slots=True)
class ReadGroup:
    """What one caller got of one study: instances by SOP class, each counted once."""

    caller: Caller
    study: str
    is_whole: bool
    began: float
    last: float
    uids: set[str] = field(default_factory=set)
    sop_classes: Counter[str] = field(default_factory=Counter)

    @property
    def studies(self) -> tuple[str, ...]:
        return (self.study,)

    def message(self, here: ActiveProcess, patient: Patient) -> AuditMessage:
        return instances_read(
            here, self.caller, self.study, self.sop_classes, patient, is_whole=self.is_whole
        )


class ReadInstances:
    """What was read over HTTP, by caller and study: a viewer asks for a thousand frames, one by
    one, and one message tells of them.

    Args:
        tell: told of each group when it is over.
    """

    def __init__(self, tell: Callable[[ReadGroup], None]) -> None:
        self._tell = tell
        self._groups: dict[tuple[str, str, str, str, bool], ReadGroup] = {}

    def add(self, read: InstancesRead, now: float) -> None:
        """Some more."""
        caller = read.caller
        host = host_of(caller.address)
        key = (host, caller.user, caller.certificate, read.study_instance_uid, read.is_whole)
        group = self._groups.get(key)
        if group is None:
            if len(self._groups) >= MOST_GROUPS:
                self._end([next(iter(self._groups))])
            group = self._groups[key] = ReadGroup(
                caller=caller,
                study=read.study_instance_uid,
                is_whole=read.is_whole,
                began=now,
                last=now,
            )
        group.last = now
        new = read.sop_instance_uids - group.uids
        group.uids |= new
        if len(new) == len(read.sop_instance_uids):
            group.sop_classes.update(read.sop_classes)
        elif new and len(read.sop_classes) == 1:
            group.sop_classes[next(iter(read.sop_classes))] += len(new)
        elif new:
            group.sop_classes[""] += len(new)  # of which classes they are is not worth more
        if len(group.uids) >= MOST_INSTANCES:
            self._end([key])

    def tick(self, now: float) -> None:
        """Tell what has waited long enough."""
        self._end(
            [
                key
                for key, group in self._groups.items()
                if now - group.last >= QUIET_SECONDS or now - group.began >= LONGEST_SECONDS
            ]
        )

    def flush(self) -> None:
        """Tell everything."""
        self._end(list(self._groups))

    def _end(self, keys: Iterable[tuple[str, str, str, str, bool]]) -> None:
        for key in keys:
            self._tell(self._groups.pop(key))


#: Alerts of one kind from one address: the first at once, those that follow within so long as one.
ALERT_SECONDS: Final = 60.0
#: Addresses that are told apart; strangers can have any number.
MOST_ADDRESSES: Final = 1_024
#: All the others.
OTHERS: Final = "others"


@dataclass(slots=True)
class _Repeat:
    message: AuditMessage
    until: float
    count: int = 0


class RepeatedAlerts:
    """Lets the first alert of a kind and address pass, and counts those that follow: a stranger
    who connects ten thousand times a minute fills no disk."""

    def __init__(self, tell: Callable[[AuditMessage], None]) -> None:
        self._record = tell
        self._repeats: dict[tuple[str, str], _Repeat] = {}

    def add(self, message: AuditMessage, kind: str, address: str, now: float) -> None:
        key = kind, address
        if key not in self._repeats and len(self._repeats) >= MOST_ADDRESSES:
            key = "", OTHERS
        repeat = self._repeats.get(key)
        if repeat is None:
            self._repeats[key] = _Repeat(message, now + ALERT_SECONDS)
            self._record(message)
        else:
            repeat.count += 1

    def tick(self, now: float) -> None:
        """Tell of those that came again."""
        self._end([key for key, repeat in self._repeats.items() if repeat.until <= now])

    def flush(self) -> None:
        """Tell everything."""
        self._end(list(self._repeats))

    def _end(self, keys: Iterable[tuple[str, str]]) -> None:
        for key in keys:
            repeat = self._repeats.pop(key)
            if repeat.count:
                node = OTHERS if key[1] == OTHERS else ""
                self._record(repeated(repeat.message, repeat.count, node))
