"""Options of TLS: certificates, profiles, and what of the peer is verified."""

from __future__ import annotations

import argparse
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from isocenter.services.cli.support.options import UsageError
from isocenter.services.net.tls.contexts import (
    DEFAULT_PROFILE,
    PROFILES,
    TlsFiles,
    client_context,
    server_context,
)
from isocenter.services.net.tls.errors import TlsFileError
from isocenter.services.net.tls.profile_names import profile_named
from isocenter.services.settings import value_types as kinds


def add_tls_options(parser: argparse.ArgumentParser) -> None:
    """Whether TLS is spoken, and with which files; `tls_of` reads them."""
    group = parser.add_argument_group("TLS")
    group.add_argument("--tls", action="store_true", help="DICOM over TLS")
    group.add_argument(
        "+tls",
        "--enable-tls",
        nargs=2,
        type=Path,
        dest="key_and_certificate",
        metavar=("KEY", "CERT"),
        help="the same, with our private key and certificate (DCMTK's spelling)",
    )
    group.add_argument(
        "+tla", "--anonymous-tls", action="store_true", help="TLS without a certificate of ours"
    )
    group.add_argument("-tls", "--disable-tls", action="store_true", help="in the clear (default)")
    group.add_argument(
        "--tls-server-name",
        type=_host_name,
        metavar="NAME",
        help="the name that the peer's certificate has to be for, and that it is asked for (SNI), "
        "where it is not the host that we connect to",
    )
    add_tls_file_options(group)


def tls_profile(text: str) -> str:
    """A TLS profile by one of its names.

    Raises:
        ArgumentTypeError: there is none, or it is retired; the message says what to use.
    """
    try:
        return profile_named(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def add_tls_file_options(group: argparse._ArgumentGroup) -> None:
    """Certificates, keys, and what of the peer is verified; `tls_context_of` reads them."""
    group.add_argument("--tls-cert", type=Path, metavar="F", help="our certificate (PEM)")
    group.add_argument("--tls-key", type=Path, metavar="F", help="our private key (PEM)")
    group.add_argument(
        "--tls-ca",
        "+cf",
        "--add-cert-file",
        type=Path,
        action="append",
        default=[],
        metavar="F",
        help="who may have signed the peer's certificate (PEM, repeatable; "
        "default: the CAs of the system)",
    )
    group.add_argument(
        "--tls-crl", "+crl", "--add-crl-file", type=Path, metavar="F", help="what of it was revoked"
    )
    group.add_argument(
        "+pw", "--use-passwd", dest="key_password", metavar="P", help="password of the private key"
    )
    group.add_argument(
        "--tls-profile",
        type=tls_profile,
        default=DEFAULT_PROFILE,
        metavar="NAME",
        help=f"security profile: {', '.join(PROFILES)} (default: %(default)s)",
    )
    for flag, profile in (("+px", "bcp195"), ("+py", "non-downgrading"), ("+pz", "extended")):
        group.add_argument(
            flag,
            dest="tls_profile",
            action="store_const",
            const=profile,
            help=f"--tls-profile {profile}",
        )
    group.add_argument(
        "--tls-any-host",
        action="store_true",
        help="the peer's certificate need not name the host that we connect to",
    )
    group.add_argument(
        "--tls-no-verify",
        "-ic",
        "--ignore-peer-cert",
        action="store_true",
        help="take any certificate: protects against nobody who can redirect the connection",
    )


def _host_name(text: str) -> str:
    try:
        return kinds.HOST.from_text(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no name of a host") from None


#: Oldest version of TLS, as people say it → our profile of it.
TLS_VERSIONS: Final = {"1.2": DEFAULT_PROFILE, "1.3": "tls13"}


def profile_of_version(text: str) -> str:
    """The security profile whose oldest version of TLS that is; a profile is itself."""
    return TLS_VERSIONS.get(text, text)


def tls_of(arguments: argparse.Namespace) -> ssl.SSLContext | None:
    """The TLS context that the options ask for; None: in the clear.

    Raises:
        UsageError, TlsFileError: they contradict each other, or a file cannot be used.
    """
    key, certificate = arguments.key_and_certificate or (arguments.tls_key, arguments.tls_cert)
    wanted = arguments.tls or arguments.anonymous_tls or key is not None or certificate is not None
    if arguments.disable_tls or not wanted:
        if arguments.disable_tls and wanted:
            raise UsageError("-tls (in the clear) contradicts the other TLS options; leave it out")
        if arguments.tls_ca or arguments.tls_crl:
            raise UsageError("files for TLS, but no TLS; add --tls")
        if arguments.tls_server_name is not None:
            raise UsageError("--tls-server-name, but no TLS; add --tls")
        return None
    if arguments.anonymous_tls and (key is not None or certificate is not None):
        raise UsageError("+tla shows no certificate; leave it out, or the certificate and key")
    if arguments.tls_server_name is not None and (
        arguments.tls_any_host or arguments.tls_no_verify
    ):
        raise UsageError(
            "--tls-server-name says whose certificate it has to be, and --tls-any-host and "
            "--tls-no-verify that anybody's will do; leave one out"
        )
    return tls_context_of(arguments, key, certificate)


def tls_context_of(
    arguments: argparse.Namespace, key: Path | None, certificate: Path | None
) -> ssl.SSLContext:
    """The context that the options of `add_tls_file_options` make.

    Raises:
        TlsFileError: a file cannot be used.
    """
    authorities: Sequence[Path] = arguments.tls_ca
    context = client_context(
        TlsFiles(
            certificate=certificate,
            key=key,
            ca=authorities[0] if authorities else None,
            crl=arguments.tls_crl,
            key_password=arguments.key_password,
        ),
        arguments.tls_profile,
        check_hostname=not arguments.tls_any_host,
        verify=not arguments.tls_no_verify,
    )
    for path in authorities[1:]:
        try:
            context.load_verify_locations(path)
        except (OSError, ssl.SSLError) as error:
            raise TlsFileError(path, "holds no CA certificate in PEM", "check the file") from error
    return context


def receiving_tls_of(arguments: argparse.Namespace) -> ssl.SSLContext:
    """What a listener of ours shakes hands with, with the files that the options name.

    Raises:
        UsageError, TlsFileError: one is missing or cannot be used.
    """
    key, certificate = arguments.key_and_certificate or (arguments.tls_key, arguments.tls_cert)
    if key is None or certificate is None or not arguments.tls_ca:
        raise UsageError("to receive over TLS, give --tls-cert, --tls-key and --tls-ca")
    return server_context(
        TlsFiles(
            certificate=certificate,
            key=key,
            ca=arguments.tls_ca[0],
            crl=arguments.tls_crl,
            key_password=arguments.key_password,
        ),
        arguments.tls_profile,
    )
