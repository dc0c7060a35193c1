"""The department: worklist and orders, steps, promises, events, and what is sent on."""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Literal

from isocenter.engine.ae import is_ae_title
from isocenter.engine.fast_init import dataclass
from isocenter.services.integration.hl7.character_sets import codec_of
from isocenter.services.net.addresses import is_network
from isocenter.services.service_classes.worklist.entry_state import EntryState
from isocenter.services.settings import value_types as kinds
from isocenter.services.settings.event_consumers import ConsumersKind, QuietKind
from isocenter.services.settings.field import seconds, setting
from isocenter.services.workflow.events.consumer import Consumer
from isocenter.services.workflow.events.study_completion import CompletionRules, Condition


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

    enabled: bool = setting(True, kinds.Switch(), "answer worklist queries")
    offer: tuple[EntryState, ...] = setting(
        (EntryState.SCHEDULED,),
        kinds.ListOf(kinds.Choice(EntryState)),
        "states of the entries that are offered to queries that do not ask for one",
    )
    discontinued: DiscontinuedSteps = setting(
        DiscontinuedSteps.SCHEDULED,
        kinds.Choice(DiscontinuedSteps),
        "what becomes of an entry whose step was discontinued",
    )
    max_results: int = setting(
        0,
        kinds.Integer(1, 1_000_000_000, zero="no limit"),
        "the most answers to one worklist query",
    )
    keep_days: int = setting(
        30,
        kinds.Integer(1, 36_500, zero="for ever"),
        "days after which completed and discontinued entries are removed",
    )
    folder: Path | None = setting(
        None,
        kinds.FilePath("a directory"),
        "its files are on the list: JSON, DICOM, *.wl and text dumps of DCMTK",
    )
    folder_seconds: float = seconds(5.0, "between two looks into that folder")


def _is_row_of_stations(text: str) -> bool:
    name, _, value = text.partition("=")
    return bool(name.strip()) and is_ae_title(value)


def _is_row_of_modalities(text: str) -> bool:
    return re.fullmatch(r"[^=]+=[A-Z0-9_]{1,16}", text, re.ASCII) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Hl7Settings:
    """Orders for the worklist: HL7 v2 messages (ORM^O01, OMI^O23, OMG^O19) over MLLP."""

    enabled: bool = setting(False, kinds.Switch(), "take HL7 orders")
    host: str = setting(
        "127.0.0.1",
        kinds.HOST,
        "where to listen for them; MLLP knows no identity, whoever reaches it can order",
    )
    senders: tuple[str, ...] = setting(
        (),
        kinds.ListOf(kinds.Text("an address or a network (10.1.0.0/16)", is_network)),
        "who may order, by address; nobody else is heard (empty: everybody)",
    )
    port: int = setting(2575, kinds.PORT, "port for HL7; 0 takes a free one")
    tls: bool = setting(
        False, kinds.Switch(), "take HL7 over TLS only, with the certificates of [tls]"
    )
    max_message_bytes: int = setting(
        1 << 20, kinds.Integer(1_024, 1 << 26, "bytes"), "the longest message of HL7"
    )
    max_connections: int = setting(
        32, kinds.Integer(1, 10_000), "connections for HL7 at once, per worker"
    )
    idle: float = seconds(3_600.0, "a connection on which no message comes")
    character_set: str = setting(
        "ASCII",
        kinds.Text("a character set of HL7 Table 0211", lambda text: codec_of(text) is not None),
        "of messages that do not say theirs in MSH-18",
    )
    processing_ids: tuple[str, ...] = setting(
        ("P",), kinds.ListOf(kinds.one_of("P", "T", "D")), "which of MSH-11 is processed"
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
        "modalities by what senders call them; * is for orders that name none",
    )
    reject_folder: Path | None = setting(
        None,
        kinds.FilePath("a directory"),
        "where refused messages are kept; they hold PHI (unset: hl7-rejected in the data "
        "directory)",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class MppsSettings:
    """Modality performed procedure steps (PS3.4 Annex F)."""

    enabled: bool = setting(True, kinds.Switch(), "take performed procedure steps")
    strict: bool = setting(
        False, kinds.Switch(), "refuse steps also for type 2 attributes that are missing"
    )
    notify: tuple[str, ...] = setting(
        (),
        kinds.ListOf(kinds.AE_TITLE),
        "peers that are told of each change by N-EVENT-REPORT; they have to be among the peers",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitmentSettings:
    """Storage commitment (PS3.4 Annex J)."""

    enabled: bool = setting(True, kinds.Switch(), "promise to keep what is stored, when asked")
    checksums: bool = setting(
        True, kinds.Switch(), "read each file again and compare its checksum before the promise"
    )
    readers: int = setting(
        2, kinds.Integer(1, 64), "files that are read for that at once, per worker"
    )
    same_association: bool = setting(
        True,
        kinds.Switch(),
        "report the outcome on the association that asked while it is open; "
        "false for peers that cannot take it there",
    )
    longest_retry: float = seconds(
        900.0, "between two attempts to report the outcome, at the most; the first come sooner"
    )
    give_up_after: float = setting(
        7 * 86_400.0, kinds.Seconds(365 * 86_400.0), "until a report is given up"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class EventSettings:
    """What other programs are told, and when a study is complete."""

    enabled: bool = setting(True, kinds.Switch(), "write events, and judge studies")
    include_patient: bool = setting(
        False, kinds.Switch(), "put patient ID, name and birth date into events of studies"
    )
    keep_days: int = setting(
        7, kinds.Integer(1, 3_650, "days"), "how long events are kept that every consumer has got"
    )
    complete_by: tuple[Condition, ...] = setting(
        tuple(Condition), kinds.ListOf(kinds.Choice(Condition)), "what makes a study complete"
    )
    quiet_seconds: float = seconds(60.0, "without a new object, then a study is complete")
    quiet_by_modality: Mapping[str, float] = setting(
        dict, QuietKind(), "the same for studies with objects of these modalities"
    )
    settle_seconds: float = seconds(
        5.0, "the same once MPPS or storage commitment say that all of the study is here"
    )
    longest_wait_seconds: float = setting(
        86_400.0,
        kinds.Seconds(30 * 86_400.0),
        "the same for a study whose MPPS is still in progress, or that nothing else ends",
    )
    consumers: tuple[Consumer, ...] = setting(
        (), ConsumersKind(), "who gets events: webhooks, commands, Python functions"
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
class ForwardingSettings:
    """Sending on what rules queue (``[[rules]]`` with ``forward``)."""

    associations: int = setting(
        2,
        kinds.Integer(1, 64),
        "associations with one destination at once, of one worker; all of them together have "
        "`query.move_associations`",
    )
    batch: int = setting(
        100, kinds.Integer(1, 10_000), "objects that are taken out of the queue at once"
    )
    warnings: Literal["retry", "accept"] = setting(
        "retry",
        kinds.one_of("retry", "accept"),
        "an object that the destination took with a warning (Bxxx): retry sends it again, and "
        "gives up in the end; accept takes it for sent",
    )
    first_retry: float = seconds(
        5.0, "until the second attempt; each later one waits twice as long"
    )
    longest_retry: float = seconds(900.0, "between two attempts, at the most")
    give_up_after: float = setting(
        3 * 86_400.0, kinds.Seconds(365 * 86_400.0), "until an object is given up: a dead letter"
    )
    commit_wait: float = seconds(
        3_600.0, "for a report of storage commitment; then it is asked for once more"
    )
    delete_promised: bool = setting(
        False,
        kinds.Switch(),
        "delete (delete_after) also what this archive has promised others to keep by storage "
        "commitment: the destination keeps it in its place",
    )
    keep_days: int = setting(
        7, kinds.Integer(1, 3_650, "days"), "how long the queue remembers what was done"
    )
