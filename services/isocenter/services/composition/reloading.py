"""Reloading: configuration exchanged while the server runs.

No association sees it, but those whose certificate was revoked: they end.

Certificates, keys and revocation lists make new TLS contexts for connections to come.  The
policy, the access rules, the peers and how is logged take the place of the old ones.  What
cannot be used stays out, is told with its fault, and the old one serves on.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from dataclasses import fields, is_dataclass, replace
from functools import partial
from typing import Any, Final, Protocol

import trio

from isocenter.engine.errors import IsocenterError
from isocenter.services.archive.rules.evaluation import Rule
from isocenter.services.association.peer import Peer
from isocenter.services.composition.access import access_of, identity_rules_of
from isocenter.services.composition.log import configure_log
from isocenter.services.composition.start_warnings import start_warnings
from isocenter.services.net.tls.revocation import Revocations
from isocenter.services.notices import ConfigurationReloaded, Notices
from isocenter.services.security.access.access_control import PolicyAccessControl
from isocenter.services.settings.errors import SettingsError
from isocenter.services.settings.settings import SETTINGS, Settings

log = logging.getLogger("isocenter.server")

_SECTIONS: Final = ("access", "identity", "peers", "rules", "log")
_OF_TLS: Final = (
    "certificate", "key", "key_password", "ca", "crl", "profile", "identity",
    "client_certificates", "strict", "end_revoked",
)  # fmt: skip
#: The keys of settings that hold from the next reload on; a change of others needs a restart.
RELOADED: Final = frozenset(
    setting.key
    for setting in SETTINGS
    if setting.key.partition(".")[0] in _SECTIONS
    or setting.key in {f"tls.{name}" for name in _OF_TLS}
)


class ReloadsCertificates(Protocol):
    """The TLS contexts of a server."""

    @property
    def revocations(self) -> Revocations:
        """What of the peers' is revoked."""
        ...

    def reload(self, settings: Settings | None = None) -> None:
        """Read them again; raises and changes nothing when they cannot be used."""
        ...


class Reloader:
    """Reads the configuration of a running server again.

    Args:
        load: reads the settings again from where they came from.
        settings: those that are in use.
        peers: by AE title; changed in place.
        take_rules: has these rules for what is stored from now on.
        take_revocations: ends what stands by certificates that are revoked.
        warns: whether it tells what should be known of the settings: of several processes one.
    """

    def __init__(
        self,
        load: Callable[[], Settings],
        settings: Settings,
        *,
        tls: ReloadsCertificates | None,
        access: PolicyAccessControl,
        peers: MutableMapping[str, Peer],
        notices: Notices,
        take_rules: Callable[[Sequence[Rule]], None] = lambda rules: None,
        take_revocations: Callable[[Revocations], None] = lambda revocations: None,
        warns: Callable[[], bool] = lambda: True,
    ) -> None:
        self._load = load
        self._settings = settings
        self._tls = tls
        self._access = access
        self._peers = peers
        self._notices = notices
        self._one_at_a_time = trio.Lock()
        self._is_catching_up = False
        self._faults: dict[str, str] = {}
        self._take_rules = take_rules
        self._take_revocations = take_revocations
        self._warns = warns

    @property
    def settings(self) -> Settings:
        """Those that are in use."""
        return self._settings

    async def reload(self, *, is_catching_up: bool = False) -> Mapping[str, str]:
        """Read everything again that can be exchanged, each for itself; by part, why the old one
        stays (empty: the new one is in use).

        Args:
            is_catching_up: a worker that starts later than its parent is no event; only
                faults are told.
        """
        async with self._one_at_a_time:
            self._is_catching_up = is_catching_up
            self._faults = {}
            await self._part("settings", partial(trio.to_thread.run_sync, self._read_settings))
            if self._tls is not None:
                await self._part("certificates", partial(self._exchange_tls, self._tls))
            await self._part("access", self._exchange_access)
            await self._part("peers", self._exchange_peers)
            if not is_catching_up and self._warns():
                await self._warn()
            return self._faults

    async def _warn(self) -> None:
        """Of what is in use now: that is what a start would tell, and nobody hears it later."""
        for text in await trio.to_thread.run_sync(start_warnings, self._settings):
            log.warning("%s", text)

    async def _part(self, what: str, exchange: Callable[[], Awaitable[None]]) -> None:
        fault = self._faults[what] = ""
        try:
            await exchange()
            if self._is_catching_up:
                return
            log.info("%s: read again, and in use", what)
        except (IsocenterError, OSError) as error:
            each = error.faults if isinstance(error, SettingsError) else [error]
            fault = "; ".join(map(str, each))
            log.error("%s: what is in use stays: %s", what, fault)
        except Exception:
            # A fault of ours, and no reason to stop serving.
            fault = "internal error"
            log.exception("%s: what is in use stays", what)
        self._faults[what] = fault
        self._notices.publish(ConfigurationReloaded(what=what, fault=fault))

    def _read_settings(self) -> None:
        new = self._load()
        kept = _others(self._settings, new)
        if kept:
            log.warning("changed, and in use after a restart only: %s", ", ".join(kept))
        self._settings = _exchanged(self._settings, new)
        configure_log(self._settings.log)

    async def _exchange_tls(self, tls: ReloadsCertificates) -> None:
        await trio.to_thread.run_sync(tls.reload, self._settings)
        if self._settings.tls.end_revoked:
            self._take_revocations(tls.revocations)

    async def _exchange_access(self) -> None:
        if self._access.identities is not None:
            self._access.identities.reload(identity_rules_of(self._settings))
        self._access.settings = access_of(self._settings)
        self._access.enforcement = self._settings.access.enforce
        self._access.refresh()

    async def _exchange_peers(self) -> None:
        peers = {peer.ae_title: peer for peer in self._settings.peers}
        self._peers.clear()
        self._peers.update(peers)
        # They name peers: with these they go.
        self._take_rules(self._settings.rules)


def _exchanged(old: Settings, new: Settings) -> Settings:
    """*old* with what of *new* can be exchanged."""
    values: dict[str, Any] = {}
    for section in fields(Settings):
        before, after = getattr(old, section.name), getattr(new, section.name)
        if section.name in RELOADED:
            values[section.name] = after
        elif is_dataclass(before) and not isinstance(before, type):
            changes = {
                one.name: getattr(after, one.name)
                for one in fields(before)
                if f"{section.name}.{one.name}" in RELOADED
            }
            values[section.name] = replace(before, **changes)
    return replace(old, **values)


def _others(old: Settings, new: Settings) -> list[str]:
    """The keys whose change cannot be exchanged."""
    expected = _exchanged(old, new)
    changed = []
    for section in fields(Settings):
        before, after = getattr(expected, section.name), getattr(new, section.name)
        if before != after:
            if not is_dataclass(before):  # a list of tables
                changed.append(section.name)
                continue
            changed += [
                f"{section.name}.{one.name}"
                for one in fields(before)
                if getattr(before, one.name) != getattr(after, one.name)
            ]
    return changed
