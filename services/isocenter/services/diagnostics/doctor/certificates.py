"""Our own certificate: its chain, dates, names, key and list of revoked ones.

Read from the files that the settings name, or from the private CA; nothing is made or renewed.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding

from isocenter.services.diagnostics.doctor.check import CheckResult, count
from isocenter.services.diagnostics.findings import Finding, Side, error, note, warning
from isocenter.services.errors import text_of
from isocenter.services.net.peer_identity import owns_ae_title
from isocenter.services.net.tls.certificates import identity_of
from isocenter.services.net.tls.contexts import (
    ClientCertificates,
    TlsFiles,
    client_context,
    server_context,
)
from isocenter.services.net.tls.errors import TlsFileError
from isocenter.services.security.certificates.authority import CertificateAuthority
from isocenter.services.security.certificates.expiry import renewal_of
from isocenter.services.security.certificates.issued import CA_FOLDER, SERVER_NAME, CertificateError
from isocenter.services.settings.sections.access import TlsIdentity
from isocenter.services.settings.settings import Settings

#: What ends sooner is told.
SOON: Final = timedelta(days=30)
#: A list of revoked certificates that is older may miss what happened since.
_OLD_LIST: Final = timedelta(days=31)
_FOR_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
_MOST_CHAIN: Final = 8


def check_certificates(settings: Settings, now: datetime | None = None) -> list[CheckResult]:
    """Our certificate, and what the private CA has issued to peers."""
    now = now or datetime.now(UTC)
    tls = settings.tls
    if not tls.enabled and not any(peer.tls for peer in settings.peers):
        return [CheckResult("certificates", "TLS is switched off")]
    if not tls.uses_private_ca:
        files = TlsFiles(
            certificate=tls.certificate,
            key=tls.key,
            ca=tls.ca,
            crl=tls.crl,
            key_password=tls.key_password,
        )
        return [_check_own(settings, files, now)]
    if settings.storage.is_in_memory:
        return [CheckResult("certificates", "a private CA that lives as long as the server")]
    folder = Path(settings.storage.data_dir) / CA_FOLDER
    if not folder.exists():
        finding = note(f"{folder} is made by the first isocenter serve", side=Side.HERE)
        return [CheckResult("certificates", "no private CA yet", (finding,))]
    try:
        authority = CertificateAuthority(folder)
        issued = authority.issued()
    except (CertificateError, OSError) as fault:
        return [CheckResult("private CA", str(folder), (error(text_of(fault), side=Side.HERE),))]
    files = TlsFiles(
        certificate=folder / f"{SERVER_NAME}.crt",
        key=folder / f"{SERVER_NAME}.key",
        ca=authority.certificate_path,
        crl=authority.crl_path,
    )
    findings = list(_ca_findings(folder, authority.certificate, now))
    last = {one.name: one for one in issued}
    for one in last.values():
        left = one.not_after - now
        if one.revoked_at is None and one.name != SERVER_NAME and left < SOON:
            findings.append(
                warning(
                    f"the certificate {one.name} of AE title {one.common_name} "
                    + ("has expired" if left < timedelta() else f"ends in {_days(left)}"),
                    meaning="from then on its holder is refused",
                    cure=f"isocenter certs renew {one.name}, and bring the new file to it",
                    side=Side.EITHER,
                )
            )
    valid = sum(one.state(now) == "valid" for one in issued)
    ca = CheckResult(
        "private CA",
        f"{folder}, {count(valid, 'valid certificate')}, until "
        f"{authority.certificate.not_valid_after_utc.date()}",
        tuple(findings),
    )
    if not files.certificate or not files.certificate.exists():
        finding = note("the server's certificate is made by the next isocenter serve")
        return [ca, CheckResult("certificates", "none for the server yet", (finding,))]
    return [ca, _check_own(settings, files, now)]


def _ca_findings(folder: Path, certificate: x509.Certificate, now: datetime) -> Iterator[Finding]:
    if os.name == "posix" and folder.stat().st_mode & _FOR_OTHERS:
        yield error(
            f"{folder} has mode {stat.S_IMODE(folder.stat().st_mode):03o}",
            meaning="the CA's key lies in it, and whoever has it is every AE title",
            cure=f"chmod 700 {folder}",
            side=Side.HERE,
        )
    left = certificate.not_valid_after_utc - now
    if left < timedelta(days=365):
        yield warning(
            "the private CA has expired" if left < timedelta() else f"it ends in {_days(left)}",
            meaning="no certificate outlives it, and every peer has to trust the next one first",
            cure="make the next CA (isocenter certs init --ca-dir DIR) and let peers trust both",
            side=Side.EITHER,
        )


def _check_own(settings: Settings, files: TlsFiles, now: datetime) -> CheckResult:
    what = "certificates"
    tls = settings.tls
    try:
        # Whatever would keep the server from starting: mode, match, form, dates.
        server_context(files, tls.profile, tls.client_certificates, strict=tls.strict)
        client_context(files, tls.profile, strict=tls.strict)
    except TlsFileError as fault:
        where = f"{fault.path}: " if fault.path else ""
        finding = error(
            f"{where}{fault.fault}",
            meaning="isocenter serve does not start with it, nor take it on reload",
            cure=fault.cure,
            side=Side.HERE,
        )
        return CheckResult(what, str(files.certificate), (finding,))
    assert files.certificate is not None
    chain = x509.load_pem_x509_certificates(files.certificate.read_bytes())[:_MOST_CHAIN]
    own = chain[0]
    findings = [
        *date_findings(
            own, "our certificate", now, Side.HERE, renewal=renewal_of(files.certificate)
        ),
        *_own_name_findings(settings, own),
    ]
    authorities: Sequence[x509.Certificate] = ()
    if files.ca is not None:
        authorities = x509.load_pem_x509_certificates(files.ca.read_bytes())
        findings += _chain_findings(chain, authorities, now)
    if files.crl is not None:
        findings += _crl_findings(files.crl, own, authorities, now)
    elif tls.client_certificates is not ClientCertificates.NONE:
        findings.append(
            note(
                "there is no list of revoked certificates (tls.crl)",
                meaning="a certificate that is lost opens its AE title until it expires",
                cure="give the CA's list as tls.crl, and replace the file when the CA does",
                side=Side.HERE,
            )
        )
    seen = f"{own.subject.rfc4514_string()}, until {own.not_valid_after_utc.date()}"
    facts = {"not_after": own.not_valid_after_utc.isoformat(), "names": list(names_of(own))}
    return CheckResult(what, seen, tuple(findings), facts=facts)


def date_findings(
    certificate: x509.Certificate,
    what: str,
    now: datetime,
    side: Side,
    *,
    renewal: str = "renew it",
) -> Iterator[Finding]:
    """Expired, soon to end, or not yet valid.  *what*: how it is called."""
    left = certificate.not_valid_after_utc - now
    if left < timedelta():
        yield error(
            f"{what} expired on {certificate.not_valid_after_utc.date()}",
            meaning="whoever checks it refuses the TLS handshake",
            cure=f"{renewal}, and compare the clocks",
            side=side,
        )
    elif left < SOON:
        yield warning(
            f"{what} ends in {_days(left)}, on {certificate.not_valid_after_utc.date()}",
            meaning="from then on TLS handshakes with it fail",
            cure=renewal,
            side=side,
        )
    if certificate.not_valid_before_utc > now:
        yield error(
            f"{what} is not valid before {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC",
            meaning="whoever checks it refuses the TLS handshake",
            cure="compare the clocks of the two machines and of the CA",
            side=side,
        )


def _own_name_findings(settings: Settings, own: x509.Certificate) -> Iterator[Finding]:
    if not names_of(own):
        yield warning(
            "our certificate has no subject alternative name",
            meaning="peers that compare the host with it refuse to connect (RFC 9525)",
            cure="have it issued again, with the names and addresses that peers use",
            side=Side.HERE,
        )
    if settings.tls.identity is TlsIdentity.CN:
        identity = identity_of(own.public_bytes(Encoding.DER))
        if not owns_ae_title(identity, settings.server.ae_title):
            yield warning(
                f"our certificate is not for our AE title {settings.server.ae_title}",
                meaning="an Isocenter, and whoever else binds AE titles to certificates, rejects "
                "us as C-MOVE sender (result 1, source 1, reason 3)",
                cure=f"have one issued with the common name {settings.server.ae_title}",
                side=Side.HERE,
            )


def _chain_findings(
    chain: Sequence[x509.Certificate], authorities: Sequence[x509.Certificate], now: datetime
) -> Iterator[Finding]:
    """Whether tls.ca, which our peers have as well as a rule, leads to our own."""
    for authority in authorities:
        yield from date_findings(authority, f"the CA {_subject(authority)}", now, Side.EITHER)
    last = chain[0]
    for other in chain[1:]:
        if not _issued(other, last):
            yield warning(
                f"in the file of our certificate, {_subject(other)} follows {_subject(last)} and "
                "did not issue it",
                meaning="many peers do not find the chain then",
                cure="put our own certificate first, then each issuer behind what it issued",
                side=Side.HERE,
            )
            return
        last = other
    if not any(_issued(authority, last) or authority == last for authority in authorities):
        yield note(
            f"our certificate was issued by {last.issuer.rfc4514_string()}, which is not in tls.ca",
            meaning="peers need another CA to trust us than we need to trust them",
            cure="give peers the CA of our certificate; if it is an intermediate one, append it "
            "to the file of our certificate",
            side=Side.EITHER,
        )


def _crl_findings(
    path: Path, own: x509.Certificate, authorities: Sequence[x509.Certificate], now: datetime
) -> Iterator[Finding]:
    try:
        crl = x509.load_pem_x509_crl(path.read_bytes())
    except (OSError, ValueError) as fault:
        yield error(
            f"{path}: {text_of(fault)}", cure="give the list as PEM (X509 CRL)", side=Side.HERE
        )
        return
    end = crl.next_update_utc
    if end is not None and end < now:
        yield error(
            f"the list of revoked certificates expired on {end.date()}",
            meaning="every peer is refused until there is a new one",
            cure="get the CA's current list, and reload",
            side=Side.HERE,
        )
    elif end is not None and end - now < SOON and now - crl.last_update_utc > end - now:
        yield warning(
            f"the list of revoked certificates ends in {_days(end - now)}",
            meaning="from then on every peer is refused",
            cure="get the CA's current list, and reload",
            side=Side.HERE,
        )
    elif now - crl.last_update_utc > _OLD_LIST and end is None:
        yield warning(
            f"the list of revoked certificates is of {crl.last_update_utc.date()}",
            cure="get the CA's current list, and reload",
            side=Side.HERE,
        )
    if authorities and not any(authority.subject == crl.issuer for authority in authorities):
        yield error(
            f"the list of revoked certificates is of {crl.issuer.rfc4514_string()}, "
            "which is not in tls.ca",
            meaning="a peer is refused when there is no list of its issuer",
            cure="give the list of the CA that signs the peers' certificates",
            side=Side.HERE,
        )
    if crl.get_revoked_certificate_by_serial_number(own.serial_number) is not None:
        yield error(
            "our own certificate is revoked",
            meaning="peers that have the list refuse us",
            cure="have a new one issued",
            side=Side.HERE,
        )


def names_of(certificate: x509.Certificate) -> tuple[str, ...]:
    """DNS names and addresses that it is for."""
    return identity_of(certificate.public_bytes(Encoding.DER)).subject_alternative_names


def _issued(authority: x509.Certificate, certificate: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _subject(certificate: x509.Certificate) -> str:
    return certificate.subject.rfc4514_string()


def _days(left: timedelta) -> str:
    return count(left.days, "day")
