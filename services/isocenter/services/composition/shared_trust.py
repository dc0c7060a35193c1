"""Trust of one node that it shares with the others, by its settings."""

from __future__ import annotations

from pathlib import Path

from isocenter.services.net.tls.contexts import TlsFiles
from isocenter.services.security.certificates.issued import CA_FOLDER
from isocenter.services.security.certificates.shared import SharedAuthorities, SharedRevocations
from isocenter.services.settings.settings import Settings


def shared_trust(settings: Settings) -> tuple[SharedRevocations, SharedAuthorities]:
    """Revocation lists and CAs of a node, and what the others have beside them."""
    own, folder = _own_trust(settings), Path(settings.storage.data_dir)
    return SharedRevocations(folder, own.crl), SharedAuthorities(folder, own.ca)


def _own_trust(settings: Settings) -> TlsFiles:
    if not settings.tls.uses_private_ca:
        return TlsFiles(ca=settings.tls.ca, crl=settings.tls.crl)
    folder = Path(settings.storage.data_dir) / CA_FOLDER
    ca, crl = folder / "ca.crt", folder / "crl.pem"
    return TlsFiles(ca=ca if ca.exists() else None, crl=crl if crl.exists() else None)
