"""Names of settings in configurations of other PACS servers, and ours for them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, Final, NamedTuple

from isocenter.services.settings.errors import SettingsError
from isocenter.services.settings.former_names import FORMER_NAMES

_MIB: Final = 1 << 20


class Foreign(NamedTuple):
    """A setting under another name.

    Attributes:
        key: ours.
        values: their value → ours, where they differ; others stay as they are.
    """

    key: str
    values: Mapping[Any, object] = {}


class Fixed(NamedTuple):
    """A setting that there is nothing to set of here.

    Attributes:
        values: that say what is so anyway; any other is a fault.
        cure: what to do instead.
    """

    values: Collection[object]
    cure: str


_NAMING: Final = {
    "hierarchical": "uid", "uid_hierarchical": "uid", "uid_flat": "flat",
    "date_hierarchical": "date", "date_based": "date",
}  # fmt: skip
_LEVELS: Final = {
    "trace": "debug", "warn": "warning", "critical": "error", "fatal": "error",
}  # fmt: skip
_VERSIONS: Final = {
    "1.2": "bcp195", "1.3": "tls13", 1.2: "bcp195", 1.3: "tls13", "TLSv1.2": "bcp195",
    "TLSv1.3": "tls13",
}  # fmt: skip
_ASKED: Final = {True: "required", False: "none"}
_ENFORCED: Final = {True: "auto", False: "never"}
_POLICY: Final = "who may do what is said with isocenter ae, user and the pages"
_RESEARCH: Final = "de-identification is a matter of rules and of isocenter dcmanonymize"
_INDEX: Final = "the index is index.db in storage.data_dir; leave it out"

#: Their name, by the path of its keys → what it is here.
OTHER_NAMES: Final[Mapping[str, Foreign | Fixed]] = {
    "server.bind": Foreign("server.host"),
    "server.max_pdu_size": Foreign("server.max_pdu_length"),
    "server.idle_timeout": Foreign("deadlines.idle"),
    "server.idle_timeout_seconds": Foreign("deadlines.idle"),
    "server.association_timeout": Foreign("deadlines.association_response"),
    "server.tls.enabled": Foreign("tls.enabled"),
    "server.tls.port": Foreign("tls.port"),
    "server.tls.bind": Foreign("tls.host"),
    "server.tls.profile": Foreign("tls.profile"),
    "server.tls.min_version": Foreign("tls.profile", _VERSIONS),
    "server.tls.certificate": Foreign("tls.certificate"),
    "server.tls.private_key": Foreign("tls.key"),
    "server.tls.ca_certificate": Foreign("tls.ca"),
    "server.tls.client_auth": Foreign("tls.client_certificates"),
    "server.tls.require_client_cert": Foreign("tls.client_certificates", _ASKED),
    "tls.private_key": Foreign("tls.key"),
    "tls.ca_certificate": Foreign("tls.ca"),
    "tls.client_auth": Foreign("tls.client_certificates"),
    "tls.require_client_cert": Foreign("tls.client_certificates", _ASKED),
    "tls.min_version": Foreign("tls.profile", _VERSIONS),
    "access_control.allowed_ae_titles": Foreign("access.allow"),
    "access_control.accept_unknown_calling_ae": Foreign("access.accept_unknown_calling_ae_title"),
    "server.accept_unknown_calling_ae": Foreign("access.accept_unknown_calling_ae_title"),
    "access_control.enabled": Foreign("access.enforce", _ENFORCED),
    "access_control.default_role": Fixed(("none", ""), _POLICY),
    "security.allowed_ae_titles": Foreign("access.allow"),
    "security.access_control.allowed_ae_titles": Foreign("access.allow"),
    "security.access_control.enabled": Foreign("access.enforce", _ENFORCED),
    "security.access_control.default_role": Fixed(("none", ""), _POLICY),
    "security.anonymization.auto_anonymize": Fixed((False,), _RESEARCH),
    "security.anonymization.profile": Fixed((), _RESEARCH),
    "anonymization.auto_anonymize": Fixed((False,), _RESEARCH),
    "anonymization.profile": Fixed((), _RESEARCH),
    "storage.backend": Fixed(("file",), "objects.url names a bucket, and [tiers] the tiers"),
    "storage.directory": Foreign("storage.data_dir"),
    "storage.root_path": Foreign("storage.data_dir"),
    "storage.naming": Foreign("storage.naming", _NAMING),
    "storage.naming_scheme": Foreign("storage.naming", _NAMING),
    "storage.duplicate_policy": Foreign("storage.duplicates"),
    "storage.accepted_sop_classes": Foreign("storage.sop_classes"),
    "storage.database.path": Fixed((), _INDEX),
    "database.path": Fixed((), _INDEX),
    "database.wal_mode": Fixed((True,), "the index always has a write-ahead log; leave it out"),
    "database.cache_size_mb": Fixed((), "the cache of the index needs no setting; leave it out"),
    "web.bind": Foreign("web.host"),
    "web.tls.enabled": Fixed((False,), "set web.https_host"),
    "web.cors_allowed_origins": Foreign("web.cors_origins"),
    "web.oauth.enabled": Fixed((True, False), "leave it out"),
    "web.oauth.issuer": Foreign("identity.jwt_issuer"),
    "web.oauth.audience": Foreign("identity.jwt_audience"),
    "web.oauth.jwks_url": Foreign("identity.jwt_keys_url"),
    "web.oauth.clock_skew_seconds": Foreign("identity.jwt_clock_skew"),
    "rest_api.enabled": Foreign("web.enabled"),
    "rest_api.bind": Foreign("web.host"),
    "rest_api.port": Foreign("web.port"),
    "rest_api.cors_enabled": Fixed((False,), "set web.cors_origins"),
    "monitoring.metrics_enabled": Foreign("monitoring.enabled"),
    "monitoring.health_check_interval": Foreign("monitoring.check_interval"),
    "monitoring.health_check_interval_seconds": Foreign("monitoring.check_interval"),
    "monitoring.cache_duration": Foreign("monitoring.cache_seconds"),
    "monitoring.storage_warning_threshold": Foreign("monitoring.disk_warning"),
    "monitoring.storage_critical_threshold": Foreign("monitoring.disk_critical"),
    "prefetch.enabled": Fixed((False,), "set prefetch.nodes"),
    "prefetch.interval": Foreign("prefetch.every"),
    "logging.level": Foreign("log.level", _LEVELS),
    "logging.file": Foreign("log.file"),
    "logging.console": Fixed((True,), "the log goes to standard error, or to log.file"),
    "logging.max_size_mb": Foreign("log.rotate"),
    "logging.max_files": Foreign("log.keep_files"),
    "logging.audit_log_path": Foreign("audit.folder"),
}
#: Theirs, of which ours is made by a calculation.
_CALCULATED: Final[Mapping[str, Callable[[Any], object]]] = {
    "logging.max_size_mb": lambda value: value * _MIB if type(value) is int else value,
}
#: A collector of audit messages, which they say in three settings.
_COLLECTOR: Final = ("audit.protocol", "audit.host", "audit.port")
_COLLECTORS: Final = "audit.collectors"


class Renamed(NamedTuple):
    """A document in our names.

    Attributes:
        content: section, or key without one → value.
        places: our key → the name that stands in the file.
        faults: what there is nothing to set of here.
        former: our former names that stand in it.
    """

    content: dict[str, Any]
    places: dict[str, str]
    faults: list[SettingsError]
    former: list[str]


def in_our_names(
    document: Mapping[str, Any], own: Collection[str], source: Callable[[str], str]
) -> Renamed:
    """*document* with our names in the place of others.

    Args:
        own: our keys.
        source: where a name stands.
    """
    done = Renamed({}, {}, [], [])
    _rename(document, (), done, own, source)
    _join_collector(done, source)
    return done


def _rename(
    table: Mapping[str, Any],
    path: tuple[str, ...],
    done: Renamed,
    own: Collection[str],
    source: Callable[[str], str],
) -> None:
    for name, value in table.items():
        theirs = ".".join((*path, name))
        other: Foreign | Fixed | None = OTHER_NAMES.get(theirs)
        if theirs in FORMER_NAMES:
            other = Foreign(FORMER_NAMES[theirs])
            done.former.append(theirs)
        match other:
            case Foreign():
                plain = isinstance(value, str | int | float | bool)
                value = other.values.get(value, value) if plain else value
                if theirs in _CALCULATED:
                    value = _CALCULATED[theirs](value)
                _put(done, other.key, value, theirs, source)
            case Fixed():
                if value not in other.values:
                    done.faults.append(SettingsError(theirs, source(theirs), other.cure))
            case None if isinstance(value, dict) and theirs not in own and _leads_on(theirs, own):
                _rename(value, (*path, name), done, own, source)
            case None:
                _put(done, theirs, value, theirs, source)


def _leads_on(path: str, own: Collection[str]) -> bool:
    """Whether there are names below it."""
    return any(name.startswith(f"{path}.") for name in (*OTHER_NAMES, *own))


def _put(done: Renamed, key: str, value: object, theirs: str, source: Callable[[str], str]) -> None:
    if key in done.places:
        before = done.places[key]
        fault = f"{before} says it, too; leave one out"
        if FORMER_NAMES.keys() & {before, theirs}:
            if _given(done, key) == value:
                return  # two settings have become one, and said the same
            fault = f"{before} says another thing; keep one of them, as {key}"
        done.faults.append(SettingsError(theirs, source(theirs), fault))
        return
    done.places[key] = theirs
    section, dot, name = key.partition(".")
    if dot:
        table = done.content.setdefault(section, {})
        if isinstance(table, dict):  # else it is a fault of its own
            table[name] = value
    else:
        done.content[section] = value


def _given(done: Renamed, key: str) -> object:
    section, _, name = key.partition(".")
    table = done.content.get(section)
    return table.get(name) if isinstance(table, dict) else None


def _join_collector(done: Renamed, source: Callable[[str], str]) -> None:
    """One address of the three parts of a collector."""
    audit = done.content.get("audit")
    if not isinstance(audit, dict) or not any(key in done.places for key in _COLLECTOR):
        return
    protocol, host, port = (audit.pop(key.partition(".")[2], None) for key in _COLLECTOR)
    theirs = next(done.places[key] for key in _COLLECTOR if key in done.places)
    for key in _COLLECTOR:
        done.places.pop(key, None)
    if host is None or port is None:
        fault = "a collector of audit messages has host and port"
        done.faults.append(SettingsError(theirs, source(theirs), fault))
        return
    _put(done, _COLLECTORS, [f"{protocol or 'tls'}://{host}:{port}"], theirs, source)
