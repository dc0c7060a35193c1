"""The TLS contexts of a server, both ways."""

from __future__ import annotations

import ssl
from dataclasses import replace
from pathlib import Path

from isocenter.services.certificates.authority import ensure_ca, ensure_server_certificate
from isocenter.services.certificates.expiry import Expiry, expiries_of
from isocenter.services.peer import Peer
from isocenter.services.settings.loading import Settings
from isocenter.services.tls.contexts import TlsFiles, client_context, server_context


class TlsContexts:
    """The TLS contexts of a server, exchanged while it runs by `reload`.

    Attributes:
        expiries: until when what is in use is valid.

    Args:
        ca_directory: where the private CA lies, or is made, when the settings name no files.

    Raises on construction and on `reload`:
        TlsFileError, CertificateError: a file is missing, unreadable, open to others or
            expired; after a failed `reload` the old ones serve on.
    """

    def __init__(self, settings: Settings, ca_directory: Path) -> None:
        self._settings = settings
        self._ca_directory = ca_directory
        self.server: ssl.SSLContext
        self._client: ssl.SSLContext
        self._client_any_host: ssl.SSLContext
        self.ca: Path | None = None
        self.expiries: tuple[Expiry, ...] = ()
        self.reload()

    def reload(self, settings: Settings | None = None) -> None:
        """Read certificates, keys and revocation lists again; *settings* may name others."""
        settings = settings or self._settings
        tls = settings.tls
        if tls.uses_private_ca:
            directory = self._ca_directory
            authority = ensure_ca(directory)
            issued = ensure_server_certificate(directory, settings.server.ae_title)
            files = replace(issued, crl=authority.crl_path)
        else:
            files = TlsFiles(
                certificate=tls.certificate,
                key=tls.key,
                ca=tls.ca,
                crl=tls.crl,
                key_password=tls.key_password,
            )
        server = server_context(files, tls.profile, tls.client_certificates, strict=tls.strict)
        client = client_context(files, tls.profile, strict=tls.strict)
        any_host = client_context(files, tls.profile, check_hostname=False, strict=tls.strict)
        self.server, self._client, self._client_any_host = server, client, any_host
        self.ca, self.expiries, self._settings = files.ca, expiries_of(files), settings

    def client(self, peer: Peer) -> ssl.SSLContext:
        """For connecting to *peer*, with our own certificate."""
        return self._client if peer.verify_host else self._client_any_host
