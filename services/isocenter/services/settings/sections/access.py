"""TLS, who may associate, and how users prove who they are."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from isocenter.engine.fast_init import dataclass
from isocenter.services.net.addresses import is_host
from isocenter.services.net.tls.contexts import DEFAULT_PROFILE, PROFILES, ClientCertificates
from isocenter.services.net.tls.profile_names import profile_named
from isocenter.services.security.access.enforcement import Enforcement
from isocenter.services.security.access.openid_provider import OpenIdRules, is_provider_url
from isocenter.services.security.access.tokens import ALGORITHMS
from isocenter.services.settings import value_types as kinds
from isocenter.services.settings.field import COUNT, setting


class TlsIdentity(Enum):
    """What the certificate of a peer has to do with its AE title."""

    #: The common name, or an alternative name, is the calling AE title.
    CN = "cn"
    #: Any certificate of the CA may use any AE title.
    ANY = "any"


@dataclass(frozen=True, slots=True)
class TlsProfileKind:
    """A TLS profile by one of its names; its value is ours."""

    allowed: str = " or ".join(PROFILES)

    def from_toml(self, value: object) -> str:
        """A text."""
        if not isinstance(value, str):
            raise TypeError
        return self.from_text(value)

    def from_text(self, text: str) -> str:
        """Also the names of others, such as BCP195-Basic."""
        try:
            return profile_named(text)
        except ValueError as error:
            raise kinds.InvalidValueError(str(error)) from error

    def to_toml(self, value: object) -> str:
        """Quoted."""
        return kinds.toml_string(str(value))


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsSettings:
    """DICOM over TLS.  Without files of your own, the private CA in the data directory is used."""

    enabled: bool = setting(
        True,
        kinds.Boolean(),
        "serve over TLS",
        off_flag="--no-tls",
        off_help="do not serve over TLS",
    )
    host: str = setting("0.0.0.0", kinds.HOST, "address to listen on for TLS", "--tls-host", "H")  # noqa: S104 - mutual TLS is what may be reached from everywhere
    port: int = setting(
        2762, kinds.PORT, "port for TLS; 0: any free port, which is printed", "--tls-port", "N"
    )
    certificate: Path | None = setting(
        None, kinds.FilePath(), "own certificate (PEM)", "--tls-cert", "FILE"
    )
    key: Path | None = setting(
        None, kinds.FilePath(), "its private key (PEM, mode 600)", "--tls-key", "FILE"
    )
    key_password: str | None = setting(
        None, kinds.SECRET, "password of the private key", is_secret=True
    )
    ca: Path | None = setting(
        None, kinds.FilePath(), "CAs that sign the peers' certificates (PEM)", "--tls-ca", "FILE"
    )
    crl: Path | None = setting(
        None,
        kinds.FilePath("a path"),
        "certificates that were revoked (PEM): a file, or a folder of them",
        "--tls-crl",
        "FILE",
    )
    profile: str = setting(
        DEFAULT_PROFILE,
        TlsProfileKind(),
        "TLS profile (PS3.15 Annex B)",
        "--tls-profile",
        "NAME",
    )
    identity: TlsIdentity = setting(
        TlsIdentity.CN,
        kinds.Choice(TlsIdentity),
        "cn: the common name of the certificate must be the calling AE title; "
        "any: a certificate of the CA may use any AE title",
        "--tls-identity",
        "cn|any",
    )
    client_certificates: ClientCertificates = setting(
        ClientCertificates.REQUIRED,
        kinds.Choice(ClientCertificates),
        "whether peers must show a certificate",
    )
    end_revoked: bool = setting(
        True,
        kinds.Boolean(),
        "after a reload, end associations, and connections for HL7 and HTTP, whose certificate has "
        "been revoked, once the operation, message or request under way has ended",
    )
    strict: bool = setting(
        False, kinds.Boolean(), "refuse certificates that do not follow RFC 5280 to the letter"
    )

    @property
    def uses_private_ca(self) -> bool:
        """Whether no files were given, so that the CA in the data directory serves."""
        return self.certificate is None and self.key is None and self.ca is None


def _is_keys_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return False
    return not text or (
        parts.scheme == "https"
        and is_host(parts.hostname or "")
        and parts.username is None
        and port != 0
        and not parts.fragment
        and text.isascii()
        and text.isprintable()
        and " " not in text
    )


_KEYS_URL: Final = kinds.Text("an https URL without user and password", _is_keys_url)


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessSettings:
    """Who may associate."""

    allow: tuple[str, ...] = setting(
        (),
        kinds.ListOf(kinds.AE_TITLE_PATTERN),
        "a calling AE title that is admitted, with * and ? as wild cards (repeatable; none: all)",
        "--allow",
        "AET",
    )
    accept_unknown_calling_ae_title: bool = setting(
        False,
        kinds.Boolean(),
        "admit calling AE titles that are not in access.allow, too; the policy (isocenter ae) and "
        "certificates decide all the same",
    )
    enforce: Enforcement = setting(
        Enforcement.AUTO,
        kinds.Choice(Enforcement),
        "when the policy (isocenter ae) decides who may associate, and for what: auto: from its "
        "first application entity on; always: also while it has none, and nobody may; never: it "
        "does not",
    )
    uniform_rejection: bool = setting(
        False,
        kinds.Boolean(),
        "reject every unknown called or calling AE title, certificate and user with the same "
        "answer (1/1/1), so that nobody can find out which of them exist",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentitySettings:
    """User identity in the association request (PS3.7 D.3.3.7)."""

    required: bool = setting(
        False, kinds.Boolean(), "reject associations without an authenticated user"
    )
    jwt_keys: Path | None = setting(
        None, kinds.FilePath(), "public keys of the tokens' issuer (JWK set or PEM); unset: none"
    )
    jwt_keys_url: str = setting(
        "",
        _KEYS_URL,
        "where the issuer shows its public keys (a JWK set; `jwks_uri` of its "
        "/.well-known/openid-configuration), in place of jwt_keys",
    )
    jwt_keys_ca: Path | None = setting(
        None,
        kinds.FilePath(),
        "CAs by which the certificate of jwt_keys_url is verified (PEM); unset: those of the "
        "system",
    )
    jwt_issuer: str = setting("", kinds.SECRET, "required issuer of a token (iss)")
    jwt_audience: str = setting("", kinds.SECRET, "required audience of a token (aud)")
    jwt_algorithms: tuple[str, ...] = setting(
        ("RS256", "PS256", "ES256", "EdDSA"),
        kinds.ListOf(kinds.one_of(*ALGORITHMS)),
        "accepted signature algorithms",
    )
    jwt_user_claim: str = setting("sub", kinds.SECRET, "the claim that names the user")
    jwt_clock_skew: int = setting(
        60,
        kinds.Integer(0, 600, "seconds"),
        "how far the clock of the tokens' issuer may be from ours",
    )
    max_failures: int = setting(
        10,
        COUNT,
        "sign-ins that may fail from one address, of associations and over HTTP, until more are "
        "not looked at",
    )
    failure_window: float = setting(
        60.0, kinds.Seconds(), "for how long failed sign-ins of an address count"
    )

    @property
    def has_issuer(self) -> bool:
        """Whether tokens of an issuer are believed."""
        return self.jwt_keys is not None or bool(self.jwt_keys_url)


def _is_group_role(text: str) -> bool:
    group, _, role = text.rpartition("=")
    return bool(group.strip()) and bool(role.strip()) and text.isprintable()


@dataclass(frozen=True, slots=True, kw_only=True)
class OidcSettings:
    """Sign-in of people with a browser at an OpenID Connect provider."""

    issuer: str = setting(
        "",
        kinds.Text("an https URL", lambda text: not text or is_provider_url(text)),
        "the provider, to the letter as its /.well-known/openid-configuration says it; unset: none",
    )
    client_id: str = setting("", kinds.SECRET, "what this archive is called there")
    client_secret_file: Path | None = setting(
        None,
        kinds.FilePath(),
        "holds the secret of this client; unset: it is a public one, protected by PKCE alone",
    )
    ca: Path | None = setting(
        None,
        kinds.FilePath(),
        "CAs by which the certificate of the provider is verified (PEM); unset: those of the "
        "system",
    )
    scopes: tuple[str, ...] = setting(
        ("openid", "profile"),
        kinds.ListOf(kinds.Text("a scope", lambda text: text.isprintable() and " " not in text)),
        "what the provider is asked for; openid has to be among it",
    )
    name_claim: str = setting(
        "preferred_username", kinds.SECRET, "the claim that names who is no user of the policy"
    )
    groups_claim: str = setting(
        "groups",
        kinds.SECRET,
        "the claim with the groups of somebody, or the path to it (realm_access.roles)",
    )
    roles: tuple[str, ...] = setting(
        (),
        kinds.ListOf(kinds.Text("GROUP=ROLE", _is_group_role)),
        "the role that members of a group have, as radiology=Radiologist; who is in none, and no "
        "user of the policy with that --subject, does not get in",
    )
    algorithms: tuple[str, ...] = setting(
        ("RS256", "PS256", "ES256", "EdDSA"),
        kinds.ListOf(kinds.one_of(*ALGORITHMS)),
        "accepted signature algorithms of its tokens",
    )
    clock_skew: int = setting(
        60, kinds.Integer(0, 600, "seconds"), "how far the clock of the provider may be from ours"
    )
    label: str = setting(
        "single sign-on", kinds.SECRET, "what the provider is called on the page to sign in"
    )

    def rules(self) -> OpenIdRules:
        """The same for whoever asks the provider."""
        roles: dict[str, tuple[str, ...]] = {}
        for one in self.roles:
            group, _, role = (part.strip() for part in one.rpartition("="))
            roles[group] = (*roles.get(group, ()), role)
        return OpenIdRules(
            issuer=self.issuer,
            client_id=self.client_id,
            client_secret_file=self.client_secret_file,
            ca=self.ca,
            scopes=self.scopes,
            name_claim=self.name_claim,
            groups_claim=self.groups_claim,
            roles=roles,
            algorithms=self.algorithms,
            clock_skew=self.clock_skew,
            label=self.label,
        )
