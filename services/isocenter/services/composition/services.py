"""The services of the archive, and the bounds within which a server offers them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from isocenter.services.archive.archive import Archive
from isocenter.services.association.destination_slots import Places
from isocenter.services.association.peer import Peer
from isocenter.services.association.pool import AssociationPool
from isocenter.services.association.server import ServerLimits
from isocenter.services.association.service_registry import Service, ServiceRegistry
from isocenter.services.cluster.duties import Duties, OneProcess
from isocenter.services.composition.outgoing_associations import OutgoingAssociations
from isocenter.services.composition.plugins import Plugin, services_of
from isocenter.services.composition.tls_contexts import TlsContexts
from isocenter.services.composition.workflow import Workflow, build_workflow
from isocenter.services.dicom.pixels.transcoder import Transcoder
from isocenter.services.dicom.uid_registry import TRANSFER_SYNTAXES, name_of
from isocenter.services.monitoring.plugin_monitor import PluginMonitoring
from isocenter.services.net.listeners import ListenAddress
from isocenter.services.notices import Notices
from isocenter.services.security.access.policy import Policy
from isocenter.services.service_classes.client import ClientAssociation
from isocenter.services.service_classes.mpps.performed_step import MPPS, MPPS_RETRIEVE
from isocenter.services.service_classes.plugin import PluginContext
from isocenter.services.service_classes.print.attributes import (
    COLOR_META,
    GRAYSCALE_META,
    PRINT_JOB,
    PRINTER,
    PRINTER_CONFIGURATION,
)
from isocenter.services.service_classes.query_retrieve.composite_instance import (
    CompositeInstanceGetScp,
    CompositeInstanceMoveScp,
)
from isocenter.services.service_classes.query_retrieve.find_scp import FindScp
from isocenter.services.service_classes.query_retrieve.get_scp import GetScp
from isocenter.services.service_classes.query_retrieve.information_models import QueryOptions
from isocenter.services.service_classes.query_retrieve.move_scp import MoveScp
from isocenter.services.service_classes.query_retrieve.suboperations import RetrieveBacklog
from isocenter.services.service_classes.storage.scp import StorageScp
from isocenter.services.service_classes.ups.workitem import UPS_PULL, UPS_PUSH, UPS_WATCH
from isocenter.services.service_classes.verification import VerificationScp
from isocenter.services.settings.settings import Settings
from isocenter.services.workflow.events.service import EventService
from isocenter.services.workflow.nodes.destinations import NodeDestinations
from isocenter.storage.stores import Stores

log = logging.getLogger("isocenter.server")

#: On which our services answer N-GET, or on members of which they do.
_GETTABLE: Final = frozenset(
    {
        MPPS, MPPS_RETRIEVE, UPS_PUSH, UPS_PULL, UPS_WATCH, PRINTER, PRINTER_CONFIGURATION,
        PRINT_JOB, GRAYSCALE_META, COLOR_META,
    }
)  # fmt: skip


def build_server_limits(settings: Settings) -> ServerLimits:
    """What strangers may take together; 0 in a setting is no limit."""
    server = settings.server
    unlimited = 1 << 30
    return ServerLimits(
        connections=server.max_connections or unlimited,
        handshakes=server.max_handshakes or unlimited,
        # Each has a connection, and those that are associated are not closed for others.
        associations=min(server.max_associations or unlimited, server.max_connections or unlimited),
        associations_per_address=server.max_associations_per_address or unlimited,
        associations_per_ae_title=server.max_associations_per_ae_title or unlimited,
    )


def listen_addresses(settings: Settings, tls: TlsContexts | None) -> list[ListenAddress]:
    """Where to listen: the clear first."""
    binds = []
    if settings.plain.enabled:
        binds.append(ListenAddress(host=settings.server.host, port=settings.server.port))
    if settings.tls.enabled and tls is not None:
        binds.append(
            ListenAddress(host=settings.tls.host, port=settings.tls.port, tls=lambda: tls.server)
        )
    return binds


def build_services(
    settings: Settings,
    archive: Archive,
    stores: Stores | None,
    tls: TlsContexts | None,
    notices: Notices | None = None,
    peers: Mapping[str, Peer] | None = None,
    events: EventService | None = None,
    plugins: Sequence[Plugin] = (),
    transcoder: Transcoder | None = None,
) -> ServiceRegistry:
    """The services of the archive; arguments and errors are those of
    `build_services_and_workflow`."""
    registry, _ = build_services_and_workflow(
        settings, archive, stores, tls, notices, peers, events, plugins, transcoder
    )
    return registry


def build_services_and_workflow(
    settings: Settings,
    archive: Archive,
    stores: Stores | None,
    tls: TlsContexts | None,
    notices: Notices | None = None,
    peers: Mapping[str, Peer] | None = None,
    events: EventService | None = None,
    plugins: Sequence[Plugin] = (),
    transcoder: Transcoder | None = None,
    duties: Duties | None = None,
    monitoring: PluginMonitoring | None = None,
    enforces: Callable[[Policy], bool] | None = None,
) -> tuple[ServiceRegistry, Workflow]:
    """The services of the archive, and what of them the web offers, too.  A service class more is
    a line more.

    Args:
        stores: None: there is nothing but storing and finding.
        peers: by AE title, looked at whenever one is needed; None: those of the settings.
        duties: what of all processes one does at a time; None: this process is the only one.
        transcoder: makes what peers take that do not take what is stored; None: nothing does.
        monitoring: gets checks and metrics of plug-ins; None: nobody looks at them.
        enforces: whether a policy decides what application entities may do, as jobs go on; None:
            as the settings say.

    Raises:
        PluginError: a plug-in fails, or serves what we do.
    """
    ae_title = settings.server.ae_title
    options = QueryOptions(
        relational=settings.query.relational,
        always_relational=settings.query.always_relational,
        fuzzy_names=settings.query.fuzzy_names,
        time_zone=settings.server.time_zone,
        shows_first=settings.query.differing == "first",
        max_results=settings.query.max_results,
        max_seconds=settings.query.max_seconds,
        max_suboperations=settings.query.max_suboperations,
        undeclared=settings.storage.undeclared,
        links=stores.links if stores is not None and settings.query.follow_links else None,
    )
    if peers is None:
        peers = {peer.ae_title: peer for peer in settings.peers}
    nodes: NodeDestinations | None = None
    if stores is not None:
        nodes = NodeDestinations(
            stores.nodes,
            stores.limits,
            is_peer=peers.__contains__,
            processes=settings.server.workers,
        )
    pool: AssociationPool[ClientAssociation] = AssociationPool(
        settings.deadlines.kept_association, Notices() if notices is None else notices
    )
    connections = OutgoingAssociations(settings, tls, nodes, pool)
    preferred = settings.transfer_syntaxes.preference
    storage = StorageScp(
        archive,
        transfer_syntaxes=tuple(dict.fromkeys((*preferred, *TRANSFER_SYNTAXES))),
        private_sop_classes=settings.storage.private_sop_classes,
        specialized_sop_classes=settings.storage.specialized_sop_classes,
        stores=settings.storage.accept,
    )
    places = Places(
        settings.query.move_associations,
        None if settings.storage.is_in_memory else Path(settings.storage.data_dir) / "destinations",
    )
    if nodes is not None:
        places.name_of, places.most_of = nodes.name_of, nodes.associations_of
        nodes.on_gone = pool.release_idle
    services: list[Service] = [VerificationScp()]
    if settings.storage.accept or settings.query.enabled:
        services.append(storage)
    workflow = Workflow()
    if stores is not None and nodes is not None:
        workflow = build_workflow(
            settings,
            archive,
            stores,
            storage,
            connections,
            places,
            peers,
            nodes,
            notices,
            events,
            OneProcess() if duties is None else duties,
            transcoder,
            enforces,
        )
    services += workflow.services
    if settings.query.enabled:
        backlog = RetrieveBacklog(settings.query.max_backlog)
        services += [
            FindScp(
                archive.index,
                ae_title=ae_title,
                options=options,
                availabilities=archive.availabilities,
                seen_by=archive.seen_by,
            ),
            GetScp(archive, options=options, backlog=backlog, transcoder=transcoder),
            CompositeInstanceGetScp(
                archive, options=options, backlog=backlog, transcoder=transcoder
            ),
            *(
                scp(
                    archive,
                    destination=partial(_destination, peers, nodes),
                    why_closed=_never_closed if nodes is None else nodes.why_closed,
                    connect=connections.for_storage,
                    options=options,
                    backlog=backlog,
                    places=places,
                    place_seconds=settings.deadlines.destination,
                    transcoder=transcoder,
                )
                for scp in (MoveScp, CompositeInstanceMoveScp)
            ),
        ]
    monitoring = monitoring or PluginMonitoring()
    added = services_of(
        plugins,
        PluginContext(
            settings={},
            ae_title=ae_title,
            archive=archive,
            peers=peers,
            connect=connections.for_notifications,
            concerns=lambda operation, studies: None,
            monitor=monitoring.of(""),
        ),
        Notices() if notices is None else notices,
        services,
        monitoring,
    )
    # Last: what a plug-in declares is its own, also where storage takes every private SOP class.
    tasks = [*workflow.background_tasks, pool.run, *(one.watch for one in added)]
    registry = ServiceRegistry(
        [*services, *added],
        background_tasks=tasks,
        n_get_sop_classes=settings.query.n_get_sop_classes,
    )
    for uid in settings.query.n_get_sop_classes:
        if registry.offer(uid) is None:
            log.warning(
                "query.n_get_sop_classes: with these settings no service is for %s (%s)",
                uid,
                name_of(uid),
            )
        elif uid not in _GETTABLE and not any("N-GET" in one.operations_on(uid) for one in added):
            log.warning(
                "query.n_get_sop_classes: no service answers N-GET on %s (%s)", uid, name_of(uid)
            )
    return registry, workflow


def _never_closed(ae_title: str) -> str:
    return ""


def _destination(
    peers: Mapping[str, Peer], nodes: NodeDestinations | None, ae_title: str
) -> Peer | None:
    """Where C-MOVE sends to: a peer of the settings, else a remote node."""
    found = peers.get(ae_title)
    return found if found is not None or nodes is None else nodes.get(ae_title)
