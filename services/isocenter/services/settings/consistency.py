"""Consistency of settings with each other."""

from __future__ import annotations

from collections.abc import Container, Iterator
from pathlib import Path
from typing import Final

from isocenter.services.archive.object_location import StoreKind
from isocenter.services.integration.sharing.repository import PublishWhen
from isocenter.services.net.tls.contexts import ClientCertificates
from isocenter.services.settings.conflict import Conflict
from isocenter.services.settings.field import MIB
from isocenter.services.settings.rule_conflicts import (
    conflicts_of_rule,
    missing_of_signer,
    project_at,
    project_of,
)
from isocenter.services.settings.sections.print import PrintOutput
from isocenter.services.settings.settings import Settings
from isocenter.services.workflow.events.consumer import Availability, Webhook

#: Folders of the data directory that are made for something else.
_TAKEN: Final = frozenset(
    (name,)
    for name in (
        "access",
        "certs",
        "index-copies",
        "journal",
        "objects",
        "prints",
        "removed",
        "staging",
        "temporary",
        "trash",
    )
)


def conflicts(settings: Settings, given: Container[str]) -> Iterator[Conflict]:
    """Settings that contradict each other; *given* are the keys that somebody set."""
    yield from _of_serving(settings, given)
    yield from _of_limits(settings, given)
    yield from _of_tiers(settings)
    yield from _of_identity(settings)
    yield from _of_oidc(settings)
    yield from _of_web(settings)
    yield from _of_audit(settings)
    yield from _of_events(settings)
    yield from _of_workflow(settings)
    yield from _of_print(settings)
    yield from _of_ai_services(settings)
    yield from _of_hl7(settings)
    yield from _of_sharing(settings)
    yield from _of_peers(settings)


def _of_serving(settings: Settings, given: Container[str]) -> Iterator[Conflict]:
    """Whether and where is served, and by which certificates."""
    plain, tls, server = settings.plain, settings.tls, settings.server
    if not plain.enabled and not tls.enabled:
        yield Conflict(
            "tls.enabled",
            "neither TLS nor clear text is served; enable one of them",
            ("plain.enabled",),
        )
    if (tls.certificate is None) != (tls.key is None):
        missing, present = ("key", "certificate") if tls.key is None else ("certificate", "key")
        yield Conflict(
            f"tls.{present}",
            f"goes together with tls.{missing}; set both, or neither",
            (f"tls.{missing}",),
        )
    for name in missing_of_signer(settings):
        if settings.signatures.sign_for:
            yield Conflict(
                "signatures.sign_for",
                f"needs signatures.{name}: who signs",
                (f"signatures.{name}",),
            )
    if tls.ca is not None and tls.certificate is None:
        yield Conflict(
            "tls.ca",
            "needs tls.certificate and tls.key: own files replace the private CA",
            ("tls.certificate", "tls.key"),
        )
    if tls.crl is not None and tls.ca is None:
        yield Conflict("tls.crl", "needs tls.ca; the private CA keeps its own list", ("tls.ca",))
    if (
        tls.certificate is not None
        and tls.ca is None
        and tls.client_certificates is not ClientCertificates.NONE
    ):
        yield Conflict(
            "tls.certificate",
            "needs tls.ca, by which the peers' certificates are verified",
            ("tls.ca", "tls.client_certificates"),
        )
    if (
        plain.enabled
        and tls.enabled
        and server.port == tls.port != 0
        and (server.host == tls.host or {server.host, tls.host} & {"0.0.0.0", "::"})  # noqa: S104
    ):
        named, other = ("tls", "server") if "tls.port" in given else ("server", "tls")
        yield Conflict(
            f"{named}.port",
            f"is {other}.port, too ({tls.port}); they need two ports",
            (f"{other}.port", "server.host", "tls.host", "plain.enabled", "tls.enabled"),
        )


def _of_tiers(settings: Settings) -> Iterator[Conflict]:
    tiers = settings.tiers
    if tiers.places and settings.storage.is_in_memory:
        yield Conflict(
            f"tiers.{next(iter(tiers.places)).value}",
            "needs a data directory: what is in memory ends with the server",
            ("storage.data_dir",),
        )
    known = {} if settings.objects.url is None else {settings.objects.url.identity: "objects.url"}
    for tier, place in tiers.places.items():
        key = f"tiers.{tier.value}"
        if (other := known.get(place.identity)) is not None:
            yield Conflict(key, f"is {other}, too; each tier has a place of its own", (other,))
        known[place.identity] = key
        if place.kind is StoreKind.FILES and Path(place.bucket) == Path(settings.storage.data_dir):
            yield Conflict(key, "is the data directory; name another folder", ("storage.data_dir",))
        if tiers.storage_class(tier) and place.kind is StoreKind.FILES:
            yield Conflict(f"{key}_class", "is for a bucket, and the tier is a folder", (key,))
    for rule in tiers.rules:
        if rule.tier not in tiers.places:
            yield Conflict(
                "tiers.rules",
                f"rule {rule.name!r} names the tier {rule.tier.value}, and there is none; set "
                f"tiers.{rule.tier.value}",
                (f"tiers.{rule.tier.value}",),
            )


def _of_limits(settings: Settings, given: Container[str]) -> Iterator[Conflict]:
    if settings.server.workers > 1 and settings.storage.is_in_memory:
        yield Conflict(
            "server.workers",
            "needs a data directory: in memory each worker would have an archive of its own",
            ("storage.data_dir",),
        )
    if settings.storage.is_in_memory and settings.database.url:
        yield Conflict(
            "database.url",
            "needs a data directory: objects in memory end with the server, and their index "
            "would stay",
            ("storage.data_dir",),
        )
    if settings.objects.url is not None and settings.storage.is_in_memory:
        yield Conflict(
            "objects.url",
            "needs a data directory: in memory nothing would know what is kept there",
            ("storage.data_dir",),
        )
    if settings.bytes_in_flight_of_one_worker() < MIB:
        key = "limits.bytes_in_flight" if "limits.bytes_in_flight" in given else "server.workers"
        yield Conflict(
            key,
            f"leaves each of {settings.server.workers} workers less than 1 MiB of "
            f"{settings.limits.bytes_in_flight} bytes in flight; raise limits.bytes_in_flight, or "
            "have fewer workers",
            ("limits.bytes_in_flight", "server.workers"),
        )


def _of_identity(settings: Settings) -> Iterator[Conflict]:
    identity = settings.identity
    key = "identity.jwt_keys" if identity.jwt_keys is not None else "identity.jwt_keys_url"
    if identity.has_issuer and not (identity.jwt_issuer and identity.jwt_audience):
        yield Conflict(
            key,
            "needs identity.jwt_issuer and identity.jwt_audience: any token "
            "of the issuer would be believed otherwise, whomever it is for",
            ("identity.jwt_issuer", "identity.jwt_audience"),
        )
    if identity.jwt_keys is not None and identity.jwt_keys_url:
        yield Conflict(
            "identity.jwt_keys_url",
            "takes the place of identity.jwt_keys; set one of them",
            ("identity.jwt_keys",),
        )
    if identity.jwt_keys_ca is not None and not identity.jwt_keys_url:
        yield Conflict(
            "identity.jwt_keys_ca",
            "is for identity.jwt_keys_url, which is not set",
            ("identity.jwt_keys_url",),
        )


def _of_oidc(settings: Settings) -> Iterator[Conflict]:
    oidc = settings.oidc
    if oidc.issuer and not oidc.client_id:
        yield Conflict("oidc.issuer", "needs oidc.client_id, as the provider knows it", ())
    if oidc.issuer and "openid" not in oidc.scopes:
        yield Conflict("oidc.scopes", "has to contain openid: nobody is named without it", ())


def _of_web(settings: Settings) -> Iterator[Conflict]:
    if settings.web.trusted_proxies and not settings.web.public_root:
        yield Conflict(
            "web.trusted_proxies",
            "needs web.public_root: behind a proxy the address that a request asked for is not the "
            "one by which others reach the service",
            ("web.public_root",),
        )


def _of_audit(settings: Settings) -> Iterator[Conflict]:
    audit = settings.audit
    if (audit.certificate is None) != (audit.key is None):
        missing, given = ("key", "certificate") if audit.key is None else ("certificate", "key")
        yield Conflict(
            f"audit.{given}",
            f"goes together with audit.{missing}; set both, or neither",
            (f"audit.{missing}",),
        )
    if audit.folder is not None and not settings.storage.is_in_memory:
        folder, data_dir = audit.folder.absolute(), Path(settings.storage.data_dir).absolute()
        inside = folder.relative_to(data_dir).parts if data_dir in folder.parents else ()
        if folder == data_dir or folder in data_dir.parents or inside[:1] in _TAKEN:
            yield Conflict(
                "audit.folder",
                "must be a folder for the trail alone, beside what the archive itself makes",
                ("storage.data_dir",),
            )
    if audit.collectors and not audit.enabled:
        yield Conflict(
            "audit.collectors", "get nothing while audit.enabled is false", ("audit.enabled",)
        )
    if audit.collectors and settings.storage.is_in_memory:
        yield Conflict(
            "audit.collectors",
            "need a data directory, where records wait for them",
            ("storage.data_dir",),
        )


def _of_events(settings: Settings) -> Iterator[Conflict]:
    if settings.events.consumers and not settings.events.enabled:
        yield Conflict(
            "events.consumers", "get nothing while events.enabled is false", ("events.enabled",)
        )
    for each in settings.events.consumers:
        target = each.target
        project = ""
        if isinstance(target, Availability):
            project = project_of(target.ae_title, settings)
        elif isinstance(target, Webhook):
            project = project_at([target.host], settings)
        if project:
            yield Conflict(
                "events.consumers",
                f"consumer {each.name} is among those whom the project {project} is for, and "
                "events have the UIDs of originals",
                ("deidentification",),
            )


def _of_workflow(settings: Settings) -> Iterator[Conflict]:
    if settings.worklist.folder is not None and not settings.worklist.enabled:
        yield Conflict(
            "worklist.folder",
            "is not looked at while worklist.enabled is false",
            ("worklist.enabled",),
        )
    if settings.mpps.notify and not settings.mpps.enabled:
        yield Conflict("mpps.notify", "hear nothing while mpps.enabled is false", ("mpps.enabled",))
    for ae_title in settings.mpps.notify:
        project = project_of(ae_title, settings)
        if project:
            yield Conflict(
                "mpps.notify",
                f"{ae_title} is among those whom the project {project} is for, and procedure "
                "steps name the UIDs of originals",
                ("deidentification",),
            )


def _of_print(settings: Settings) -> Iterator[Conflict]:
    """Whether films have a place, and densities an order."""
    wanted = settings.print
    has_files = {PrintOutput.PDF, PrintOutput.PNG} & set(wanted.outputs)
    if wanted.enabled and has_files and wanted.directory is None and settings.storage.is_in_memory:
        yield Conflict(
            "print.outputs",
            "files of films need a folder where the archive is in memory; set print.directory",
            ("storage.data_dir",),
        )
    known = {peer.ae_title for peer in settings.peers}
    is_printing = wanted.enabled and PrintOutput.PRINTER in wanted.outputs
    project = project_of(wanted.printer, settings) if is_printing else ""
    if project:
        yield Conflict(
            "print.printer",
            f"is among those whom the project {project} is for, and films show what is stored",
            ("deidentification",),
        )
    if is_printing and wanted.printer not in known:
        yield Conflict(
            "print.printer",
            "has to be the AE title of a printer in [[peers]], since print.outputs has printer",
            ("print.outputs", "peers"),
        )
    if wanted.min_density >= wanted.max_density:
        yield Conflict(
            "print.min_density",
            f"has to be below print.max_density, which is {wanted.max_density}",
            ("print.max_density",),
        )


def _of_ai_services(settings: Settings) -> Iterator[Conflict]:
    """Who is to learn nothing of patients is named by a project."""
    for service in settings.ai_services:
        if service.is_research and not project_at([service.host], settings):
            yield Conflict(
                "ai_services",
                f"{service.name} is for research, and no project of [[deidentification]] has "
                f"{service.host} among its destinations: it would be sent objects as they are",
                ("deidentification",),
            )


def _of_hl7(settings: Settings) -> Iterator[Conflict]:
    if settings.hl7.enabled and not settings.worklist.enabled:
        yield Conflict(
            "hl7.enabled",
            "needs worklist.enabled: orders would go where nobody asks",
            ("worklist.enabled",),
        )
    if settings.hl7.enabled and settings.hl7.tls and not settings.tls.enabled:
        yield Conflict("hl7.tls", "needs tls.enabled, whose certificates it uses", ("tls.enabled",))


def _of_peers(settings: Settings) -> Iterator[Conflict]:
    """Everybody who is named is one of the peers, and only once."""
    seen: set[str] = set()
    for peer in settings.peers:
        if peer.ae_title in seen:
            yield Conflict("peers", f"two peers have the AE title {peer.ae_title}; keep one", ())
        seen.add(peer.ae_title)
    for ae_title in settings.mpps.notify:
        if ae_title not in seen:
            yield Conflict(
                "mpps.notify",
                f"{ae_title} is none of the peers; add it with --peer",
                ("peers",),
            )
    for consumer in settings.events.consumers:
        target = consumer.target
        if isinstance(target, Availability) and target.ae_title not in seen:
            yield Conflict(
                "events.consumers",
                f"consumer {consumer.name}: {target.ae_title} is none of the peers; add it "
                "with --peer",
                ("peers",),
            )
    for rule in settings.rules:
        yield from conflicts_of_rule(rule, settings, seen)


def _of_sharing(settings: Settings) -> Iterator[Conflict]:
    """Whether what is to be published can be."""
    for each in settings.sharing.repositories:
        project = project_at(each.hosts, settings)
        if project:
            yield Conflict(
                "sharing.repositories",
                f"repository {each.name} is among those whom the project {project} is for, and "
                "manifests name patients and UIDs as they are",
                ("deidentification",),
            )
        if each.when is PublishWhen.BY_HAND:
            continue
        for key, is_on in (
            ("events.enabled", settings.events.enabled),
            ("jobs.enabled", settings.jobs.enabled),
        ):
            if not is_on:
                yield Conflict(
                    "sharing.repositories",
                    f"repository {each.name}: nothing is published by itself while {key} is false",
                    (key,),
                )
