"""Warnings of settings that are allowed and should be known."""

from __future__ import annotations

from isocenter.services.dicom.pixels.transfer_syntaxes import INSTALL, Support, encoding_of
from isocenter.services.net.addresses import is_loopback, is_network
from isocenter.services.net.tls.contexts import ClientCertificates
from isocenter.services.net.tls.profile_names import warning_of
from isocenter.services.security.access.enforcement import Enforcement
from isocenter.services.settings.rule_conflicts import project_of
from isocenter.services.settings.sections.access import TlsIdentity
from isocenter.services.settings.settings import Settings
from isocenter.services.workflow.events.consumer import Webhook


def warnings(settings: Settings) -> list[str]:
    """What is allowed and should be known, one line each, for the start of the server."""
    found: list[str] = []
    server, tls = settings.server, settings.tls
    if settings.plain.enabled and not is_loopback(server.host):
        found.append(
            f"clear text on {server.host}:{server.port}: everybody on the way can read and change "
            "what is sent, and AE titles prove nothing (prefer TLS; --no-plain switches this off)"
        )
        if settings.access.accept_unknown_calling_ae_title and settings.access.allow:
            found.append(
                "access.accept_unknown_calling_ae_title: every calling AE title is admitted in the "
                "clear, whatever access.allow lists"
            )
        elif not settings.access.allow:
            found.append(
                "every calling AE title is admitted in the clear (list them with --allow AET)"
            )
    if settings.access.enforce is Enforcement.NEVER:
        found.append(
            "access.enforce is never: whoever is admitted by the settings may do everything, "
            "whatever the policy says of application entities and their roles"
        )
    if tls.enabled and tls.client_certificates is not ClientCertificates.REQUIRED:
        found.append(
            f"tls.client_certificates is {tls.client_certificates.value}: "
            "peers without a certificate are served over TLS"
        )
    retired = warning_of(tls.profile) if tls.enabled else ""
    if retired:
        found.append(f"{retired} (tls.profile)")
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
    if any(project.networks for project in settings.deidentification):
        found += [
            f"peer {peer.ae_title}: names are not looked up, so {peer.host} is in no network of "
            "[[deidentification]], and is sent objects as they are (give its address, or have it "
            "among destinations)"
            for peer in settings.peers
            if not is_network(peer.host)
            and not is_loopback(peer.host)
            and not project_of(peer.ae_title, settings)
        ]
    found += [
        f"events go to the consumer {each.name} in the clear: everybody on the way can read them"
        for each in settings.events.consumers
        if isinstance(each.target, Webhook)
        and not is_loopback(each.target.host_in_the_clear or "localhost")
    ]
    found += [
        f"manifests go to the repository {each.name} in the clear: everybody on the way can read "
        "and change them"
        for each in settings.sharing.repositories
        if not is_loopback(each.host_in_the_clear or "localhost")
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
