"""Consistency of settings with each other, and warnings."""

from __future__ import annotations

from collections.abc import Container, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from isocenter.services.dicom.pixels.transfer_syntaxes import INSTALL, Support, encoding_of
from isocenter.services.net.addresses import is_loopback
from isocenter.services.net.tls.contexts import ClientCertificates
from isocenter.services.settings.field import MIB
from isocenter.services.settings.sections.access import TlsIdentity
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
        "removed",
        "staging",
        "trash",
    )
)


class Conflict(NamedTuple):
    """The key of a setting, and what is wrong with its value beside those of the others."""

    key: str
    fault: str
    beside: tuple[str, ...]


def conflicts(settings: Settings, given: Container[str]) -> Iterator[Conflict]:
    """Settings that contradict each other; *given* are the keys that somebody set."""
    yield from _of_serving(settings, given)
    yield from _of_limits(settings, given)
    yield from _of_identity(settings)
    yield from _of_oidc(settings)
    yield from _of_web(settings)
    yield from _of_audit(settings)
    yield from _of_events(settings)
    yield from _of_workflow(settings)
    yield from _of_hl7(settings)
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
    if settings.storage.is_in_memory and any(rule.quarantine for rule in settings.rules):
        yield Conflict(
            "rules",
            "quarantine needs a data directory: in memory nobody could release anything",
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


def _of_workflow(settings: Settings) -> Iterator[Conflict]:
    if settings.worklist.folder is not None and not settings.worklist.enabled:
        yield Conflict(
            "worklist.folder",
            "is not looked at while worklist.enabled is false",
            ("worklist.enabled",),
        )
    if settings.mpps.notify and not settings.mpps.enabled:
        yield Conflict("mpps.notify", "hear nothing while mpps.enabled is false", ("mpps.enabled",))


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
        compression = rule.compression
        if compression is not None and compression.when_complete and not settings.events.enabled:
            yield Conflict(
                "rules",
                f"rule {rule.name!r}: while events.enabled is false nothing says when a study is "
                'complete; add compress_when = "arrival"',
                ("events.enabled",),
            )
        for route in rule.routes:
            if route.destination not in seen:
                yield Conflict(
                    "rules",
                    f"rule {rule.name!r}: {route.destination} is none of the peers; "
                    "add it with --peer, or as one of [[peers]]",
                    ("peers",),
                )


def warnings(settings: Settings) -> list[str]:
    """What is allowed and should be known, one line each, for the start of the server."""
    found: list[str] = []
    server, tls = settings.server, settings.tls
    if settings.plain.enabled and not is_loopback(server.host):
        found.append(
            f"clear text on {server.host}:{server.port}: everybody on the way can read and change "
            "what is sent, and AE titles prove nothing (prefer TLS; --no-plain switches this off)"
        )
        if not settings.access.allow:
            found.append(
                "every calling AE title is admitted in the clear (list them with --allow AET)"
            )
    if tls.enabled and tls.client_certificates is not ClientCertificates.REQUIRED:
        found.append(
            f"tls.client_certificates is {tls.client_certificates.value}: "
            "peers without a certificate are served over TLS"
        )
    if tls.enabled and tls.identity is TlsIdentity.ANY:
        found.append(
            "tls.identity is any: whoever has a certificate of the CA may use any AE title"
        )
    monitoring = settings.monitoring
    if monitoring.enabled and not is_loopback(monitoring.host):
        found.append(
            f"HTTP on {monitoring.host}:{monitoring.port} is in the clear: everybody who reaches "
            "it learns whether the archive is well, and everybody on the way reads "
            + ("monitoring.token_file's token" if monitoring.token_file else "the answers")
            + " (monitoring.host)"
        )
    web = settings.web
    if web.enabled and not is_loopback(web.host):
        found.append(
            f"DICOMweb on {web.host}:{web.port} is in the clear: everybody on the way can read "
            "objects and tokens (prefer web.https_host)"
        )
    hl7 = settings.hl7
    if hl7.enabled and not hl7.tls and not is_loopback(hl7.host):
        who = "whoever has an address of hl7.senders" if hl7.senders else "whoever reaches it"
        found.append(
            f"HL7 on {hl7.host}:{hl7.port} is in the clear: everybody on the way can read orders, "
            f"and {who} can order (prefer hl7.tls)"
        )
    found += [
        f"events go to the consumer {each.name} in the clear: everybody on the way can read them"
        for each in settings.events.consumers
        if isinstance(each.target, Webhook)
        and not is_loopback(each.target.host_in_the_clear or "localhost")
    ]
    found += [
        f"rule {rule.name!r}: nothing is compressed until the codecs are installed: {INSTALL}"
        for rule in settings.rules
        if rule.compression is not None
        and encoding_of(rule.compression.transfer_syntax_uid) is not Support.AVAILABLE
    ]
    if server.capture is not None:
        found.append(
            f"every association is recorded in {server.capture}: these captures hold PHI in the "
            "clear, and nobody deletes them; stop it (server.capture) when the fault is found"
        )
    location = settings.objects.in_bucket
    if location is not None and location.host_in_the_clear:
        found.append(
            f"objects travel to {location.host_in_the_clear} in the clear, with what signs the "
            "requests; use https:// in endpoint= of objects.url"
        )
    if settings.storage.is_in_memory:
        found.append("everything is kept in memory and gone when the server stops")
    elif settings.storage.durability == "relaxed":
        found.append(
            "durability is relaxed: objects that were acknowledged may be lost at power failure"
        )
    return found
