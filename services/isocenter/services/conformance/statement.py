"""Contents of the conformance statement, in the order of PS3.2.

Contexts, roles, syntaxes and statuses come from the registry and the tables that the
server runs on; so the statement cannot say what the server does not do.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

from isocenter.engine.dimse.status import ServiceClass, describe_status
from isocenter.engine.extended_negotiation import (
    ElementCoercion,
    FindFlags,
    RetrieveFlags,
    StorageSupport,
)
from isocenter.engine.negotiation import Offer
from isocenter.engine.uid import (
    APPLICATION_CONTEXT,
    IMPLEMENTATION_CLASS_UID,
    IMPLEMENTATION_VERSION_NAME,
    VERIFICATION,
)
from isocenter.services.archive.index.attributes import ATTRIBUTES, Level
from isocenter.services.archive.rules.evaluation import Rules
from isocenter.services.association.service_registry import (
    COMMON_STATUSES,
    NamesSopClasses,
    ServiceRegistry,
    Statuses,
)
from isocenter.services.conformance.web_services import web_services
from isocenter.services.dicom.character_sets import TERMS
from isocenter.services.dicom.data_dictionary import dictionary_vr, keyword_for_tag
from isocenter.services.dicom.pixels.transfer_syntaxes import PIXEL_SYNTAXES
from isocenter.services.dicom.pydicom_tables import UIDS
from isocenter.services.dicom.uid_registry import DICOM_ROOT, STORAGE_SOP_CLASSES, name_of
from isocenter.services.net.http.routing import Route
from isocenter.services.service_classes.availability.scu import INSTANCE_AVAILABILITY_NOTIFICATION
from isocenter.services.service_classes.commitment.transaction import STORAGE_COMMITMENT
from isocenter.services.service_classes.mpps.performed_step import (
    MPPS,
    MPPS_NOTIFICATION,
    MPPS_RETRIEVE,
)
from isocenter.services.service_classes.query_retrieve.information_models import (
    FIND_ROOTS,
    GET_ROOTS,
    MOVE_ROOTS,
)
from isocenter.services.service_classes.worklist.entry import (
    ACCESSION_NUMBER,
    MODALITY_WORKLIST_FIND,
    NEEDS,
    STEP_NEEDS,
)
from isocenter.services.service_classes.worklist.query_keys import STEP_STATUS
from isocenter.services.settings.settings import Settings
from isocenter.services.viewing.key_object_documents import KEY_OBJECT_SELECTION
from isocenter.services.viewing.measurement_reports import COMPREHENSIVE_SR
from isocenter.services.viewing.presentation_states import COLOUR, GRAYSCALE
from isocenter.services.web.description.document import Block, Heading, Paragraph, Table
from isocenter.services.workflow.events.consumer import Availability

_SOP_CLASSES: Final = ("SOP Class", "Meta SOP Class")
#: By `Service.name`: whose words its statuses are read in; others in those of PS3.7 Annex C.
_WORDS: Final = {
    "verification": ServiceClass.VERIFICATION,
    "storage": ServiceClass.STORAGE,
    "query": ServiceClass.FIND,
    "get": ServiceClass.GET,
    "move": ServiceClass.MOVE,
    "worklist": ServiceClass.WORKLIST,
}
_LEVELS: Final = (Level.PATIENT, Level.STUDY, Level.SERIES, Level.IMAGE)
#: As SCU, without a service to ask: C-MOVE and forwarding store, `isocenter echoscu` verifies.
_AS_SCU: Final = frozenset(
    {
        VERIFICATION,
        MODALITY_WORKLIST_FIND,
        MPPS,
        MPPS_RETRIEVE,
        STORAGE_COMMITMENT,
        *STORAGE_SOP_CLASSES,
        *FIND_ROOTS,
        *GET_ROOTS,
        *MOVE_ROOTS,
    }
)


#: SOP classes of which the web services create objects, and of what.
_CREATED: Final = (
    (GRAYSCALE, "annotations of gray images"),
    (COLOUR, "annotations of images in colour"),
    (COMPREHENSIVE_SR, "measurements (TID 1500)"),
    (KEY_OBJECT_SELECTION, "key images (TID 2010)"),
)
#: Stands for every private SOP class that nobody names; a UID that is nobody's (PS3.5 B.2).
ANY_PRIVATE: Final = "2.25.0"


class PluginRow(NamedTuple):
    """A SOP class that a plug-in serves."""

    plugin: str
    distribution: str
    sop_class: str
    uid: str
    operations: str
    permissions: str


def accepted(registry: ServiceRegistry) -> dict[str, Offer]:
    """Every abstract syntax that *registry* accepts, with what it offers: those of the standard,
    those that services name, and `ANY_PRIVATE` where private ones need no name."""
    known = {uid for uid, entry in UIDS.items() if entry[1] in _SOP_CLASSES}
    uids = sorted({*known, *STORAGE_SOP_CLASSES, *names_of(registry)} - {ANY_PRIVATE})
    offers = {uid: registry.offer(uid) for uid in (*uids, ANY_PRIVATE)}
    return {uid: offer for uid, offer in offers.items() if offer is not None}


def names_of(registry: ServiceRegistry) -> dict[str, str]:
    """SOP classes that services name because the standard does not."""
    names = {ANY_PRIVATE: "any other private SOP class, for storage"}
    for service in reversed(registry.services):
        if isinstance(service, NamesSopClasses):
            names |= service.sop_classes
    return names


class _Contexts:
    """What is accepted, and how it is called."""

    def __init__(self, registry: ServiceRegistry) -> None:
        self.offers = accepted(registry)
        self._names = names_of(registry)

    def __contains__(self, uid: str) -> bool:
        return uid in self.offers

    def row(self, uid: str) -> tuple[str, str]:
        """Name and UID."""
        shown = f"not below {DICOM_ROOT}" if uid == ANY_PRIVATE else uid
        return self._names.get(uid) or name_of(uid), shown


def statement(
    settings: Settings,
    registry: ServiceRegistry,
    tls: str,
    plugins: Sequence[PluginRow] = (),
    routes: Sequence[Route[Any]] = (),
) -> Iterator[Block]:
    """The document.

    Args:
        tls: the TLS profile in force, in lines; empty: there is no TLS.
        routes: of the web services that are offered.
    """
    offers = _Contexts(registry)
    yield from _overview(settings, offers)
    yield Heading("3", "Introduction")
    yield Paragraph(
        "This statement was printed by the program itself for the configuration that it was given. "
        "Conformance alone does not guarantee that two programs work together; try them."
    )
    yield from _networking(settings, registry, offers, plugins)
    yield from web_services(settings, routes)
    yield Heading("5", "Media interchange")
    yield Paragraph("None.")
    yield Heading("6", "Support of character sets")
    yield Paragraph(
        "Read for matching: the character sets below, and several of them by ISO 2022. Objects are "
        "kept as they came, but for what rules change. Answers are in the character set of the "
        "question where it suffices, else in ISO_IR 192 (UTF-8)."
    )
    yield Table(("Defined term",), [(term,) for term in sorted(TERMS) if term])
    yield from _security(settings, tls)


def _overview(settings: Settings, offers: _Contexts) -> Iterator[Block]:
    yield Heading("1", "Conformance statement overview")
    rows = [
        (
            *offers.row(uid),
            "yes" if uid in _AS_SCU or offer.scp_role else "no",
            "yes",
        )
        for uid, offer in offers.offers.items()
    ]
    for uid, role, _ in _told(settings):
        if uid not in offers:
            yes_to_scu = role == "SCU"
            rows.append((name_of(uid), uid, *(("yes", "no") if yes_to_scu else ("no", "yes"))))
    yield Table(("SOP class", "UID", "SCU", "SCP"), rows)
    yield Paragraph(
        "SCU: of the server as 4.2.2.2 says, and of the commands that come with it "
        "(isocenter echoscu, storescu, findscu, getscu, movescu, worklistscu, mppsscu, commitscu)."
    )
    if settings.web.enabled:
        yield Paragraph("Objects that the server creates of what people note on images:")
        yield Table(("SOP class", "UID", "Of"), [(name_of(uid), uid, of) for uid, of in _CREATED])


def _told(settings: Settings) -> Iterator[tuple[str, str, str]]:
    """SOP classes whose associations the server requests to tell others: with role and purpose."""
    if settings.mpps.notify:
        yield MPPS_NOTIFICATION, "SCP", "performed procedure steps that changed (mpps.notify)"
    if settings.commitment.enabled:
        yield STORAGE_COMMITMENT, "SCP", "outcomes of storage commitment"
    if Rules(settings.rules).ask_for_commitment:
        yield STORAGE_COMMITMENT, "SCU", "storage commitment of what was forwarded (rules)"
    if any(isinstance(each.target, Availability) for each in settings.events.consumers):
        yield INSTANCE_AVAILABILITY_NOTIFICATION, "SCU", "instances that became available (events)"


def _networking(
    settings: Settings, registry: ServiceRegistry, offers: _Contexts, plugins: Sequence[PluginRow]
) -> Iterator[Block]:
    server = settings.server
    yield Heading("4", "Networking")
    yield Heading("4.1", "Implementation model")
    yield Paragraph(
        f"One application entity, {server.ae_title}. It accepts associations for the services "
        "below, and requests associations to send objects (C-MOVE, forwarding) and reports."
    )
    yield Heading("4.2", "Application entity specification")
    yield Heading("4.2.1", "Association policies")
    performed = server.operations_window
    yield Table(
        ("Property", "Value"),
        [
            ("Application context name", APPLICATION_CONTEXT),
            ("Implementation class UID", IMPLEMENTATION_CLASS_UID),
            ("Implementation version name", IMPLEMENTATION_VERSION_NAME),
            ("Maximum PDU length received", f"{server.max_pdu_length:,} bytes"),
            ("Associations at once", _bound(server.max_associations)),
            ("... from one address", _bound(server.max_associations_per_address)),
            ("... with one calling AE title", _bound(server.max_associations_per_ae_title)),
            ("Asynchronous operations, performed and invoked", f"up to {performed}"),
            ("Calling AE titles", ", ".join(settings.access.allow) or "any that is not denied"),
            ("Called AE titles", ", ".join(sorted(settings.ae_titles)) or "any"),
            ("Idle association is aborted after", f"{settings.deadlines.idle:g} s"),
            ("Time for A-ASSOCIATE", f"{settings.deadlines.association_request:g} s"),
        ],
    )
    yield Heading("4.2.2", "Presentation contexts")
    yield Heading("4.2.2.1", "Accepted")
    lists = {
        syntaxes: f"list {chr(ord('A') + number)}"
        for number, syntaxes in enumerate(
            dict.fromkeys(offer.transfer_syntaxes for offer in offers.offers.values())
        )
    }
    yield Paragraph("Transfer syntaxes, in the order of preference:")
    yield Table(
        ("List", "Transfer syntax", "UID"),
        [(name, name_of(uid), uid) for syntaxes, name in lists.items() for uid in syntaxes],
    )
    yield Table(
        ("Abstract syntax", "UID", "Transfer syntaxes", "Roles", "Extended negotiation"),
        [
            (
                *offers.row(uid),
                lists[offer.transfer_syntaxes],
                "SCP; SCU if asked" if offer.scp_role else "SCP",
                _extended(uid, offer),
            )
            for uid, offer in offers.offers.items()
        ],
    )
    if plugins:
        yield Paragraph("Served by plug-ins, and what a caller needs for it:")
        yield Table(
            ("Plug-in", "Distribution", "SOP class", "UID", "Operations", "Permissions"),
            list(plugins),
        )
    yield Heading("4.2.2.2", "Requested")
    storing = [
        ("C-STORE of what C-MOVE requests and rules send on", "storage SOP classes, each object's")
    ] * any(uid in offers for uid in (*MOVE_ROOTS, *STORAGE_SOP_CLASSES))
    yield Table(
        ("Purpose", "Abstract syntax", "Role"),
        [
            *((purpose, what, "SCU") for purpose, what in storing),
            *((purpose, f"{name_of(uid)} {uid}", role) for uid, role, purpose in _told(settings)),
        ],
    )
    yield Paragraph(
        "Objects are proposed in their own transfer syntax, uncompressed ones also in Explicit VR "
        "Little Endian, Implicit VR Little Endian and Explicit VR Big Endian, into which they are "
        "converted. Associations with one destination at once: "
        f"{settings.query.move_associations}."
    )
    yield from _transcoding(settings)
    yield Heading("4.2.3", "Statuses")
    yield Paragraph("What any operation may be answered:")
    yield _statuses(COMMON_STATUSES, None)
    for service in registry.services:
        yield Paragraph(f"{service.name.capitalize()}, beside those:")
        yield _statuses(service.statuses, _WORDS.get(service.name))
    if any(uid in offers for uid in FIND_ROOTS):
        yield from _keys(settings)
    if MODALITY_WORKLIST_FIND in offers:
        yield from _worklist(settings)
    if settings.storage.accept:
        yield from _keeping(settings)
    yield Heading("4.3", "Network interfaces")
    yield Table(("Interface", "Address"), list(_interfaces(settings)))
    yield Heading("4.4", "Configuration")
    yield Table(
        ("Peer", "Address", "TLS"),
        [
            (peer.ae_title, f"{peer.host}:{peer.port}", "yes" if peer.tls else "no")
            for peer in settings.peers
        ]
        or [("none", "", "")],
    )


def _transcoding(settings: Settings) -> Iterator[Block]:
    if not settings.transcoding.enabled:
        yield Paragraph("Compressed objects are sent in their own transfer syntax only.")
        return
    yield Paragraph(
        "Objects whose transfer syntax a peer does not accept are transcoded to the first of these "
        f"that it does: {', '.join(settings.transcoding.preference)}; "
        + ("also" if settings.transcoding.lossy else "never")
        + " to one that loses something of the pixels."
    )
    yield Table(
        ("Transfer syntax", "UID", "Decoding", "Encoding"),
        [
            (syntax.name, syntax.uid, syntax.decoding.value, syntax.encoding.value)
            for syntax in PIXEL_SYNTAXES.values()
        ],
    )


def _statuses(statuses: Statuses, words: ServiceClass | None) -> Table:
    return Table(
        ("Status", "Meaning", "When"),
        [
            (f"{status:04X}H", describe_status(status, words), when)
            for status, when in sorted(statuses.items())
        ],
    )


def _extended(uid: str, offer: Offer) -> str:
    if offer.extended is None:
        return "none"
    if uid in FIND_ROOTS or uid == MODALITY_WORKLIST_FIND:
        flags = FindFlags.decode(offer.extended(b"\1" * 7) or b"")
        names = {
            "relational queries": flags.relational,
            "combined date-time matching": flags.combined_date_time,
            "fuzzy semantic matching of names": flags.fuzzy_person_names,
            "time zone adjustment": flags.timezone_adjustment,
            "enhanced multi-frame conversion": flags.enhanced_image_conversion,
            "empty value matching": flags.empty_value_matching,
            "multiple value matching": flags.multiple_value_matching,
        }
        return ", ".join(name for name, yes in names.items() if yes) or "none"
    if uid in GET_ROOTS or uid in MOVE_ROOTS:
        relational = RetrieveFlags.decode(offer.extended(b"\1") or b"").relational
        return "relational retrieval" if relational else "none"
    if uid not in STORAGE_SOP_CLASSES and uid != ANY_PRIVATE:
        return "of its own"
    support = StorageSupport.decode(offer.extended(b"") or b"")
    if support is not None and support.coercion is ElementCoercion.MAY:
        return "level 2 (full), signatures level 3 (kept), attributes may be coerced (by rules)"
    return "level 2 (full), signatures level 3 (kept), no coercion"


def _keys(settings: Settings) -> Iterator[Block]:
    yield Heading("4.2.4", "Keys of query and retrieve")
    yield Paragraph(
        "All of these are matched (single value, list, universal, wild card, range, sequence, "
        "empty value) and returned, at their level and below it. Names match regardless of case, "
        "and by component group. Computed attributes are returned and matched, too."
    )
    yield Paragraph(
        "Lists of values of any VR, and two quotation marks for an attribute without a value "
        "(PS3.4 C.2.2.2), are matched whether or not that was negotiated. A list of nothing but "
        "empty values is answered A900H. Wild cards in a VR that has none are a single value, but "
        "for * alone, which is universal."
    )
    levels = (
        "Keys of all levels are matched, whether or not relational queries were negotiated."
        if settings.query.always_relational
        else "Without relational queries, keys below the level are not matched and not returned "
        "(FF01H): but Modality of a study is matched as Modalities in Study, and a value in a "
        "unique key below the level is answered A900H."
    )
    shown = "first" if settings.query.differing == "first" else "last"
    yield Paragraph(
        "Attributes of patient, study and series are what the objects say. Where these differ, "
        "a study is found by what any one of its objects says of patient and study together, a "
        "series by what any one of its objects says of it; answers show what was said "
        f"{shown} among what matches. A study whose objects name several patients belongs to each "
        "of them, as a whole."
    )
    yield Paragraph(f"{levels} Keys that are not in this table are not returned (FF01H).")
    yield Table(
        ("Level", "Attribute", "Tag", "VR", ""),
        [
            (
                level.value,
                attribute.keyword,
                _tag(attribute.tag),
                attribute.vr,
                "computed" if attribute.computed else "",
            )
            for level in _LEVELS
            for attribute in ATTRIBUTES
            if attribute.level is level
        ],
    )
    yield Table(
        ("Bound", "Value"),
        [
            ("Matches of one C-FIND", _bound(settings.query.max_results)),
            ("Instances of one C-MOVE or C-GET", _bound(settings.query.max_suboperations)),
            ("Instances of all C-MOVE and C-GET at once", _bound(settings.query.max_backlog)),
        ],
    )


def _keeping(settings: Settings) -> Iterator[Block]:
    storage = settings.storage
    yield Heading("4.2.6", "How long objects are kept")
    yield Paragraph(
        "Until an operator deletes them; no DIMSE operation does. What is deleted is not found, "
        "sent or committed to any more. What is forwarded by a rule that says so is deleted when "
        "its destination has committed it."
    )
    yield Table(
        ("Keeping", "Value"),
        [
            (
                "What is deleted can be restored for",
                f"{storage.trash_days} days" if storage.trash_days else "no time",
            ),
            (
                "Studies that are deleted by age (rules of retention)",
                ", ".join(rule.name for rule in settings.retention) or "none",
            ),
            ("All objects together, in bytes; beyond it A700H", _bound(storage.max_bytes)),
            (
                "Bytes of the disk that stay free; below A700H (of a small disk a twentieth)",
                f"{storage.reserve:,}" if storage.reserve else "none",
            ),
        ],
    )


def _worklist(settings: Settings) -> Iterator[Block]:
    yield Heading("4.2.5", "Keys of the worklist")
    yield Paragraph(
        "Every attribute that an entry has is matched and returned, at any depth of its sequences; "
        "what it does not have is returned without a value. An entry has at least these; the "
        "start date and time of the step are matched as one range where both are given. Values of "
        "binary VRs and UN, and ranges of DT, are not matched (FF01H). Lists and empty values are, "
        "whether or not that was negotiated."
    )
    yield Table(
        ("In", "Attribute", "Tag", "VR"),
        [
            (where, keyword_for_tag(tag), _tag(tag), dictionary_vr(tag))
            for where, tags in (
                ("Scheduled Procedure Step Sequence (0040,0100)", (*STEP_NEEDS, STEP_STATUS)),
                ("", (*NEEDS, ACCESSION_NUMBER)),
            )
            for tag in tags
        ],
    )
    yield Table(
        ("Rule", "Value"),
        [
            ("Offered", ", ".join(state.value for state in settings.worklist.offer)),
            ("A step that was discontinued", settings.worklist.discontinued.value),
            ("Matches of one C-FIND", _bound(settings.worklist.max_results)),
        ],
    )


def _tag(tag: int) -> str:
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X})"


def _interfaces(settings: Settings) -> Iterator[tuple[str, str]]:
    if settings.plain.enabled:
        yield "DICOM over TCP", f"{settings.server.host}:{settings.server.port}"
    if settings.tls.enabled:
        yield "DICOM over TLS", f"{settings.tls.host}:{settings.tls.port}"
    if settings.web.enabled:
        yield "Web services over HTTP", f"{settings.web.host}:{settings.web.port}"
        if settings.web.https_host:
            yield "Web services over HTTPS", f"{settings.web.https_host}:{settings.web.https_port}"


def _security(settings: Settings, tls: str) -> Iterator[Block]:
    yield Heading("7", "Security")
    if not tls:
        yield Paragraph("There is no TLS in this configuration.")
        return
    rows = [line.strip().partition("  ") for line in tls.splitlines()]
    yield Table(("TLS", ""), [(name, value.strip()) for name, _, value in rows])
    yield Table(
        ("Property", "Value"),
        [
            ("Client certificates", settings.tls.client_certificates.value),
            ("Certificate and calling AE title", settings.tls.identity.value),
            ("Audit trail (PS3.15 A.5)", "kept" if settings.audit.enabled else "none"),
            ("User identity (PS3.7 D.3.3.7)", "username, passcode, JWT; others by extension"),
        ],
    )


def _bound(number: int) -> str:
    return f"{number:,}" if number else "no limit"
