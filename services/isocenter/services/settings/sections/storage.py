"""Sections of storage, transfer syntaxes and queries."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal

from isocenter.engine.fast_init import dataclass
from isocenter.services.archive.object_keys import NamingScheme
from isocenter.services.archive.ports import DuplicatePolicy, OtherPatientPolicy
from isocenter.services.archive.rejection.reasons import RejectionReason, RejectionRules
from isocenter.services.archive.validation.mark import ValidationPolicy
from isocenter.services.association.server.syntax_orders import SyntaxOrder
from isocenter.services.dicom.uids import UidRule
from isocenter.services.settings import value_types as kinds
from isocenter.services.settings.field import COUNT, MIB, setting
from isocenter.services.settings.sop_classes import SopClassKind
from isocenter.services.settings.syntax_orders import SYNTAX_ORDERS, TransferSyntaxKind

#: ``--data-dir :memory:`` keeps nothing.
IN_MEMORY: Final = ":memory:"


#: What an acknowledged object survives: power failure (synced, file and index), or
#: the end of the process only.
Durability = Literal["full", "relaxed"]
#: Of signatures that are made.
SignatureProfile = Literal["base", "creator", "authorization", "sr", "sr-verification"]
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


def _is_storage_sop_class(text: str) -> bool:
    from isocenter.services.dicom.sop_class_families import is_storage_sop_class

    return is_storage_sop_class(text)


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
        f"data directory ({IN_MEMORY}: store nothing on disk)",
        "--data-dir",
        "DIR",
        default_text="$XDG_DATA_HOME/isocenter, or ~/.local/share/isocenter",
    )
    accept: bool = setting(True, kinds.Boolean(), "accept objects from peers (C-STORE)")
    naming: NamingScheme = setting(
        NamingScheme.UID, kinds.Choice(NamingScheme), "how the folders of new objects are named"
    )
    duplicates: DuplicatePolicy = setting(
        DuplicatePolicy.IGNORE,
        kinds.Choice(DuplicatePolicy),
        "what to do with an object whose SOP Instance UID is already stored",
    )
    uids: UidRule = setting(
        UidRule.SAFE,
        kinds.Choice(UidRule),
        "which UIDs of studies, series and instances to accept: safe: any that can safely be a "
        "file name, up to 64 characters; strict: valid UIDs only, others get 0117H",
    )
    default_character_set: str = setting(
        "",
        kinds.Text("a Specific Character Set such as ISO_IR 144, or nothing", _is_character_set),
        "character set of non-ASCII text in objects and queries that declare none, or an "
        "unknown one (empty: ISO_IR 100)",
    )
    other_patient: OtherPatientPolicy = setting(
        OtherPatientPolicy.WARN,
        kinds.Choice(OtherPatientPolicy),
        "an object with another patient than earlier objects of its study: accept: store it, "
        "found under both; warn: the same, with the warning B000H; reject: refuse it",
    )
    private_sop_classes: bool = setting(
        False, kinds.Boolean(), "also store objects of private SOP classes"
    )
    specialized_sop_classes: bool = setting(
        True,
        kinds.Boolean(),
        "also store objects of an unknown SOP class, private or not, when the sender names a "
        "storage SOP class that is accepted as its general one (SOP Class Common Extended "
        "Negotiation, PS3.7 D.3.3.6)",
    )
    sop_classes: tuple[str, ...] = setting(
        (),
        kinds.ListOf(
            kinds.Text(
                "a storage SOP class by UID or keyword, or a modality such as CT",
                _is_storage_sop_class,
            )
        ),
        "storage SOP classes to accept (empty: all); others are not negotiated, and get 0122H "
        "over HTTP",
    )
    validation: ValidationPolicy = setting(
        ValidationPolicy.OFF,
        kinds.Choice(ValidationPolicy),
        "objects that are not valid by their IOD (PS3.3), where no rule says otherwise: off: "
        "nobody looks; log: store, mark and log; warn: the same, with the warning B007H; reject: "
        "refuse them (A900H)",
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
        "disk space that is kept free for the index and the audit trail; objects that would use "
        "it get A700H (of a small disk a twentieth at most)",
    )
    max_bytes: int = setting(
        0,
        kinds.Integer(MIB, 1 << 60, "bytes", zero="no limit"),
        "maximum size of all objects, including those in the trash; further objects get A700H",
    )
    trash_days: int = setting(
        7,
        kinds.Integer(1, 3_650, "days", zero="what is deleted is gone at once"),
        "how long deleted objects can be restored before they are removed for good",
    )
    correct_signed: bool = setting(
        False,
        kinds.Boolean(),
        "corrections change also what a digital signature covers, which then holds no more; "
        "otherwise such an object stays as it is, and the correction says so",
    )
    retention_rate: int = setting(
        60,
        kinds.Integer(1, 100_000, "studies"),
        "maximum number of studies that rules of retention delete in a minute",
    )
    keep_index_days: int = setting(
        30,
        kinds.Integer(1, 3_650, "days", zero="make none"),
        "how long to keep the copy of the index that is made before a newer version migrates it",
    )
    scrub_days: int = setting(
        0,
        kinds.Integer(1, 3_650, "days", zero="never"),
        "read every object once in so many days, and log damaged ones",
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
class RejectionSettings:
    """Rejection notes (IHE RAD IOCM)."""

    enabled: bool = setting(
        True,
        kinds.Boolean(),
        "obey rejection notes: Key Object Selections with the title 113001, 113037, 113038 or "
        "113039 (DCM) hide what they reference",
    )
    senders: tuple[str, ...] = setting(
        (),
        kinds.ListOf(kinds.AE_TITLE),
        "AE titles whose notes are obeyed (empty: of all that may store)",
    )
    shown: tuple[RejectionReason, ...] = setting(
        (),
        kinds.ListOf(kinds.Choice(RejectionReason)),
        "reasons for which rejected objects are still found and retrieved",
    )
    refused: tuple[RejectionReason, ...] = setting(
        (RejectionReason.PATIENT_SAFETY, RejectionReason.WORKLIST),
        kinds.ListOf(kinds.Choice(RejectionReason)),
        "reasons for which a rejected object that is sent again is refused (0124H); for other "
        "reasons it is answered with success and not stored",
    )
    accepted: tuple[RejectionReason, ...] = setting(
        (RejectionReason.RETENTION,),
        kinds.ListOf(kinds.Choice(RejectionReason)),
        "reasons for which a rejected object that is sent again is stored like any other",
    )

    def rules(self) -> RejectionRules:
        """What an archive does."""
        return RejectionRules(
            enabled=self.enabled,
            senders=frozenset(self.senders),
            shown=frozenset(self.shown),
            refused=frozenset(self.refused),
            accepted=frozenset(self.accepted),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferSyntaxSettings:
    """Transfer syntaxes that are preferred when objects are received."""

    preference: tuple[str, ...] = setting(
        (),
        kinds.ListOf(TransferSyntaxKind()),
        "transfer syntaxes to choose first, in this order, from those that a peer proposes "
        "(then explicit VR little endian, implicit VR little endian, all others)",
    )
    orders: tuple[SyntaxOrder, ...] = setting(
        (),
        SYNTAX_ORDERS,
        "the same for some SOP classes and calling AE titles, in place of that; the first that is "
        "about a presentation context holds: [[transfer_syntaxes.orders]]",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class QuerySettings:
    """Answers to C-FIND, C-MOVE and C-GET."""

    enabled: bool = setting(True, kinds.Boolean(), "answer C-FIND, C-MOVE and C-GET")
    relational: bool = setting(
        True, kinds.Boolean(), "accept relational queries if a peer negotiates them"
    )
    always_relational: bool = setting(
        False,
        kinds.Boolean(),
        "treat every peer as if it had negotiated relational queries: match keys of all levels, "
        "and require no unique keys above the level",
    )
    fuzzy_names: bool = setting(
        True,
        kinds.Boolean(),
        "accept fuzzy semantic matching of person names, by sound and in any order, if a peer "
        "negotiates it",
    )
    fold_accents: bool = setting(
        False,
        kinds.Boolean(),
        "compare person names without accents, where fuzzy matching was not negotiated",
    )
    differing: Differing = setting(
        "newest",
        kinds.one_of("newest", "first"),
        "which value responses show when objects of a patient, study or series differ: the "
        "newest, or the first",
    )
    follow_links: bool = setting(
        False,
        kinds.Boolean(),
        "answer who asks for a Patient ID also for the patients that are linked to it (isocenter "
        "link)",
    )
    n_get_sop_classes: tuple[str, ...] = setting(
        (),
        kinds.ListOf(SopClassKind()),
        "SOP classes on which N-GET is answered (empty: all that are served: performed procedure "
        "steps, workitems, printer and print jobs); on others it gets 0211H",
    )
    max_results: int = setting(
        0,
        kinds.Integer(1, 1_000_000_000, zero="no limit"),
        "maximum number of responses to one C-FIND",
    )
    page_size: int = setting(
        250,
        kinds.Integer(10, 10_000),
        "matches that a C-FIND, C-MOVE or C-GET reads from the index at once; more hold up others "
        "for longer, fewer take more turns",
    )
    max_seconds: int = setting(
        0,
        kinds.Integer(1, 86_400, "seconds", zero="no limit"),
        "how long one C-FIND of patients, studies, series or images may take; then it ends with "
        "A700H, after the matches that were found",
    )
    max_suboperations: int = setting(
        100_000, COUNT, "maximum number of instances of one C-MOVE or C-GET; more get A701H"
    )
    max_backlog: int = setting(
        500_000,
        COUNT,
        "maximum number of instances of all C-MOVE and C-GET requests together (of one worker), "
        "about 1 KiB each; further requests get A701H",
    )
    move_associations: int = setting(
        2,
        kinds.Integer(1, 64),
        "associations with one destination at once, of all workers together: for C-MOVE, "
        "forwarding, and requesting commitment when forwarding; 1 for destinations that accept "
        "only one",
    )


def _is_destination(text: str) -> bool:
    return 0 < len(text) <= 255 and text.isascii() and text.isprintable() and "/" not in text


@dataclass(frozen=True, slots=True, kw_only=True)
class SignatureSettings:
    """Whose digital signatures in objects are believed, and for whom we sign (PS3.15 Annex C)."""

    trusted: tuple[Path, ...] = setting(
        (),
        kinds.ListOf(kinds.FilePath("a file")),
        "certificates of authorities, or of signers, PEM or DER; none: only that nothing was "
        "changed is verified",
    )
    intermediates: tuple[Path, ...] = setting(
        (), kinds.ListOf(kinds.FilePath("a file")), "certificates between those and a signer"
    )
    revocation_lists: tuple[Path, ...] = setting(
        (),
        kinds.ListOf(kinds.FilePath("a file")),
        "certificate revocation lists; each signer has to be in the reach of one, if there are any",
    )
    time_stamping: tuple[Path, ...] = setting(
        (),
        kinds.ListOf(kinds.FilePath("a file")),
        "certificates of authorities of time stamps (none: signatures.trusted)",
    )
    sign_for: tuple[str, ...] = setting(
        (),
        kinds.ListOf(kinds.Text("an AE title, or a host", _is_destination)),
        "AE titles, and hosts of DICOMweb nodes, for which all that leaves is signed",
    )
    sign_key: Path | None = setting(
        None, kinds.FilePath(), "private key that signs (PEM or DER, mode 600)"
    )
    sign_key_password_file: Path | None = setting(
        None, kinds.FilePath(), "file with the password of that key"
    )
    sign_certificate: Path | None = setting(
        None, kinds.FilePath(), "certificate of that key (PEM or DER)"
    )
    sign_profile: SignatureProfile = setting(
        "base",
        kinds.one_of("base", "creator", "authorization", "sr", "sr-verification"),
        "what such a signature has to cover at least; an object that does not have it is not sent",
    )
    sign_purpose: int = setting(
        0, kinds.Integer(0, 18), "purpose of such signatures (dcmsign --list-purposes); 0: none"
    )
    accept_weak: bool = setting(
        False,
        kinds.Boolean(),
        "signatures by MD5, SHA-1 and RIPEMD-160 that hold are valid; otherwise their result is "
        "weak algorithm",
    )
