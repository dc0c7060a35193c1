"""``isocenter ae``: who may associate, and for what; who was turned away."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Final, TypeVar

from isocenter.engine.fast_init import dataclass
from isocenter.engine.negotiation import associate_request
from isocenter.engine.uid import IMPLICIT_VR_LITTLE_ENDIAN, VERIFICATION, is_uid
from isocenter.services.association.access import ConnectionOrigin
from isocenter.services.cli import EXIT_FAILED, EXIT_OK
from isocenter.services.cli.security.ae_output import (
    names_of,
    print_entity,
    print_list,
    rejected_lines,
    without_entities,
)
from isocenter.services.cli.support.recorded_changes import RecordedChanges
from isocenter.services.composition.access import access_folder, access_of
from isocenter.services.dicom import uid_registry as sop_classes
from isocenter.services.net.peer_identity import PeerIdentity
from isocenter.services.net.tls.certificates import identity_of_file
from isocenter.services.security.access.access_control import PolicyAccessControl
from isocenter.services.security.access.enforcement import Enforcement
from isocenter.services.security.access.errors import PolicyError
from isocenter.services.security.access.permissions import (
    DEFAULT_ROLE,
    Permissions,
    operations,
    parse_permission,
    permission_texts,
    union,
    without,
)
from isocenter.services.security.access.policy import (
    ApplicationEntity,
    CertificateRule,
    Policy,
    with_entity,
)
from isocenter.services.security.access.policy_file import CurrentPolicy, PolicyFile
from isocenter.services.security.access.rejected_callers import RejectedFile
from isocenter.services.settings.errors import SettingsError
from isocenter.services.settings.loading import load_settings
from isocenter.services.settings.options import CONFIG_VARIABLE
from isocenter.services.settings.settings import Settings
from isocenter.services.system.log_format import escape

DESCRIPTION: Final = """\
Which application entities may associate with the archive, by which certificates, from where,
and for what.  As long as there is none, everybody is admitted as the settings say (--allow,
tls.identity); from the first on, only those that stand here are (access.enforce).  A server that
runs obeys at once, also for associations that stand."""

EXAMPLES: Final = """\
examples:
  isocenter ae rejected                          who was turned away, and what would admit them
  isocenter ae add CT1 --certificate CT1.crt     a modality, by its certificate
  isocenter ae add WS7 --role Radiologist --address 10.1.7.0/24 --tls
  isocenter ae add 'MR*' --issuer 'CN=MR vendor CA' --sop-class MRImageStorage
  isocenter ae allow WS7 C-MOVE                  also what that operation needs
  isocenter ae add WS8 --user alice              the workstation of a user, with what she may do
  isocenter ae deny WS7 study:delete             whatever its roles say
  isocenter ae deny CT1                          turn it away, and keep what was said of it
  isocenter ae role Reader C-FIND C-GET          make a role, or replace one
  isocenter ae test CT1 --certificate CT1.crt    what the server would answer
  isocenter ae list

roles: Viewer, Modality, Technologist, Radiologist, Administrator, System
permissions: RESOURCE:ACTION, as study:write or study:read+export, or an operation, as C-STORE

exit codes: 0 done (test: admitted), 1 not (test: rejected), 2 wrong arguments or settings"""

T = TypeVar("T")

#: Where ``test`` lets the caller come from when nobody says.
_LOOPBACK: Final = "127.0.0.1"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The actions and their options."""
    where = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    where.add_argument(
        "--data-dir", dest="storage.data_dir", metavar="DIR", help="data directory of the archive"
    )
    where.add_argument("--config", metavar="FILE", help="settings of the archive (TOML)")
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)

    def action(name: str, text: str, title: bool = True) -> argparse.ArgumentParser:
        made = actions.add_parser(
            name, help=text, description=text, parents=[where], allow_abbrev=False
        )
        if title:
            made.add_argument("ae_title", metavar="AET", help="calling AE title (* and ? allowed)")
        return made

    add = action("add", "admit an application entity")
    _add_facts(add)
    add.add_argument(
        "--role",
        action="append",
        metavar="ROLE",
        help=f"what it may do (repeatable; default: {DEFAULT_ROLE})",
    )
    add.add_argument("--tls", action="store_true", help="over TLS only")
    add.add_argument("--description", default="", metavar="TEXT", help="for whoever reads it later")
    allow = action("allow", "admit it again, or allow more: permissions, certificates, addresses")
    _add_facts(allow)
    allow.add_argument("permission", nargs="*", metavar="PERMISSION")
    allow.add_argument("--role", action="append", default=[], metavar="ROLE", help="a role more")
    deny = action("deny", "turn it away, or take something from it")
    _add_facts(deny)
    deny.add_argument("permission", nargs="*", metavar="PERMISSION")
    deny.add_argument("--role", action="append", default=[], metavar="ROLE", help="a role less")
    action("show", "everything about one")
    action("remove", "forget it")
    action("list", "all of them", title=False)
    test = action("test", "what the server would answer, and what it would allow")
    test.add_argument("--called", metavar="AET", help="called AE title (default: ours)")
    test.add_argument("--certificate", type=Path, metavar="FILE", help="that it shows (PEM)")
    test.add_argument("--address", default=_LOOPBACK, metavar="A", help="it calls from")
    test.add_argument("--tls", action="store_true", help="over TLS, without a certificate")
    test.add_argument("--user", default="", metavar="NAME", help="who has proven to be this user")
    role = action("role", "what roles may do; or replace, or make, one", title=False)
    role.add_argument("role_name", nargs="?", metavar="ROLE")
    role.add_argument("permission", nargs="*", metavar="PERMISSION")
    rejected = action("rejected", "who was turned away, and what would admit them", title=False)
    rejected.add_argument("--clear", action="store_true", help="forget all of them")


def _add_facts(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--certificate", type=Path, metavar="FILE", help="its certificate (PEM): by fingerprint"
    )
    parser.add_argument("--fingerprint", metavar="HEX", help="SHA-256 of its certificate")
    parser.add_argument("--subject", metavar="DN", help="subject of its certificate (RFC 4514)")
    parser.add_argument("--name", metavar="NAME", help="common name or alternative name in it")
    parser.add_argument("--issuer", metavar="DN", help="the CA that issued it (RFC 4514)")
    parser.add_argument(
        "--address", action="append", default=[], metavar="NET", help="it calls from (repeatable)"
    )
    parser.add_argument(
        "--sop-class",
        action="append",
        default=[],
        metavar="UID",
        help="SOP class that it may use, as UID or keyword (repeatable; none: all)",
    )
    parser.add_argument(
        "--user",
        default="",
        metavar="NAME",
        help="who is at it, unless somebody else proves to be there: the user's roles count, too",
    )


@dataclass(frozen=True, slots=True)
class _Facts:
    """What the options say of an application entity."""

    certificates: tuple[CertificateRule, ...]
    addresses: tuple[str, ...]
    sop_classes: frozenset[str]
    roles: tuple[str, ...]
    permissions: Permissions
    user: str

    def __bool__(self) -> bool:
        return any(
            (
                self.certificates,
                self.addresses,
                self.sop_classes,
                self.roles,
                self.permissions,
                self.user,
            )
        )


def run(arguments: argparse.Namespace) -> int:
    """Do it, and say what was done.

    Raises:
        PolicyError, SettingsError, TlsFileError: why not, and what would help.
    """
    data_dir = getattr(arguments, "storage.data_dir")
    overrides = {} if data_dir is None else {"storage.data_dir": data_dir}
    settings = load_settings(arguments.config, overrides=overrides)
    folder = access_folder(settings)
    if folder is None:
        raise SettingsError("storage.data_dir", "ae", "is in memory, where no policy lasts")
    file = PolicyFile(folder)
    recorded = RecordedChanges(settings, "isocenter ae", "policy")
    match arguments.action:
        case "rejected":
            return _rejected(RejectedFile(folder), arguments.clear)
        case "list":
            print_list(file.read(), settings.access.enforce)
            if arguments.config is None and not os.environ.get(CONFIG_VARIABLE):
                print(
                    f"no --config: access.enforce is taken for {settings.access.enforce.value}, "
                    "which the settings of the server may say otherwise",
                    file=sys.stderr,
                )
        case "show":
            policy = file.read()
            print_entity(policy, _known(policy, arguments.ae_title))
        case "test":
            return _test(settings, file, arguments)
        case "role":
            _role(file, recorded, arguments.role_name, _permissions_of(arguments))
        case "remove":
            _remove(file, recorded, arguments.ae_title, settings.access.enforce)
        case _:
            _change(file, recorded, arguments, settings.access.enforce)
    return EXIT_OK


def _facts_of(arguments: argparse.Namespace) -> _Facts:
    fingerprint = (arguments.fingerprint or "").replace(":", "").lower()
    if arguments.certificate is not None:
        fingerprint = identity_of_file(arguments.certificate).fingerprint
    named = (fingerprint, arguments.subject, arguments.name, arguments.issuer)
    rules: tuple[CertificateRule, ...] = ()
    if any(named):
        given = dict(zip(("fingerprint", "subject", "name", "issuer"), named, strict=True))
        rules = (CertificateRule(**{name: value or "" for name, value in given.items()}),)
    return _Facts(
        certificates=rules,
        addresses=tuple(arguments.address),
        sop_classes=frozenset(_sop_class(text) for text in arguments.sop_class),
        roles=tuple(arguments.role or ()),
        permissions=_permissions_of(arguments),
        user=arguments.user,
    )


def _permissions_of(arguments: argparse.Namespace) -> Permissions:
    try:
        return union(parse_permission(text) for text in getattr(arguments, "permission", ()))
    except ValueError as error:
        raise PolicyError(str(error)) from None


def _sop_class(text: str) -> str:
    known = sop_classes.uid_of_keyword(text) or text
    if not is_uid(known):
        raise PolicyError(f"{text!r} is no SOP class: give its UID, or a keyword as CTImageStorage")
    return known


#: What the audit trail says of each.
_DONE: Final = {"add": "admitted", "allow": "may more", "deny": "may less"}


def _change(
    file: PolicyFile,
    recorded: RecordedChanges,
    arguments: argparse.Namespace,
    enforcement: Enforcement,
) -> None:
    title, facts = arguments.ae_title, _facts_of(arguments)
    edits: dict[str, Callable[[Policy], ApplicationEntity]] = {
        "add": lambda policy: _added(policy, title, facts, arguments),
        "allow": lambda policy: _allowed(_known(policy, title), facts),
        "deny": lambda policy: _denied(_known(policy, title), facts),
    }
    was_first = False

    def edit(policy: Policy) -> Policy:
        nonlocal was_first
        was_first = not policy.entities
        return replace(policy, entities=with_entity(policy, edits[arguments.action](policy)))

    done = _DONE[arguments.action]
    if arguments.action == "deny" and not facts:
        done = "turned away"
    policy = file.change(recorded.of(edit, f"application entity {title} {done}"))
    entity = _known(policy, title)
    if not entity.active:
        print(f"{title} is turned away from now on")
        return
    print(f"{title} may: {' '.join(operations(policy.permissions(entity, None)))}")
    if enforcement is Enforcement.NEVER:
        print("the policy is not enforced: access.enforce is never")
    elif was_first and enforcement is Enforcement.AUTO:
        print(
            "the policy is enforced from now on: any other AE title is rejected "
            "(isocenter ae rejected shows who)"
        )


def _added(
    policy: Policy, title: str, facts: _Facts, arguments: argparse.Namespace
) -> ApplicationEntity:
    if any(one.ae_title == title for one in policy.entities):
        raise PolicyError(
            f"{title} is there already; change it with isocenter ae allow or deny, or remove it"
        )
    return ApplicationEntity(
        ae_title=title,
        certificates=facts.certificates,
        addresses=facts.addresses,
        sop_classes=facts.sop_classes,
        tls=arguments.tls,
        # Who is for a user alone has the roles of the user.
        roles=facts.roles or (() if facts.user else (DEFAULT_ROLE,)),
        description=arguments.description,
        user=facts.user,
    )


def _allowed(entity: ApplicationEntity, facts: _Facts) -> ApplicationEntity:
    return replace(
        entity,
        active=True,
        certificates=_joined(entity.certificates, facts.certificates),
        addresses=_joined(entity.addresses, facts.addresses),
        sop_classes=entity.sop_classes | facts.sop_classes,
        roles=_joined(entity.roles, facts.roles),
        allowed=union([entity.allowed, facts.permissions]),
        denied=without(entity.denied, facts.permissions),
        user=facts.user or entity.user,
    )


def _denied(entity: ApplicationEntity, facts: _Facts) -> ApplicationEntity:
    if not facts:
        return replace(entity, active=False)
    if facts.user and facts.user != entity.user:
        raise PolicyError(f"{facts.user} is not the user of {entity.ae_title}")
    left = replace(
        entity,
        user="" if facts.user else entity.user,
        certificates=tuple(one for one in entity.certificates if one not in facts.certificates),
        addresses=tuple(one for one in entity.addresses if one not in facts.addresses),
        sop_classes=entity.sop_classes - facts.sop_classes,
        roles=tuple(one for one in entity.roles if one not in facts.roles),
        allowed=without(entity.allowed, facts.permissions),
        denied=union([entity.denied, facts.permissions]),
    )
    # Without the last of them everything would be allowed, which nobody means by "deny".
    for what, before, after in (
        ("certificate", entity.certificates, left.certificates),
        ("address", entity.addresses, left.addresses),
        ("SOP class", entity.sop_classes, left.sop_classes),
    ):
        if before and not after:
            raise PolicyError(
                f"{entity.ae_title} has no other {what}, and without any it may use all; allow "
                f"another first, or turn it away (isocenter ae deny {entity.ae_title})"
            )
    return left


def _joined(known: Iterable[T], new: Iterable[T]) -> tuple[T, ...]:
    return tuple(dict.fromkeys((*known, *new)))


def _known(policy: Policy, title: str) -> ApplicationEntity:
    for one in policy.entities:
        if one.ae_title == title:
            return one
    raise PolicyError(f"{title} is not in the policy; admit it with isocenter ae add {title}")


def _role(
    file: PolicyFile, recorded: RecordedChanges, name: str | None, permissions: Permissions
) -> None:
    """Show all roles, or let *name* have these permissions from now on."""

    def edit(policy: Policy) -> Policy:
        return replace(policy, roles={**policy.roles, str(name): permissions})

    if name is None or not permissions:
        policy = file.read()
    else:
        words = " ".join(permission_texts(permissions))
        policy = file.change(recorded.of(edit, f"role {name} gives {words}"))
    if name is not None and name not in policy.all_roles:
        raise PolicyError(f"there is no role {name!r}; make it with isocenter ae role {name} ...")
    for role, allowed in policy.all_roles.items():
        if name in (None, role):
            print(escape(f"{role:<14} {' '.join(permission_texts(allowed))}"))


def _remove(
    file: PolicyFile, recorded: RecordedChanges, title: str, enforcement: Enforcement
) -> None:
    def edit(policy: Policy) -> Policy:
        gone = _known(policy, title)
        return replace(policy, entities=tuple(one for one in policy.entities if one != gone))

    policy = file.change(recorded.of(edit, f"application entity {title} removed"))
    print(f"{title} is removed")
    if not policy.entities:
        print(f"it was the last one: {without_entities(enforcement)}", file=sys.stderr)


def _test(settings: Settings, file: PolicyFile, arguments: argparse.Namespace) -> int:
    identity: PeerIdentity | None = None
    if arguments.certificate is not None:
        identity = identity_of_file(arguments.certificate)
    control = PolicyAccessControl(
        access_of(settings), CurrentPolicy(file), enforcement=settings.access.enforce
    )
    request = associate_request(
        arguments.called or settings.server.ae_title,
        arguments.ae_title,
        [(VERIFICATION, [IMPLICIT_VR_LITTLE_ENDIAN])],
    )
    origin = ConnectionOrigin(
        host=arguments.address, is_tls=arguments.tls or identity is not None, identity=identity
    )
    rejected = control.check(request, origin)
    if rejected is not None:
        reject = rejected.reject
        print(f"rejected ({reject.result}/{reject.source}/{reject.reason}): {rejected.why}")
        if rejected.cure:
            print(f"to admit it: {rejected.cure}")
        return EXIT_FAILED
    policy = file.read()
    rights = control.rights(request, origin, arguments.user, policy)
    if rights is None:
        print("admitted, for everything (no policy is enforced)")
        return EXIT_OK
    if rights.turned_away:
        print(f"rejected: {rights.turned_away}")
        return EXIT_FAILED
    print(f"admitted, for {' '.join(operations(rights.permissions))}")
    if rights.sop_classes:
        print(f"on {names_of(rights.sop_classes)}")
    return EXIT_OK


def _rejected(file: RejectedFile, is_to_clear: bool) -> int:
    if is_to_clear:
        print(f"forgot {file.clear()} callers")
        return EXIT_OK
    callers = file.read()
    if not callers:
        print("nobody was turned away")
    for caller in callers:
        print(rejected_lines(caller))
    return EXIT_OK
