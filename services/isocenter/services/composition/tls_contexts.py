"""The TLS contexts of a server, both ways."""

from __future__ import annotations

import ssl
import threading
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from weakref import WeakSet

import trio

from isocenter.services.errors import StorageError
from isocenter.services.net.tls.certificates import files_in
from isocenter.services.net.tls.contexts import (
    ClientCertificates,
    TlsFiles,
    client_context,
    server_context,
)
from isocenter.services.net.tls.errors import TlsFileError
from isocenter.services.net.tls.revocation import Revocations
from isocenter.services.security.certificates.expiry import Expiry, expiries_of
from isocenter.services.security.certificates.issued import RENEW_WITHIN, SERVER_NAME
from isocenter.services.settings.settings import Settings

#: OpenSSL keeps each session of TLS 1.2 for two hours, in case its peer takes it up again: 11 KiB
#: with the certificate.  Python's `ssl` cannot switch that off; a new context has none.
_MOST_SESSIONS: Final = 256
#: What is spoken over TLS for web services (ALPN).
_WEB_PROTOCOLS: Final = ("h2", "http/1.1")
_LOOK_SECONDS: Final = 5.0
#: Contexts with sessions of their own that associations still use.
_MOST_BEFORE: Final = 8


class TlsContexts:
    """The TLS contexts of a server, exchanged while it runs by `reload`.

    Attributes:
        server, web: for DICOM and for HTTP as a server; the latter None: it is not wanted.
        expiries: until when what is in use is valid.
        revocations: what of the peers' is revoked.

    Args:
        ca_directory: where the private CA lies, or is made, when the settings name no files.
        as_they_are: files of the private CA that are used without making or renewing any.

    Raises on construction and on `reload`:
        TlsFileError, CertificateError: a file is missing, unreadable, open to others or
            expired; after a failed `reload` the old ones serve on.
    """

    def __init__(
        self, settings: Settings, ca_directory: Path, *, as_they_are: TlsFiles | None = None
    ) -> None:
        self._settings = settings
        self._as_they_are = as_they_are
        self._ca_directory = ca_directory
        self.server: ssl.SSLContext
        self.web: ssl.SSLContext | None
        self._client: ssl.SSLContext
        self._client_any_host: ssl.SSLContext
        self.ca: Path | None = None
        self.expiries: tuple[Expiry, ...] = ()
        self.revocations = Revocations()
        self._files = TlsFiles()
        #: Of the files, as they were read.
        self._states: tuple[object, ...] = ()
        self._before: WeakSet[ssl.SSLContext] = WeakSet()
        self._one_at_a_time = threading.Lock()
        self.reload()

    def reload(self, settings: Settings | None = None) -> None:
        """Read certificates, keys and revocation lists again; *settings* may name others."""
        with self._one_at_a_time:
            self._reload(settings or self._settings)

    def _reload(self, settings: Settings) -> None:
        tls = settings.tls
        if tls.uses_private_ca and self._as_they_are is not None:
            files = self._as_they_are
        elif tls.uses_private_ca:
            # Late: all of X.509, and a server without TLS, or without a CA of its own, needs none.
            from isocenter.services.security.certificates.authority import ensure_ca
            from isocenter.services.security.certificates.server_certificate import (
                ensure_server_certificate,
            )

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
        if settings.is_shared:
            files = _with_shared_trust(files, settings)
        states = _states_of(files)
        server = server_context(files, tls.profile, tls.client_certificates, strict=tls.strict)
        client = client_context(files, tls.profile, strict=tls.strict)
        any_host = client_context(files, tls.profile, check_hostname=False, strict=tls.strict)
        expiries = expiries_of(files)
        revocations = Revocations.read(files.crl)
        web = _web_context(files, settings)
        self.server, self._client, self._client_any_host = server, client, any_host
        self.web = web
        self.ca, self.expiries, self._settings = files.ca, expiries, settings
        self.revocations = revocations
        self._files, self._states = files, states

    def forget_sessions(self) -> None:
        """When many are kept, a new context of the same files for the associations to come.

        Blocks.  Files that have changed are left to `reload`.
        """
        with self._one_at_a_time:
            sessions = self.server.session_stats()["number"]
            if self.web is not None:
                sessions = max(sessions, self.web.session_stats()["number"])
            if sessions < _MOST_SESSIONS or len(self._before) >= _MOST_BEFORE:
                return
            tls = self._settings.tls
            try:
                if _states_of(self._files) != self._states:
                    return
                new = server_context(
                    self._files, tls.profile, tls.client_certificates, strict=tls.strict
                )
                web = _web_context(self._files, self._settings)
            except (TlsFileError, OSError):
                return  # as `reload` will say
            self._before.add(self.server)
            if self.web is not None:
                self._before.add(self.web)
            self.server, self.web = new, web

    async def keep_few_sessions(self) -> None:
        """`forget_sessions` now and then."""
        while True:
            await trio.sleep(_LOOK_SECONDS)
            await trio.to_thread.run_sync(self.forget_sessions)

    def client(self, *, verify_host: bool = True) -> ssl.SSLContext:
        """For connecting to others, with our own certificate.

        Args:
            verify_host: whether theirs must be for the host that we connect to.
        """
        return self._client if verify_host else self._client_any_host


def files_of_private_ca(directory: Path, ae_title: str) -> TlsFiles | None:
    """The server's own files in the private CA's *directory*, as they are; None: they, or the CA
    itself, are yet to be made or renewed.  Writes nothing.

    Raises:
        CertificateError: there is a CA, and it cannot be used.
    """
    if not directory.exists() or not any(directory.iterdir()):
        return None
    from isocenter.services.security.certificates.authority import CertificateAuthority

    authority = CertificateAuthority(directory)
    files = TlsFiles(
        certificate=directory / f"{SERVER_NAME}.crt",
        key=directory / f"{SERVER_NAME}.key",
        ca=authority.certificate_path,
        crl=authority.crl_path,
    )
    own = [one for one in authority.issued() if one.name == SERVER_NAME]
    is_current = (
        own
        and own[-1].revoked_at is None
        and own[-1].common_name == ae_title
        and own[-1].not_after - datetime.now(UTC) > RENEW_WITHIN
    )
    paths = (files.certificate, files.key, files.crl)
    is_complete = all(path is not None and path.is_file() for path in paths)
    return files if is_current and is_complete else None


def _with_shared_trust(files: TlsFiles, settings: Settings) -> TlsFiles:
    """The same with the CAs and revocation lists that all nodes of the archive have."""
    from isocenter.services.composition.shared_trust import shared_trust

    revocations, authorities = shared_trust(settings)
    try:
        return replace(files, ca=authorities.path(), crl=revocations.path())
    except OSError as error:
        raise StorageError(f"the trust that nodes share cannot be read: {error}") from error


def _web_context(files: TlsFiles, settings: Settings) -> ssl.SSLContext | None:
    """For HTTP; None: it is not wanted."""
    if not settings.web.https_host:
        return None
    # A browser has no certificate, as a rule: who calls without one shows something else.
    return server_context(
        files,
        settings.tls.profile,
        ClientCertificates.OPTIONAL,
        strict=settings.tls.strict,
        protocols=_WEB_PROTOCOLS,
    )


def _states_of(files: TlsFiles) -> tuple[object, ...]:
    """What changes when one of them does."""
    paths = [path for path in (files.certificate, files.key, files.ca) if path is not None]
    paths += files_in(files.crl) if files.crl is not None else ()
    states = [(path, path.stat()) for path in paths if path.exists()]
    return tuple((path, one.st_ino, one.st_size, one.st_mtime_ns) for path, one in states)
