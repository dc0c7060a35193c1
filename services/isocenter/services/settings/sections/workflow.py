"""Sections of worklist, orders, procedure steps, commitment, events and forwarding."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Literal

from isocenter.engine.ae import is_ae_title
from isocenter.engine.fast_init import dataclass
from isocenter.services.integration.hl7.character_sets import codec_of
from isocenter.services.net.addresses import is_network
from isocenter.services.service_classes.ups.follow_ups import FollowUp
from isocenter.services.service_classes.worklist.entry import EntryState
from isocenter.services.settings import value_types as kinds
from isocenter.services.settings.event_consumers import ConsumersKind, QuietKind
from isocenter.services.settings.field import seconds, setting
from isocenter.services.settings.follow_ups import FOLLOW_UPS
from isocenter.services.workflow.events.consumer import Consumer
from isocenter.services.workflow.events.study_completion import CompletionRules, Condition
from isocenter.services.workflow.nodes.node import is_node_name


class DiscontinuedSteps(Enum):
    """What a scheduled step becomes when it was begun and then discontinued."""

    #: It stays to be done, and is offered again.
    SCHEDULED = "scheduled"
    #: It leaves the worklist; whoever ordered it says what follows.
    CLOSED = "closed"

    @property
    def state(self) -> EntryState:
        """Of the entry."""
        return EntryState.SCHEDULED if self is self.SCHEDULED else EntryState.DISCONTINUED


@dataclass(frozen=True, slots=True, kw_only=True)
class WorklistSettings:
    """Modality worklist (PS3.4 Annex K)."""

    enabled: bool = setting(True, kinds.Boolean(), "answer worklist queries")
    offer: tuple[EntryState, ...] = setting(
        (EntryState.SCHEDULED,),
        kinds.ListOf(kinds.Choice(EntryState)),
        "states of entries to offer to queries that do not ask for a state",
    )
    discontinued: DiscontinuedSteps = setting(
        DiscontinuedSteps.SCHEDULED,
        kinds.Choice(DiscontinuedSteps),
        "state of an entry whose step was discontinued",
    )
    max_results: int = setting(
        0,
        kinds.Integer(1, 1_000_000_000, zero="no limit"),
        "maximum number of responses to one worklist query",
    )
    keep_days: int = setting(
        30,
        kinds.Integer(1, 36_500, zero="for ever"),
        "days after which completed and discontinued entries are removed",
    )
    folder: Path | None = setting(
        None,
        kinds.FilePath("a directory"),
        "folder whose files are worklist entries: JSON, DICOM, *.wl and text dumps of DCMTK",
    )
    folder_seconds: float = seconds(5.0, "interval between two scans of that folder")


def _is_row_of_stations(text: str) -> bool:
    name, _, value = text.partition("=")
    return bool(name.strip()) and is_ae_title(value)


def _is_modality_or_any(text: str) -> bool:
    return re.fullmatch(r"\*|[A-Z0-9_]{1,16}", text, re.ASCII) is not None


def _is_row_of_modalities(text: str) -> bool:
    return re.fullmatch(r"[^=]+=[A-Z0-9_]{1,16}", text, re.ASCII) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Hl7Settings:
    """Orders for the worklist: HL7 v2 messages (ORM^O01, OMI^O23, OMG^O19) over MLLP."""

    enabled: bool = setting(False, kinds.Boolean(), "accept HL7 orders")
    host: str = setting(
        "127.0.0.1",
        kinds.HOST,
        "address to listen on for HL7; MLLP has no authentication, everybody who can connect "
        "can order",
    )
    senders: tuple[str, ...] = setting(
        (),
        kinds.ListOf(kinds.Text("an address or a network (10.1.0.0/16)", is_network)),
        "addresses and networks that may send orders; others are rejected (empty: all may)",
    )
    port: int = setting(2575, kinds.PORT, "port for HL7; 0 takes a free one")
    tls: bool = setting(
        False, kinds.Boolean(), "accept HL7 over TLS only, with the certificates of [tls]"
    )
    max_message_bytes: int = setting(
        1 << 20, kinds.Integer(1_024, 1 << 26, "bytes"), "maximum length of an HL7 message"
    )
    max_connections: int = setting(
        32, kinds.Integer(1, 10_000), "HL7 connections at once, of each worker"
    )
    idle: float = seconds(3_600.0, "time without a message after which a connection is closed")
    character_set: str = setting(
        "ASCII",
        kinds.Text("a character set of HL7 Table 0211", lambda text: codec_of(text) is not None),
        "character set of messages without MSH-18",
    )
    processing_ids: tuple[str, ...] = setting(
        ("P",),
        kinds.ListOf(kinds.one_of("P", "T", "D")),
        "processing IDs (MSH-11) that are accepted",
    )
    patients: bool = setting(
        False,
        kinds.Boolean(),
        "also take messages about patients (ADT): they correct, merge and link the patients of "
        "the archive; whoever can connect can do that",
    )
    unknown_patients: Literal["accept", "refuse"] = setting(
        "accept",
        kinds.one_of("accept", "refuse"),
        "an ADT message about a patient of whom the archive has nothing: accept it (AA), or "
        "refuse it (AE)",
    )
    stations: tuple[str, ...] = setting(
        (),
        kinds.ListOf(kinds.Text("NAME=AET", _is_row_of_stations)),
        "AE titles for orders that name none: NAME is a station name, a location or a modality "
        "of the order, or * for all others",
    )
    modalities: tuple[str, ...] = setting(
        ("NMR=MR", "RUS=US", "NMS=NM"),
        kinds.ListOf(kinds.Text("NAME=MODALITY", _is_row_of_modalities)),
        "modality by the name that senders use; * is for orders without one",
    )
    reject_folder: Path | None = setting(
        None,
        kinds.FilePath("a directory"),
        "folder in which refused messages are saved; they contain patient data (unset: "
        "hl7-rejected in the data directory)",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class MppsSettings:
    """Modality performed procedure steps (PS3.4 Annex F)."""

    enabled: bool = setting(True, kinds.Boolean(), "accept performed procedure steps")
    strict: bool = setting(False, kinds.Boolean(), "refuse steps without type 2 attributes, too")
    notify: tuple[str, ...] = setting(
        (),
        kinds.ListOf(kinds.AE_TITLE),
        "peers that are notified of each change by N-EVENT-REPORT; they must be in [[peers]]",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class UpsSettings:
    """Unified procedure steps (PS3.4 Annex CC)."""

    enabled: bool = setting(True, kinds.Boolean(), "keep workitems, and tell subscribers of them")
    strict: bool = setting(
        False, kinds.Boolean(), "refuse workitems without type 2 attributes, too"
    )
    max_results: int = setting(
        0,
        kinds.Integer(1, 1_000_000_000, zero="no limit"),
        "maximum number of responses to one search for workitems",
    )
    from_worklist: tuple[str, ...] = setting(
        (),
        kinds.ListOf(kinds.Text("a modality, or * for all", _is_modality_or_any)),
        "modalities whose orders in the worklist become workitems",
    )
    follow_ups: tuple[FollowUp, ...] = setting(
        (), FOLLOW_UPS, "workitems that completed ones make: [[ups.follow_ups]]"
    )
    deletion_locks: bool = setting(
        True, kinds.Boolean(), "let subscribers keep workitems from being removed"
    )
    keep_days: int = setting(
        30,
        kinds.Integer(1, 36_500, zero="for ever"),
        "days after which completed and cancelled workitems are removed",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitmentSettings:
    """Storage commitment (PS3.4 Annex J)."""

    enabled: bool = setting(True, kinds.Boolean(), "accept requests for storage commitment")
    checksums: bool = setting(
        True,
        kinds.Boolean(),
        "read each file again and compare its checksum before it is committed",
    )
    readers: int = setting(2, kinds.Integer(1, 64), "files that each worker reads for that at once")
    same_association: bool = setting(
        True,
        kinds.Boolean(),
        "report the result on the requesting association while it is open; false for peers that "
        "cannot receive it there",
    )
    longest_retry: float = seconds(
        900.0, "longest interval between two attempts to report the result; the first are shorter"
    )
    give_up_after: float = setting(
        7 * 86_400.0, kinds.Seconds(365 * 86_400.0), "time until a report is given up"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class EventSettings:
    """Events for other programs, and when a study is complete."""

    enabled: bool = setting(True, kinds.Boolean(), "write events, and detect complete studies")
    include_patient: bool = setting(
        False, kinds.Boolean(), "include patient ID, name and birth date in events of studies"
    )
    keep_days: int = setting(
        7,
        kinds.Integer(1, 3_650, "days"),
        "how long events are kept after every consumer has received them",
    )
    complete_by: tuple[Condition, ...] = setting(
        tuple(Condition), kinds.ListOf(kinds.Choice(Condition)), "which signs make a study complete"
    )
    quiet_seconds: float = seconds(
        60.0, "time without a new object after which a study is complete"
    )
    quiet_by_modality: Mapping[str, float] = setting(
        dict, QuietKind(), "the same for studies with objects of these modalities"
    )
    settle_seconds: float = seconds(
        5.0, "the same, when MPPS or storage commitment show that the whole study has arrived"
    )
    longest_wait_seconds: float = setting(
        86_400.0,
        kinds.Seconds(30 * 86_400.0),
        "the same, for a study whose MPPS is still in progress, or that no other sign completes",
    )
    consumers: tuple[Consumer, ...] = setting(
        (), ConsumersKind(), "consumers of events: webhooks, commands, Python functions, peers"
    )

    def rules(self) -> CompletionRules:
        """When a study is complete."""
        return CompletionRules(
            complete_by=frozenset(self.complete_by),
            quiet_seconds=self.quiet_seconds,
            quiet_by_modality=self.quiet_by_modality,
            settle_seconds=self.settle_seconds,
            longest_wait_seconds=self.longest_wait_seconds,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSettings:
    """Remote nodes, and jobs that retrieve from them and send to them."""

    enabled: bool = setting(
        True, kinds.Boolean(), "work off what `isocenter retrieve` and `isocenter send` ask for"
    )
    at_once: int = setting(
        4, kinds.Integer(1, 64), "jobs that one process of a server works on at once"
    )
    at_once_per_node: int = setting(
        1, kinds.Integer(1, 64), "of those, jobs with the same remote node"
    )
    first_retry: float = seconds(
        60.0, "interval before the second attempt of a job; each later one is twice as long"
    )
    longest_retry: float = seconds(3_600.0, "longest interval between two attempts")
    give_up_after: float = setting(
        86_400.0, kinds.Seconds(365 * 86_400.0), "time until a job is given up"
    )
    keep_days: int = setting(
        30, kinds.Integer(1, 36_500), "days for which jobs are listed after their end"
    )
    export_folder: Path | None = setting(
        None,
        kinds.FilePath("a directory"),
        "folder in which export jobs make a folder each; they write nowhere else (unset: there are "
        "no export jobs)",
    )
    import_folders: tuple[Path, ...] = setting(
        (),
        kinds.ListOf(kinds.FilePath("a directory")),
        "folders that import jobs may take files from, with what is below them; they read nowhere "
        "else (empty: there are no import jobs)",
    )
    verify_nodes_every: int = setting(
        300,
        kinds.Integer(10, 86_400, "seconds", zero="never"),
        "interval at which remote nodes are verified (C-ECHO, QIDO-RS); one that fails less often",
    )


def _is_program(text: str) -> bool:
    name, _, command = text.partition("=")
    try:
        argv = shlex.split(command)
    except ValueError:
        return False
    return re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", name) is not None and bool(argv)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleSettings:
    """Tasks with a schedule: cleanup, verification, programs (`isocenter task`)."""

    enabled: bool = setting(True, kinds.Boolean(), "run tasks when they are due")
    time_zone: str = setting(
        "UTC",
        kinds.Text("a name of the IANA time zone database, like Europe/Berlin", kinds.is_time_zone),
        "time zone of tasks that name none",
    )
    at_once: int = setting(
        4, kinds.Integer(1, 64), "tasks that one process of a server runs at once"
    )
    keep_days: int = setting(
        90, kinds.Integer(1, 36_500), "days for which runs of tasks are listed"
    )
    programs: tuple[str, ...] = setting(
        (),
        kinds.ListOf(kinds.Text("NAME=COMMAND with its arguments", _is_program)),
        "programs that tasks may run; they are started without a shell, as the user of the server",
    )

    def argv_of(self, name: str) -> list[str] | None:
        """A program by its name; None: there is none."""
        for text in self.programs:
            known, _, command = text.partition("=")
            if known == name:
                return shlex.split(command)
        return None


def _is_modality(text: str) -> bool:
    return re.fullmatch(r"[A-Z0-9_]{1,16}", text, re.ASCII) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefetchSettings:
    """Earlier studies of patients on the worklist, retrieved from remote nodes before they come."""

    nodes: tuple[str, ...] = setting(
        (),
        kinds.ListOf(kinds.Text("the name of a remote node", is_node_name)),
        "names of the remote nodes that are asked; none: nothing is prefetched",
    )
    days_ahead: int = setting(
        1, kinds.Integer(0, 365), "days of the worklist after today that are looked at"
    )
    every: float = seconds(300.0, "interval at which the worklist is looked at")
    look_back_days: int = setting(
        5 * 365, kinds.Integer(1, 36_500), "age of the oldest study that is wanted"
    )
    most_studies: int = setting(
        3, kinds.Integer(1, 100), "studies that are retrieved for one scheduled step"
    )
    same_modality_only: bool = setting(
        False, kinds.Boolean(), "only studies of the modality that is scheduled"
    )
    modalities: tuple[str, ...] = setting(
        (),
        kinds.ListOf(kinds.Text("a modality, like CT", _is_modality)),
        "only studies that have one of these (empty: any)",
    )
    not_modalities: tuple[str, ...] = setting(
        (),
        kinds.ListOf(kinds.Text("a modality, like SR", _is_modality)),
        "no studies that have nothing but these",
    )
    most_per_minute: int = setting(
        0,
        kinds.Integer(1, 10_000, zero="no limit"),
        "studies that are asked of one node in a minute",
    )
    pause: float = seconds(1.0, "interval between two questions to nodes")


@dataclass(frozen=True, slots=True, kw_only=True)
class ForwardingSettings:
    """Forwarding of objects by rules (``[[rules]]`` with ``forward``)."""

    associations: int = setting(
        2,
        kinds.Integer(1, 64),
        "associations with one destination at once, of one worker; all of them together have "
        "`query.move_associations`",
    )
    batch: int = setting(100, kinds.Integer(1, 10_000), "objects that are sent in one batch")
    warnings: Literal["retry", "accept"] = setting(
        "retry",
        kinds.one_of("retry", "accept"),
        "an object that the destination answered with a warning (Bxxx): retry: send it again, "
        "and finally give up; accept: treat it as sent",
    )
    first_retry: float = seconds(
        5.0, "interval before the second attempt; each later one is twice as long"
    )
    longest_retry: float = seconds(900.0, "longest interval between two attempts")
    give_up_after: float = setting(
        3 * 86_400.0,
        kinds.Seconds(365 * 86_400.0),
        "time until an object is given up (dead letter)",
    )
    commit_wait: float = seconds(
        3_600.0,
        "how long to wait for a storage commitment report before commitment is requested again",
    )
    delete_promised: bool = setting(
        False,
        kinds.Boolean(),
        "let delete_after also delete objects that this archive has committed to others, as the "
        "destination has committed them",
    )
    keep_days: int = setting(
        7, kinds.Integer(1, 3_650, "days"), "how long finished records stay in the queue"
    )
