"""How objects come in, where they are kept, and how they are asked for."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal

from isocenter.engine.fast_init import dataclass
from isocenter.services.archive.object_keys import NamingScheme
from isocenter.services.archive.ports import DuplicatePolicy, OtherPatientPolicy
from isocenter.services.dicom.uids import UidRule
from isocenter.services.settings import value_types as kinds
from isocenter.services.settings.field import COUNT, MIB, setting

#: ``--data-dir :memory:`` keeps nothing.
IN_MEMORY: Final = ":memory:"


#: What an acknowledged object survives: power failure (synced, file and index), or
#: the end of the process only.
Durability = Literal["full", "relaxed"]
#: What happens to File Meta Information that a sender has left at the head of a data set.
MetaInDataSet = Literal["drop", "refuse"]


#: Which of the things that objects say of one patient, study or series is shown.
Differing = Literal["newest", "first"]


def default_data_dir(environ: Mapping[str, str] | None = None) -> Path:
    """Where the archive lies when nobody says: ``$XDG_DATA_HOME/isocenter``, by default
    ``~/.local/share/isocenter``; on Windows ``%LOCALAPPDATA%\\isocenter``."""
    environ = os.environ if environ is None else environ
    base = environ.get("LOCALAPPDATA" if os.name == "nt" else "XDG_DATA_HOME", "")
    if base and Path(base).is_absolute():
        return Path(base) / "isocenter"
    try:
        return Path("~/.local/share/isocenter").expanduser()
    except RuntimeError:  # no home directory, as for some service users
        return Path("isocenter-data").absolute()


def _is_character_set(text: str) -> bool:
    if not text:
        return True
    from isocenter.services.dicom.element_values import (
        is_character_set,  # takes long, and few need it
    )

    return is_character_set(text)


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageSettings:
    """Where objects are kept, and how."""

    data_dir: Path = setting(
        default_data_dir,
        kinds.FilePath(f"a directory, or {IN_MEMORY}"),
        f"where everything is kept ({IN_MEMORY}: nowhere)",
        "--data-dir",
        "DIR",
        default_text="$XDG_DATA_HOME/isocenter, or ~/.local/share/isocenter",
    )
    accept: bool = setting(True, kinds.Switch(), "take objects from peers (C-STORE)")
    naming: NamingScheme = setting(
        NamingScheme.UID, kinds.Choice(NamingScheme), "how the folders of new objects are named"
    )
    duplicates: DuplicatePolicy = setting(
        DuplicatePolicy.IGNORE,
        kinds.Choice(DuplicatePolicy),
        "what to do with an object whose SOP Instance UID is there already",
    )
    uids: UidRule = setting(
        UidRule.SAFE,
        kinds.Choice(UidRule),
        "which UIDs of studies, series and instances to take: safe: whatever can be a name, up to "
        "64 characters; strict: numbers with dots between them, others get 0117H",
    )
    default_character_set: str = setting(
        "",
        kinds.Text("a Specific Character Set such as ISO_IR 144, or nothing", _is_character_set),
        "what objects and queries mean by more than ASCII when they declare no character set, or "
        "one that nobody knows (nothing: ISO_IR 100)",
    )
    other_patient: OtherPatientPolicy = setting(
        OtherPatientPolicy.WARN,
        kinds.Choice(OtherPatientPolicy),
        "an object that names another patient than its study came with: keep it, found under "
        "both; warn: and answer B000H; reject: refuse it",
    )
    private_sop_classes: bool = setting(
        False, kinds.Switch(), "store objects of SOP classes that are not DICOM's own, too"
    )
    meta_in_data_set: MetaInDataSet = setting(
        "drop",
        kinds.one_of("drop", "refuse"),
        "File Meta Information (group 0002) at the head of a data set: drop it and answer "
        "B000H, or refuse the object",
    )
    durability: Durability = setting(
        "full",
        kinds.one_of("full", "relaxed"),
        "full: an acknowledged object survives power failure; relaxed: it may not",
        "--durability",
        "full|relaxed",
    )
    reserve: int = setting(
        256 * MIB,
        kinds.Integer(1, 1 << 50, "bytes", zero="none"),
        "so much of the disk stays free for the index and the audit trail: objects get A700H "
        "before it is taken (of a small disk a twentieth at most)",
    )
    max_bytes: int = setting(
        0,
        kinds.Integer(MIB, 1 << 60, "bytes", zero="no limit"),
        "all objects together, those in the trash with them; what goes beyond gets A700H",
    )
    trash_days: int = setting(
        7,
        kinds.Integer(1, 3_650, "days", zero="what is deleted is gone at once"),
        "for so long what was deleted can be restored; then it is removed for good",
    )
    retention_rate: int = setting(
        60,
        kinds.Integer(1, 100_000, "studies"),
        "so many studies are deleted by rules of retention in a minute at most",
    )
    keep_index_days: int = setting(
        30,
        kinds.Integer(1, 3_650, "days", zero="make none"),
        "before a newer version migrates the index it is copied to index-copies; how long the copy "
        "stays",
    )
    scrub_days: int = setting(
        0,
        kinds.Integer(1, 3_650, "days", zero="never"),
        "read everything once in so many days, and name in the log what a disk has lost",
    )

    @property
    def undeclared(self) -> tuple[str, ...]:
        """The character set of text for which none is declared; empty: ISO_IR 100."""
        if not self.default_character_set:
            return ()
        from isocenter.services.dicom.element_values import (
            character_set_of,  # takes long, and few need it
        )

        return character_set_of(self.default_character_set.encode())

    @property
    def is_in_memory(self) -> bool:
        """Whether nothing is kept."""
        return str(self.data_dir) == IN_MEMORY


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferSyntaxSettings:
    """How objects come in."""

    preference: tuple[str, ...] = setting(
        (),
        kinds.ListOf(kinds.UID),
        "transfer syntaxes to choose first, in this order, among those that a peer proposes "
        "(then explicit VR little endian, implicit VR little endian, all others)",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class QuerySettings:
    """Answers to C-FIND, C-MOVE and C-GET."""

    enabled: bool = setting(True, kinds.Switch(), "answer C-FIND, C-MOVE and C-GET")
    relational: bool = setting(
        True, kinds.Switch(), "accept relational queries where a peer negotiates them"
    )
    always_relational: bool = setting(
        False,
        kinds.Switch(),
        "match keys of all levels, and do without the unique keys above the level, also where a "
        "peer did not negotiate it",
    )
    differing: Differing = setting(
        "newest",
        kinds.one_of("newest", "first"),
        "what answers show of a patient, study or series whose objects say different things: what "
        "was said last, or first",
    )
    max_results: int = setting(
        0, kinds.Integer(1, 1_000_000_000, zero="no limit"), "the most answers to one C-FIND"
    )
    max_suboperations: int = setting(
        100_000, COUNT, "the most instances of one C-MOVE or C-GET; more get A701H"
    )
    max_backlog: int = setting(
        500_000,
        COUNT,
        "the most instances of all C-MOVE and C-GET requests together (of one worker), about 1 KiB "
        "each; what goes beyond gets A701H",
    )
    move_associations: int = setting(
        2,
        kinds.Integer(1, 64),
        "associations with one destination that are requested at once, by all workers together: "
        "for C-MOVE, for forwarding and for its requests for commitment; 1 for a destination that "
        "takes one only",
    )
