"""Contents of the conformance statement, in the order of PS3.2.

Contexts, roles, syntaxes and statuses come from the registry and the tables that the
server runs on; so the statement cannot say what the server does not do.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

from isocenter.engine.dimse.status import ServiceClass, describe_status
from isocenter.engine.uid import (
    APPLICATION_CONTEXT,
    IMPLEMENTATION_CLASS_UID,
    IMPLEMENTATION_VERSION_NAME,
    VERIFICATION,
)
from isocenter.services.archive.rules.evaluation import Rules
from isocenter.services.association.service_registry import (
    COMMON_STATUSES,
    ServiceRegistry,
    Statuses,
)
from isocenter.services.conformance.bounds import bound
from isocenter.services.conformance.contexts import Contexts, extended, roles
from isocenter.services.conformance.deidentification import deidentification
from isocenter.services.conformance.printing import printing
from isocenter.services.conformance.querying import (
    query_keys,
    retrieval_by_instance,
    worklist_keys,
)
from isocenter.services.conformance.web_services import web_services
from isocenter.services.dicom.character_sets import TERMS
from isocenter.services.dicom.pixels.transfer_syntaxes import PIXEL_SYNTAXES
from isocenter.services.dicom.uid_registry import (
    COMPOSITE_INSTANCE_CLASSES,
    COMPOSITE_INSTANCE_GET,
    STORAGE_SOP_CLASSES,
    name_of,
)
from isocenter.services.net.http.routing import Route
from isocenter.services.service_classes.availability.scu import INSTANCE_AVAILABILITY_NOTIFICATION
from isocenter.services.service_classes.commitment.transaction import STORAGE_COMMITMENT
from isocenter.services.service_classes.mpps.performed_step import (
    MPPS,
    MPPS_NOTIFICATION,
    MPPS_RETRIEVE,
)
from isocenter.services.service_classes.print.attributes import (
    ANNOTATION_BOX,
    COLOR_META,
    GRAYSCALE_META,
    PRESENTATION_LUT,
    PRINT_JOB,
    PRINTER_CONFIGURATION,
)
from isocenter.services.service_classes.query_retrieve.information_models import (
    FIND_ROOTS,
    GET_ROOTS,
    MOVE_ROOTS,
)
from isocenter.services.service_classes.worklist.entry import (
    MODALITY_WORKLIST_FIND,
)
from isocenter.services.settings.sections.print import PrintOutput
from isocenter.services.settings.settings import Settings
from isocenter.services.viewing.key_object_documents import KEY_OBJECT_SELECTION
from isocenter.services.viewing.measurement_reports import COMPREHENSIVE_SR
from isocenter.services.viewing.presentation_states import COLOUR, GRAYSCALE
from isocenter.services.web.description.document import Block, Heading, Paragraph, Table
from isocenter.services.workflow.events.consumer import Availability

#: By `Service.name`: whose words its statuses are read in; others in those of PS3.7 Annex C.
_WORDS: Final = {
    "verification": ServiceClass.VERIFICATION,
    "print management": ServiceClass.PRINT,
    "storage": ServiceClass.STORAGE,
    "query": ServiceClass.FIND,
    "get": ServiceClass.GET,
    "move": ServiceClass.MOVE,
    "get by instance": ServiceClass.GET,
    "move by instance": ServiceClass.MOVE,
    "worklist": ServiceClass.WORKLIST,
}
#: As SCU, without a service to ask: C-MOVE and forwarding store, `isocenter echoscu` verifies.
_AS_SCU: Final = frozenset(
    {
        VERIFICATION,
        MODALITY_WORKLIST_FIND,
        MPPS,
        MPPS_RETRIEVE,
        STORAGE_COMMITMENT,
        GRAYSCALE_META,
        COLOR_META,
        PRINT_JOB,
        PRESENTATION_LUT,
        ANNOTATION_BOX,
        PRINTER_CONFIGURATION,
        *STORAGE_SOP_CLASSES,
        *FIND_ROOTS,
        *GET_ROOTS,
        *MOVE_ROOTS,
        *COMPOSITE_INSTANCE_CLASSES,
    }
)


#: SOP classes of which the web services create objects, and of what.
_CREATED: Final = (
    (GRAYSCALE, "annotations of gray images"),
    (COLOUR, "annotations of images in colour"),
    (COMPREHENSIVE_SR, "measurements (TID 1500)"),
    (KEY_OBJECT_SELECTION, "key images (TID 2010)"),
)


class PluginRow(NamedTuple):
    """A SOP class that a plug-in serves."""

    plugin: str
    distribution: str
    sop_class: str
    uid: str
    operations: str
    permissions: str


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
    offers = Contexts(registry)
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


def _overview(settings: Settings, offers: Contexts) -> Iterator[Block]:
    yield Heading("1", "Conformance statement overview")
    rows = [
        (
            *offers.row(uid),
            "yes" if uid in _AS_SCU or offer.scp_role else "no",
            "yes" if offer.scu_role else "no",
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
        "(isocenter echoscu, storescu, findscu, getscu, movescu, worklistscu, mppsscu, upsscu, "
        "printscu, commitscu)."
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
    if settings.print.enabled and PrintOutput.PRINTER in settings.print.outputs:
        yield GRAYSCALE_META, "SCU", "films on a printer (print.printer)"
        yield COLOR_META, "SCU", "films in colour on a printer (print.printer)"
    if any(isinstance(each.target, Availability) for each in settings.events.consumers):
        yield INSTANCE_AVAILABILITY_NOTIFICATION, "SCU", "instances that became available (events)"


def _networking(
    settings: Settings, registry: ServiceRegistry, offers: Contexts, plugins: Sequence[PluginRow]
) -> Iterator[Block]:
    server = settings.server
    yield Heading("4", "Networking")
    yield Heading("4.1", "Implementation model")
    yield Paragraph(
        f"One application entity, {server.ae_title}. It accepts associations for the services "
        "below, and requests associations to send objects (C-MOVE, forwarding) and reports. Rules "
        "that operators make while it runs forward to peers and remote nodes, too, and may ask "
        "them for storage commitment (SCU)."
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
            ("Associations at once", bound(server.max_associations)),
            ("... from one address", bound(server.max_associations_per_address)),
            ("... with one calling AE title", bound(server.max_associations_per_ae_title)),
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
                roles(offer),
                extended(uid, offer),
            )
            for uid, offer in offers.offers.items()
        ],
    )
    if settings.storage.accept and settings.storage.specialized_sop_classes:
        yield Paragraph(
            "Any other SOP class is accepted as well when the requestor relates it to an accepted "
            "storage SOP class: SOP Class Common Extended Negotiation with the Storage Service "
            "Class and that one as a related general SOP class (PS3.7 D.3.3.6). Its objects are "
            "kept under their own SOP Class UID."
        )
    orders = settings.transfer_syntaxes.orders
    if orders:
        yield Paragraph(
            "Another order of transfer syntaxes, where a row is about the SOP class and the "
            "calling AE title; the first such row holds:"
        )
        yield Table(
            ("SOP classes", "Calling AE titles", "First", "Others"),
            [
                (
                    ", ".join(sorted(map(name_of, order.sop_classes))) or "all that are stored",
                    ", ".join(order.ae_titles) or "any",
                    ", ".join(map(name_of, order.preference)),
                    "Implicit VR Little Endian only" if order.is_only else "as listed",
                )
                for order in orders
            ],
        )
    if settings.query.n_get_sop_classes:
        yield Paragraph(
            "N-GET is answered on these SOP classes only: "
            f"{', '.join(map(name_of, settings.query.n_get_sop_classes))}."
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
        yield from query_keys(settings)
    if COMPOSITE_INSTANCE_GET in offers:
        yield from retrieval_by_instance()
    if MODALITY_WORKLIST_FIND in offers:
        yield from worklist_keys(settings)
    if settings.storage.accept:
        yield from _keeping(settings)
    if settings.print.enabled:
        yield from printing(settings)
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


def _keeping(settings: Settings) -> Iterator[Block]:
    storage = settings.storage
    yield Heading("4.2.6", "How long objects are kept")
    yield Paragraph(
        "Until an operator deletes them; no DIMSE operation does. What is deleted is not found, "
        "sent or committed to any more. What is forwarded by a rule that says so is deleted when "
        "its destination has committed it, or so many days after all have it."
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
            ("All objects together, in bytes; beyond it A700H", bound(storage.max_bytes)),
            (
                "Bytes of the disk that stay free; below A700H (of a small disk a twentieth)",
                f"{storage.reserve:,}" if storage.reserve else "none",
            ),
        ],
    )


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
    yield from _transport(settings, tls)
    yield from deidentification(settings)


def _transport(settings: Settings, tls: str) -> Iterator[Block]:
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
