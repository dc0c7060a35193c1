"""Policy: application entities, users and roles, and its text form."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import field, fields
from itertools import chain
from types import MappingProxyType
from typing import Any, Final

import orjson

from isocenter.engine.ae import is_ae_title
from isocenter.engine.fast_init import dataclass
from isocenter.engine.uid import is_uid
from isocenter.services.dicom.wildcards import wildcard_match
from isocenter.services.net.addresses import is_network, is_within
from isocenter.services.net.peer_identity import PeerIdentity
from isocenter.services.security.access.errors import PolicyError
from isocenter.services.security.access.permissions import (
    DEFAULT_ROLE,
    NO_PERMISSIONS,
    ROLES,
    Permissions,
    parse_permission,
    permission_texts,
    union,
    without,
)

_FORMAT: Final = 1
_HEX_DIGITS: Final = frozenset("0123456789abcdef")
_SHA256_DIGITS: Final = 64
_MOST_NAME: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateRule:
    """Which certificates it means; whatever is given must fit.

    Attributes:
        fingerprint: SHA-256 of the certificate, 64 lower-case hexadecimal digits.
        subject: as RFC 4514 writes it.
        name: the common name, or a subject alternative name.
        issuer: the issuing CA, as RFC 4514 writes it.
    """

    fingerprint: str = ""
    subject: str = ""
    name: str = ""
    issuer: str = ""

    def __post_init__(self) -> None:
        if not any((self.fingerprint, self.subject, self.name, self.issuer)):
            raise PolicyError("a rule for certificates needs a fingerprint, subject, name or CA")
        if self.fingerprint and (
            len(self.fingerprint) != _SHA256_DIGITS or not _HEX_DIGITS.issuperset(self.fingerprint)
        ):
            raise PolicyError(
                f"{self.fingerprint!r} is no SHA-256 fingerprint: 64 hexadecimal digits"
            )

    def matches(self, identity: PeerIdentity) -> bool:
        """Whether *identity* is meant."""
        names = (identity.common_name, *identity.subject_alternative_names)
        return (
            self.fingerprint in ("", identity.fingerprint)
            and self.subject in ("", identity.subject)
            and self.issuer in ("", identity.issuer)
            and (not self.name or self.name in names)
        )

    def __str__(self) -> str:
        parts = ((one.name, getattr(self, one.name)) for one in fields(self))
        return ", ".join(f"{name} {value}" for name, value in parts if value)


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplicationEntity:
    """A calling AE title, who may use it, and for what.

    Attributes:
        ae_title: with ``*`` and ``?`` as wild cards.
        certificates: one of them must fit, when there are any; empty: over TLS what the
            settings say (``tls.identity``) holds.
        addresses: where it may call from, as networks; empty: anywhere.
        tls: it may call over TLS only.
        allowed, denied: permissions beside those of the roles, and those that nothing gives.
        sop_classes: the only abstract syntaxes that it may use, beside Verification;
            empty: all.
        active: whether it may associate at all.
        user: who is at it when nobody proves to be somebody else: it has the permissions of that
            user beside those of its roles; empty: nobody is known.
    """

    ae_title: str
    certificates: tuple[CertificateRule, ...] = ()
    addresses: tuple[str, ...] = ()
    tls: bool = False
    roles: tuple[str, ...] = (DEFAULT_ROLE,)
    allowed: Permissions = field(default_factory=dict)
    denied: Permissions = field(default_factory=dict)
    sop_classes: frozenset[str] = frozenset()
    active: bool = True
    description: str = ""
    user: str = ""

    def __post_init__(self) -> None:
        _check(is_ae_title(self.ae_title), "AE title", self.ae_title)
        for address in self.addresses:
            _check(is_network(address), "address or network (10.1.0.0/16)", address)
        for uid in self.sop_classes:
            _check(is_uid(uid), "UID", uid)

    def comes_from(self, host: str) -> bool:
        """Whether it may call from *host*, an address."""
        return not self.addresses or is_within(host, self.addresses)

    @property
    def needs_tls(self) -> bool:
        """Whether it is turned away in the clear."""
        return self.tls or bool(self.certificates)


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """Somebody whom a user identity item can prove (PS3.7 D.3.3.7).

    Attributes:
        password_hash: argon2id; empty: there is no passcode that fits.
        without_passcode: the name alone is believed (User-Identity-Type 1).
        subjects: how tokens, tickets and assertions call this user, beside its name.
        totp_secret: of its one-time codes, in base 32, asked for where it signs in with a browser;
            empty: none are.
    """

    name: str
    password_hash: str = field(default="", repr=False)
    without_passcode: bool = False
    roles: tuple[str, ...] = ()
    subjects: tuple[str, ...] = ()
    active: bool = True
    totp_secret: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        _check(
            0 < len(self.name) <= _MOST_NAME
            and self.name.isprintable()
            and self.name == self.name.strip(),
            f"user name (1 to {_MOST_NAME} characters)",
            self.name,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Who may do what.  Without application entities nothing is enforced.

    Attributes:
        roles: what replaces, or comes beside, the roles that there are anyway.
    """

    entities: tuple[ApplicationEntity, ...] = ()
    users: tuple[User, ...] = ()
    roles: Mapping[str, Permissions] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for kind, names in (
            ("AE title", [one.ae_title for one in self.entities]),
            ("user", [one.name for one in self.users]),
        ):
            twice = {name for name in names if names.count(name) > 1}
            if twice:
                raise PolicyError(f"{kind} {min(twice)!r} stands there twice")
        known = self.all_roles
        used = [one.roles for one in self.entities] + [one.roles for one in self.users]
        for role in chain.from_iterable(used):
            if role not in known:
                raise PolicyError(f"there is no role {role!r}; there are {', '.join(known)}")
        names_of_users = {one.name for one in self.users}
        for entity in self.entities:
            if entity.user and entity.user not in names_of_users:
                raise PolicyError(
                    f"{entity.ae_title} is for the user {entity.user!r}, and there is none; make "
                    "it with isocenter user add, or name another (isocenter ae allow "
                    f"{entity.ae_title} --user NAME)"
                )

    @property
    def all_roles(self) -> Mapping[str, Permissions]:
        """Every role by its name."""
        return {**ROLES, **self.roles}

    def entity(self, ae_title: str) -> ApplicationEntity | None:
        """Whose *ae_title* is: the same text before patterns, and the longest pattern first."""
        fitting = [one for one in self.entities if wildcard_match(one.ae_title, ae_title)]
        return max(
            fitting,
            key=lambda one: (
                one.ae_title == ae_title,
                len(one.ae_title.replace("*", "").replace("?", "")),
            ),
            default=None,
        )

    def user(self, name: str) -> User | None:
        """The user of that name."""
        return next((one for one in self.users if one.name == name), None)

    def user_of_subject(self, subject: str) -> User | None:
        """Whom a token or ticket for *subject* means."""
        return next(
            (one for one in self.users if subject == one.name or subject in one.subjects), None
        )

    def user_behind(self, entity: ApplicationEntity | None) -> User | None:
        """Who is at *entity* when nobody proves to be somebody else."""
        return self.user(entity.user) if entity is not None and entity.user else None

    def is_admitted(self, entity: ApplicationEntity) -> bool:
        """Whether *entity* may associate at all: it is not turned away, nor is its user."""
        behind = self.user_behind(entity)
        return entity.active and (behind is None or behind.active)

    def roles_of(self, entity: ApplicationEntity | None, user: User | None) -> tuple[str, ...]:
        """The roles of *entity* and of *user*; None: of who is behind the entity."""
        user = user or self.user_behind(entity)
        return (*(entity.roles if entity else ()), *(user.roles if user else ()))

    def permissions(self, entity: ApplicationEntity | None, user: User | None) -> Permissions:
        """What *user* on *entity* may do: the permissions of both, without what is denied; None:
        who is behind the entity."""
        roles = self.all_roles
        given = union(
            [
                entity.allowed if entity else NO_PERMISSIONS,
                *(roles[name] for name in self.roles_of(entity, user)),
            ]
        )
        return without(given, entity.denied if entity else NO_PERMISSIONS)


def _check(is_allowed: bool, what: str, value: str) -> None:
    if not is_allowed:
        raise PolicyError(f"{value!r} is no {what}")


# As text.


def to_text(policy: Policy) -> bytes:
    """The policy as JSON for a file."""
    document = {
        "format": _FORMAT,
        "roles": {name: permission_texts(role) for name, role in policy.roles.items()},
        "application_entities": [_entity_document(one) for one in policy.entities],
        "users": [_user_document(one) for one in policy.users],
    }
    return orjson.dumps(document, option=orjson.OPT_INDENT_2) + b"\n"


def _entity_document(one: ApplicationEntity) -> dict[str, Any]:
    document: dict[str, Any] = {
        "ae_title": one.ae_title,
        "certificates": [
            {f.name: getattr(rule, f.name) for f in fields(rule) if getattr(rule, f.name)}
            for rule in one.certificates
        ],
        "addresses": one.addresses,
        "tls": one.tls,
        "roles": one.roles,
        "allowed": permission_texts(one.allowed),
        "denied": permission_texts(one.denied),
        "sop_classes": sorted(one.sop_classes),
        "active": one.active,
        "description": one.description,
    }
    if one.user:
        document["user"] = one.user  # programs from before there was any read the rest
    return document


def _user_document(user: User) -> dict[str, Any]:
    document = {one.name: getattr(user, one.name) for one in fields(user)}
    if not user.totp_secret:
        del document["totp_secret"]  # programs from before there were any read the rest
    return document


def from_text(text: bytes) -> Policy:
    """The policy in a file.

    Raises:
        PolicyError: it is none; the message says what is wrong with it.
    """
    try:
        document = orjson.loads(text)
        if not isinstance(document, dict) or document.get("format") != _FORMAT:
            raise PolicyError(f"it is no policy of format {_FORMAT}")
        return Policy(
            entities=tuple(_entity(one) for one in document["application_entities"]),
            users=tuple(
                User(**_typed(one, User) | _tuples(one, "roles", "subjects"))
                for one in document["users"]
            ),
            roles=MappingProxyType(
                {name: _permissions(role) for name, role in document["roles"].items()}
            ),
        )
    except PolicyError:
        raise
    except KeyError as error:
        raise PolicyError(f"{error} is missing") from error
    except (ValueError, TypeError, AttributeError) as error:
        raise PolicyError(f"it cannot be read ({error})") from error


def _entity(one: dict[str, Any]) -> ApplicationEntity:
    return ApplicationEntity(
        **_typed(one, ApplicationEntity)
        | _tuples(one, "addresses", "roles")
        | {
            "certificates": tuple(
                CertificateRule(**_typed(rule, CertificateRule)) for rule in one["certificates"]
            ),
            "allowed": _permissions(one["allowed"]),
            "denied": _permissions(one["denied"]),
            "sop_classes": frozenset(_texts(one["sop_classes"])),
        }
    )


def _typed(one: dict[str, Any], kind: type) -> dict[str, Any]:
    """The fields of *one*, which are text or true or false where *kind* says so."""
    types = {each.name: each.type for each in fields(kind)}
    for name, value in one.items():
        if name not in types:
            raise PolicyError(f"{name!r} means nothing here; there are {', '.join(types)}")
        if types[name] in ("str", "bool") and type(value).__name__ != types[name]:
            raise PolicyError(
                f"{name} must be {'text' if types[name] == 'str' else 'true or false'}"
            )
    return dict(one)


def _tuples(one: dict[str, Any], *names: str) -> dict[str, tuple[str, ...]]:
    return {name: _texts(one[name]) for name in names}


def _texts(values: Any) -> tuple[str, ...]:
    if not isinstance(values, list) or not all(isinstance(each, str) for each in values):
        raise PolicyError("a list of texts was expected")
    return tuple(values)


def _permissions(texts: Any) -> Permissions:
    return MappingProxyType(union(parse_permission(text) for text in _texts(texts)))


def with_entity(policy: Policy, entity: ApplicationEntity) -> tuple[ApplicationEntity, ...]:
    """The entities of *policy* with this one, new or changed, in the order of their titles."""
    return _sorted([*(e for e in policy.entities if e.ae_title != entity.ae_title), entity])


def _sorted(entities: Iterable[ApplicationEntity]) -> tuple[ApplicationEntity, ...]:
    return tuple(sorted(entities, key=lambda one: one.ae_title))
