"""``isocenter certs``: the private CA of the archive on the command line."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from isocenter.services.certificates.authority import CA_FOLDER, CertificateAuthority, Issued
from isocenter.services.settings.loading import SettingsError, load_settings

DESCRIPTION: Final = """\
Certificates for mutual TLS, signed by the private CA of the archive.  The common name of a
certificate is the AE title that its holder may use."""

EXAMPLES: Final = """\
examples:
  isocenter certs issue CT1 --out /mnt/stick     CT1.crt, CT1.key and ca.crt for AE title CT1
  isocenter certs issue ws7 --ae-title WS_7 --host ws7.example.org
                                                 also a C-MOVE destination that is reached by name
  isocenter certs list                           what was issued, and until when it is valid
  isocenter certs revoke CT1 && isocenter reload
                                                 the server refuses it from now on
  isocenter certs renew                          sign again what ends within 60 days
  isocenter certs init --ca-dir ./test-ca        a CA elsewhere; serve makes its own by itself

exit codes: 0 done, 1 not done, 2 wrong arguments or settings"""


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

    action("init", "make a new CA")
    issue = action("issue", "make a key and sign a certificate for it")
    issue.add_argument("name", metavar="NAME", help="what its files are called")
    issue.add_argument("--ae-title", metavar="AET", help="AE title of the holder (default: NAME)")
    issue.add_argument(
        "--out", type=Path, metavar="DIR", help="where to write it (default: in the CA's directory)"
    )
    issue.add_argument(
        "--host",
        action="append",
        default=[],
        metavar="H",
        help="a name or an address that the holder is reached by (repeatable)",
    )
    action("list", "show what was issued")
    revoke = action("revoke", "revoke the certificates of NAME")
    revoke.add_argument("name", metavar="NAME")
    renew = action("renew", "sign again what ends soon, or NAME")
    renew.add_argument("name", metavar="NAME", nargs="?")


def run(arguments: argparse.Namespace) -> int:
    """Do it, and say what was done.

    Raises:
        CertificateError, SettingsError: why not, and what would help.
    """
    directory = _ca_directory(arguments)
    match arguments.action:
        case "init":
            authority = CertificateAuthority.create(directory)
            print(f"new CA in {authority.directory}")
            print(f"{authority.certificate_path} is what peers have to trust")
        case "issue":
            issued = CertificateAuthority(directory).issue(
                arguments.name,
                ae_title=arguments.ae_title,
                hosts=arguments.host,
                folder=arguments.out,
            )
            print(f"certificate for AE title {issued.common_name}, valid until {_day(issued)}:")
            for file in (f"{issued.name}.crt", f"{issued.name}.key", "ca.crt"):
                print(f"  {issued.folder / file}")
        case "list":
            _print_table(CertificateAuthority(directory).issued())
        case "revoke":
            for issued in CertificateAuthority(directory).revoke(arguments.name):
                print(f"revoked {issued.name}, serial number {issued.serial_number:x}")
            print("a server that runs refuses it after isocenter reload")
        case "renew":
            renewed = CertificateAuthority(directory).renew(arguments.name)
            for issued in renewed:
                print(f"{issued.folder / issued.name}.crt is valid until {_day(issued)}")
            print(
                "a server that runs uses its own after isocenter reload"
                if renewed
                else "nothing ends soon"
            )
    return 0


def _ca_directory(arguments: argparse.Namespace) -> Path:
    if arguments.ca_dir is not None:
        given: Path = arguments.ca_dir
        return given.expanduser().absolute()
    data_dir = getattr(arguments, "storage.data_dir")
    overrides = {} if data_dir is None else {"storage.data_dir": data_dir}
    storage = load_settings(arguments.config, overrides=overrides).storage
    if storage.is_in_memory:
        raise SettingsError(
            "storage.data_dir", "certs", "is in memory, where no CA lasts; give --ca-dir DIR"
        )
    return storage.data_dir.absolute() / CA_FOLDER


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
