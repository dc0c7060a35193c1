"""``isocenter certs``: the private CA of the archive on the command line."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable
from datetime import timedelta
from getpass import getpass
from pathlib import Path
from typing import Final

from isocenter.services.cli.support.options import whole_number
from isocenter.services.cli.support.recorded_changes import RecordedChanges
from isocenter.services.errors import text_of
from isocenter.services.security.certificates.authority import CertificateAuthority
from isocenter.services.security.certificates.issued import CA_FOLDER, CertificateError, Issued
from isocenter.services.security.certificates.keys import (
    DEFAULT_KEY,
    KeyKind,
    Pkcs12,
    check_passphrase,
)
from isocenter.services.security.certificates.profile import LIFETIME
from isocenter.services.security.certificates.signing_requests import read_request
from isocenter.services.settings.errors import SettingsError
from isocenter.services.settings.loading import load_settings

DESCRIPTION: Final = """\
Certificates for mutual TLS, signed by the private CA of the archive.  The common name of a
certificate is the AE title that its holder may use."""

EXAMPLES: Final = """\
examples:
  isocenter certs issue CT1 --out /mnt/stick     CT1.crt, CT1.key and ca.crt for AE title CT1
  isocenter certs issue ws7 --ae-title WS_7 --host ws7.example.org
                                                 also a C-MOVE destination that is reached by name
  isocenter certs issue CT1 --pkcs12             CT1.p12 with a passphrase, in the place of CT1.key
  isocenter certs sign ct2.csr --out /mnt/stick  for a modality that has made its own key
  isocenter certs issue TEST --days 30           valid for a month
  isocenter certs list                           what was issued, and until when it is valid
  isocenter certs revoke CT1 && isocenter reload
                                                 the server refuses it from now on
  isocenter certs renew                          sign again what ends within 60 days
  isocenter certs init --ca-dir ./test-ca        a CA elsewhere; serve makes its own by itself
  isocenter certs init --key rsa-3072            before the first start, where peers know RSA only

Where the hospital has a CA of its own, none of this is needed: set tls.certificate, tls.key, tls.ca
and tls.crl.

exit codes: 0 done, 1 not done, 2 wrong arguments or settings"""

_MOST_PASSPHRASE_BYTES: Final = 1_024


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The actions and their options."""
    where = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    where.add_argument(
        "--ca-dir", type=Path, metavar="DIR", help=f"the CA (default: {CA_FOLDER} in the data dir)"
    )
    where.add_argument(
        "--data-dir", dest="storage.data_dir", metavar="DIR", help="data directory of the archive"
    )
    where.add_argument("--config", metavar="FILE", help="settings of the archive (TOML)")
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)

    def action(name: str, text: str) -> argparse.ArgumentParser:
        return actions.add_parser(
            name, help=text, description=text, parents=[where], allow_abbrev=False
        )

    init = action("init", "make a new CA")
    _add_key(init)
    issue = action("issue", "make a key and sign a certificate for it")
    issue.add_argument("name", metavar="NAME", help="what its files are called")
    issue.add_argument("--ae-title", metavar="AET", help="AE title of the holder (default: NAME)")
    _add_holder(issue)
    _add_key(issue)
    _add_pkcs12(issue, "write NAME.p12 with a passphrase in the place of NAME.key")
    sign = action("sign", "sign the key of a certificate signing request (PKCS #10)")
    sign.add_argument("request", type=Path, metavar="CSR", help="the request, PEM or DER")
    sign.add_argument("--name", metavar="NAME", help="what its file is called (default: as CSR)")
    sign.add_argument(
        "--ae-title", metavar="AET", help="AE title of the holder (default: common name of CSR)"
    )
    _add_holder(sign)
    action("list", "show what was issued")
    revoke = action("revoke", "revoke the certificates of NAME")
    revoke.add_argument("name", metavar="NAME")
    renew = action("renew", "sign again what ends soon, or NAME")
    renew.add_argument("name", metavar="NAME", nargs="?")
    _add_pkcs12(renew, "write NAME.p12 anew as well, with the passphrase that it has")


def _add_holder(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="where to write it (default: in the CA's directory)"
    )
    parser.add_argument(
        "--host",
        action="append",
        default=[],
        metavar="H",
        help="a name or an address that the holder is reached by (repeatable)",
    )
    parser.add_argument(
        "--days",
        type=whole_number(1, LIFETIME.days),
        default=LIFETIME.days,
        metavar="N",
        help="for how long it is valid (default and at most: %(default)s)",
    )


def _add_key(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--key",
        choices=[kind.value for kind in KeyKind],
        default=DEFAULT_KEY.value,
        help="kind of key (default: %(default)s; RSA for peers that know nothing else)",
    )


def _add_pkcs12(parser: argparse.ArgumentParser, text: str) -> None:
    parser.add_argument(
        "--pkcs12",
        nargs="?",
        const=Pkcs12.AES.value,
        choices=[kind.value for kind in Pkcs12],
        help=f"{text}; 3des for Windows and Java from before 2019 (default: aes)",
    )
    parser.add_argument(
        "--passphrase-file",
        type=Path,
        metavar="FILE",
        help="holds the passphrase (default: ask for it on the terminal)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Do it, and say what was done.

    Raises:
        CertificateError, SettingsError: why not, and what would help.
    """
    directory, tell = _ca(arguments)
    match arguments.action:
        case "init":
            authority = CertificateAuthority.create(directory, key_kind=KeyKind(arguments.key))
            tell("certificate authority made")
            print(f"new CA in {authority.directory}")
            print(f"{authority.certificate_path} is what peers have to trust")
        case "issue":
            issued = CertificateAuthority(directory).issue(
                arguments.name,
                ae_title=arguments.ae_title,
                hosts=arguments.host,
                folder=arguments.out,
                key_kind=KeyKind(arguments.key),
                passphrase=_passphrase(arguments, twice=True),
                pkcs12=Pkcs12(arguments.pkcs12 or Pkcs12.AES.value),
                lifetime=timedelta(days=arguments.days),
            )
            tell(f"certificate {issued.name} issued for AE title {issued.common_name}")
            end = "key" if arguments.pkcs12 is None else "p12"
            _print_issued(issued, f"{issued.name}.crt", f"{issued.name}.{end}", "ca.crt")
        case "sign":
            _sign(CertificateAuthority(directory), tell, arguments)
        case "list":
            _print_table(CertificateAuthority(directory).issued())
        case "revoke":
            revoked = CertificateAuthority(directory).revoke(arguments.name)
            tell(f"certificate {arguments.name} revoked")
            for issued in revoked:
                print(f"revoked {issued.name}, serial number {issued.serial_number:x}")
            print("a server that runs refuses it after isocenter reload")
        case "renew":
            renewed = CertificateAuthority(directory).renew(
                arguments.name,
                passphrase=_passphrase(arguments, twice=False),
                pkcs12=Pkcs12(arguments.pkcs12 or Pkcs12.AES.value),
            )
            if renewed:
                tell(f"certificates renewed: {', '.join(one.name for one in renewed)}")
            for issued in renewed:
                print(
                    f"{issued.name}, for AE title {issued.common_name}: "
                    f"{issued.folder / issued.name}.crt is valid until {_day(issued)}"
                )
                bundle = issued.folder / f"{issued.name}.p12"
                if bundle.exists() and arguments.pkcs12 is None:
                    print(
                        f"  {bundle} holds the old one still; isocenter certs renew {issued.name} "
                        "--pkcs12 writes it anew"
                    )
            print(
                "a server that runs uses its own after isocenter reload"
                if renewed
                else "nothing ends soon"
            )
    return 0


def _sign(
    authority: CertificateAuthority, tell: Callable[[str], None], arguments: argparse.Namespace
) -> None:
    request = read_request(arguments.request)
    issued = authority.sign(
        request,
        arguments.name or arguments.request.stem,
        ae_title=arguments.ae_title,
        hosts=arguments.host,
        folder=arguments.out,
        lifetime=timedelta(days=arguments.days),
    )
    tell(f"certificate {issued.name} signed for AE title {issued.common_name}")
    _print_issued(issued, f"{issued.name}.crt", "ca.crt")
    if request.common_name != issued.common_name:
        print(f"the request was for {request.common_name!r}")
    given = {host.strip("[]").lower() for host in arguments.host}
    left_out = [name for name in request.names if name.lower() not in given]
    if left_out:
        print(
            f"not in it, though the request asks for them: {', '.join(left_out)}. A name in a "
            "certificate is a right; give those that are the holder's with --host"
        )


def _print_issued(issued: Issued, *files: str) -> None:
    print(f"certificate for AE title {issued.common_name}, valid until {_day(issued)}:")
    for file in files:
        print(f"  {issued.folder / file}")


def _passphrase(arguments: argparse.Namespace, *, twice: bool) -> bytes | None:
    """The passphrase of a PKCS #12 file; None: none is wanted.

    Raises:
        CertificateError: it is missing, or cannot be one.
    """
    path: Path | None = arguments.passphrase_file
    if arguments.pkcs12 is None:
        if path is not None:
            raise CertificateError("--passphrase-file is for --pkcs12; give both")
        return None
    if path is not None:
        try:
            with path.open("rb") as file:
                passphrase = file.read(_MOST_PASSPHRASE_BYTES).rstrip(b"\r\n")
        except OSError as error:
            raise CertificateError(f"{path}: {text_of(error)}") from error
    elif sys.stdin.isatty():
        passphrase = getpass("Passphrase: ").encode()
        if twice and getpass("Once more: ").encode() != passphrase:
            raise CertificateError("the two passphrases differ; nothing was written")
    else:
        raise CertificateError("--pkcs12 needs a passphrase: --passphrase-file FILE")
    check_passphrase(passphrase)
    return passphrase


def _ca(arguments: argparse.Namespace) -> tuple[Path, Callable[[str], None]]:
    """The folder of the CA, and what has a change of it recorded: a CA elsewhere is no archive's,
    and has no audit trail."""
    if arguments.ca_dir is not None:
        given: Path = arguments.ca_dir
        return given.expanduser().absolute(), lambda what: None
    data_dir = getattr(arguments, "storage.data_dir")
    overrides = {} if data_dir is None else {"storage.data_dir": data_dir}
    settings = load_settings(arguments.config, overrides=overrides)
    if settings.storage.is_in_memory:
        raise SettingsError(
            "storage.data_dir", "certs", "is in memory, where no CA lasts; give --ca-dir DIR"
        )
    recorded = RecordedChanges(settings, "isocenter certs", "certificates")
    return settings.storage.data_dir.absolute() / CA_FOLDER, recorded.tell


def _day(issued: Issued) -> str:
    return f"{issued.not_after:%Y-%m-%d}"


def _print_table(issued: Iterable[Issued]) -> None:
    rows = [("NAME", "AE TITLE", "STATE", "UNTIL", "SERIAL NUMBER")]
    rows += [
        (one.name, one.common_name, one.state(), _day(one), f"{one.serial_number:x}")
        for one in issued
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True))
        print("  ".join(cells).rstrip())
