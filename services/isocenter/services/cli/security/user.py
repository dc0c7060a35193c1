"""``isocenter user``: users who prove who they are in the association request."""

from __future__ import annotations

import argparse
import getpass
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

from isocenter.services.cli import EXIT_OK
from isocenter.services.cli.support.recorded_changes import RecordedChanges
from isocenter.services.composition.access import access_folder
from isocenter.services.errors import text_of
from isocenter.services.security.access.errors import PolicyError
from isocenter.services.security.access.one_time_codes import new_secret, provisioning_uri
from isocenter.services.security.access.passwords import MOST_BYTES, hash_passcode
from isocenter.services.security.access.policy import Policy, User
from isocenter.services.security.access.policy_file import PolicyFile
from isocenter.services.security.access.user_changes import adding, changing
from isocenter.services.settings.errors import SettingsError
from isocenter.services.settings.loading import load_settings
from isocenter.services.system.log_format import escape

DESCRIPTION: Final = """\
Users whom the user identity item of an association request can prove (PS3.7 D.3.3.7): by name
and passcode, by a JSON Web Token, or by a Kerberos ticket or a SAML assertion where a hook is
installed.  What a user may do comes beside what the application entity may do.  Passcodes are
kept as argon2id hashes."""
EXAMPLES: Final = """\
examples:
  isocenter user add alice --role Radiologist          asks for the passcode
  isocenter user add bob --role Viewer --passcode-file bob.txt
  isocenter user add carol --no-passcode --subject carol@example.org --role Viewer
                                                       by token or ticket only
  isocenter user passwd alice
  isocenter user totp alice                            one-time codes in the browser
  isocenter user deactivate bob
  isocenter user list

exit codes: 0 done, 1 not done, 2 wrong arguments or settings"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The actions and their options."""
    where = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    where.add_argument(
        "--data-dir", dest="storage.data_dir", metavar="DIR", help="data directory of the archive"
    )
    where.add_argument("--config", metavar="FILE", help="settings of the archive (TOML)")
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)

    def action(name: str, text: str) -> argparse.ArgumentParser:
        made = actions.add_parser(
            name, help=text, description=text, parents=[where], allow_abbrev=False
        )
        if name != "list":
            made.add_argument("name", metavar="NAME")
        return made

    add = action("add", "make a user")
    add.add_argument("--role", action="append", default=[], metavar="ROLE", help="(repeatable)")
    add.add_argument(
        "--subject",
        action="append",
        default=[],
        metavar="S",
        help="how tokens, tickets and assertions call this user (repeatable; also: NAME)",
    )
    passcode = add.add_mutually_exclusive_group()
    _add_passcode_file(passcode)
    passcode.add_argument(
        "--no-passcode", action="store_true", help="proven by token, ticket or assertion only"
    )
    passcode.add_argument(
        "--without-passcode",
        action="store_true",
        help="believe the name alone (User-Identity-Type 1): anybody admitted can say it",
    )
    passwd = action("passwd", "give a user another passcode")
    _add_passcode_file(passwd)
    role = action("role", "replace the roles of a user")
    role.add_argument("role", nargs="*", metavar="ROLE")
    totp = action("totp", "ask a user for one-time codes where it signs in with a browser")
    totp.add_argument("--off", action="store_true", help="ask for none any more")
    action("deactivate", "believe this user no more")
    action("activate", "believe this user again")
    action("remove", "forget a user")
    action("list", "all of them")


def _add_passcode_file(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "--passcode-file", type=Path, metavar="FILE", help="holds the passcode (default: ask)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Do it, and say what was done.

    Raises:
        PolicyError, SettingsError: why not, and what would help.
    """
    data_dir = getattr(arguments, "storage.data_dir")
    overrides = {} if data_dir is None else {"storage.data_dir": data_dir}
    settings = load_settings(arguments.config, overrides=overrides)
    folder = access_folder(settings)
    if folder is None:
        raise SettingsError("storage.data_dir", "user", "is in memory, where no user lasts")
    file = PolicyFile(folder)
    if arguments.action == "list":
        _print_list(file.read())
        return EXIT_OK
    name = arguments.name
    edits = _Edits(file, name, RecordedChanges(settings, "isocenter user", "policy"))
    match arguments.action:
        case "add":
            _add(edits, arguments)
        case "passwd":
            hashed = hash_passcode(_passcode(arguments.passcode_file))
            edits.change(lambda user: replace(user, password_hash=hashed), "has another passcode")
            print(f"{name} has another passcode")
        case "role":
            words = " ".join(arguments.role)
            edits.change(
                lambda user: replace(user, roles=tuple(arguments.role)),
                f"has roles {words or 'none'}",
            )
            print(f"{name} is {words or 'nothing'}")
        case "totp":
            _totp(edits, settings.server.ae_title, off=arguments.off)
        case "deactivate" | "activate":
            active = arguments.action == "activate"
            words = "active" if active else "not active any more"
            edits.change(lambda user: replace(user, active=active), f"is {words}")
            print(f"{name} is {words}")
        case "remove":
            edits.change(lambda user: None, "removed")
            print(f"{name} is removed")
    return EXIT_OK


class _Edits:
    """Changes of one user, each in the audit trail."""

    def __init__(self, file: PolicyFile, name: str, recorded: RecordedChanges) -> None:
        self._file = file
        self.name = name
        self._recorded = recorded

    def change(self, change: Callable[[User], User | None], what: str) -> None:
        """Change the user that there is; None: none is left.

        Args:
            what: in words, behind its name.
        """
        self.make(changing(self.name, change), what)

    def make(self, edit: Callable[[Policy], Policy], what: str) -> None:
        """Change the policy."""
        self._file.change(self._recorded.of(edit, f"user {self.name} {what}"))


def _add(edits: _Edits, arguments: argparse.Namespace) -> None:
    by_other_means = arguments.no_passcode or arguments.without_passcode
    hashed = "" if by_other_means else hash_passcode(_passcode(arguments.passcode_file))
    user = User(
        name=arguments.name,
        password_hash=hashed,
        without_passcode=arguments.without_passcode,
        roles=tuple(arguments.role),
        subjects=tuple(arguments.subject),
    )

    words = " ".join(user.roles) or "none"
    edits.make(adding(user), f"added, with roles {words}")
    print(f"{user.name} is a user, with roles {words}")


def _totp(edits: _Edits, issuer: str, *, off: bool) -> None:
    secret = "" if off else new_secret()
    edits.change(
        lambda user: replace(user, totp_secret=secret),
        "is asked for no codes" if off else "is asked for one-time codes of a new secret",
    )
    if off:
        print(f"{edits.name} is asked for no one-time codes")
        return
    print(f"{edits.name} is asked for one-time codes from now on. An authenticator reads this")
    print("address as a QR code, or takes the secret in it; it is shown this once:")
    print(provisioning_uri(secret, edits.name, issuer))


def _passcode(path: Path | None) -> str:
    if path is not None:
        try:
            with path.open("rb") as file:
                content = file.read(MOST_BYTES + 3)
            return content.decode().removesuffix("\n").removesuffix("\r")
        except OSError as error:
            raise PolicyError(f"{path}: {text_of(error)}") from error
        except UnicodeDecodeError as error:
            raise PolicyError(f"{path}: not UTF-8 text") from error
    if not sys.stdin.isatty():
        raise PolicyError("nobody is there to be asked for the passcode; give --passcode-file")
    first = getpass.getpass("passcode: ")
    if first != getpass.getpass("again: "):
        raise PolicyError("the two are not the same; nothing was changed")
    return first


def _print_list(policy: Policy) -> None:
    if not policy.users:
        print("there are no users")
    for one in policy.users:
        proof = "passcode" if one.password_hash else "token or ticket"
        if one.without_passcode:
            proof = "name alone"
        if one.totp_secret:
            proof += " and one-time code"
        state = "" if one.active else ", not active"
        subjects = f" as {', '.join(one.subjects)}" if one.subjects else ""
        roles = " ".join(one.roles) or "no role"
        print(escape(f"{one.name}: {roles}, by {proof}{subjects}{state}"))
