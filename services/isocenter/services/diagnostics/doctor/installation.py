"""The own installation, from the settings to the objects."""

from __future__ import annotations

import trio

from isocenter.services.diagnostics.doctor import archive
from isocenter.services.diagnostics.doctor import host as machine
from isocenter.services.diagnostics.doctor.access_policy import check_policy
from isocenter.services.diagnostics.doctor.certificates import check_certificates
from isocenter.services.diagnostics.doctor.check import CheckResult, Tell
from isocenter.services.diagnostics.doctor.identity_provider import check_provider
from isocenter.services.diagnostics.doctor.listening_ports import check_ports
from isocenter.services.diagnostics.doctor.server_health import check_health, server_of
from isocenter.services.diagnostics.findings import Side, warning
from isocenter.services.settings.settings import Settings
from isocenter.services.settings.warnings import warnings


def check_settings(settings: Settings) -> CheckResult:
    """What is allowed and should be known."""
    seen = f"AE title {settings.server.ae_title}, {len(settings.peers)} C-MOVE destinations"
    findings = tuple(warning(text, side=Side.HERE) for text in warnings(settings))
    return CheckResult("settings", seen, findings)


async def check_installation(settings: Settings, tell: Tell) -> None:
    """All that can be known without opening the archive, which is for whoever has adapters."""
    tell(machine.check_versions())
    tell(check_settings(settings))
    tell(await trio.to_thread.run_sync(check_policy, settings))
    tell(machine.check_clock(settings))
    tell(machine.check_umask())
    tell(machine.check_descriptors(settings))
    for examined in await trio.to_thread.run_sync(check_certificates, settings):
        tell(examined)
    if settings.oidc.issuer:
        tell(await trio.to_thread.run_sync(check_provider, settings))
    tell(archive.check_lock(settings))
    if not settings.storage.is_in_memory and server_of(settings) is not None:
        tell(await trio.to_thread.run_sync(check_health, settings))
    for examined in await trio.to_thread.run_sync(check_ports, settings):
        tell(examined)
    if settings.storage.is_in_memory:
        return
    tell(await trio.to_thread.run_sync(machine.check_folder, settings))
    tell(machine.check_disk(settings))
    tell(await trio.to_thread.run_sync(archive.check_leftovers, settings))
