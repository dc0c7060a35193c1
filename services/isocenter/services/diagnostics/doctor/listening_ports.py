"""Port check: the archive's ports are free, or who has them."""

from __future__ import annotations

import errno
from pathlib import Path

from isocenter.services.diagnostics.doctor.check import CheckResult
from isocenter.services.diagnostics.doctor.lock_holders import (
    ProcessInfo,
    is_locked,
    lock_holders,
    port_holders,
)
from isocenter.services.diagnostics.findings import Finding, Side, error, note
from isocenter.services.errors import text_of
from isocenter.services.net.listeners import ListenAddress, open_listener
from isocenter.services.settings.settings import Settings


def check_ports(settings: Settings) -> list[CheckResult]:
    """Each port that the settings name."""
    found = []
    if settings.plain.enabled:
        found.append(_check(settings, settings.server.host, settings.server.port, "port"))
    if settings.tls.enabled:
        found.append(_check(settings, settings.tls.host, settings.tls.port, "TLS port"))
    return found


def _check(settings: Settings, host: str, port: int, what: str) -> CheckResult:
    where = f"{host}:{port}"
    if port == 0:
        return CheckResult(what, f"{host}, any free one")
    try:
        for sock in open_listener(ListenAddress(host=host, port=port)):
            sock.close()
    except OSError as fault:
        return _taken(settings, fault, where, port, what)
    return CheckResult(what, f"{where} is free")


def _taken(settings: Settings, fault: OSError, where: str, port: int, what: str) -> CheckResult:
    holders = port_holders(port)
    lock = Path(settings.storage.data_dir) / "lock"
    servers = {holder.pid for holder in lock_holders(lock)}
    if fault.errno != errno.EADDRINUSE:
        text = text_of(fault)
        cure = "change server.host and server.port, or tls.host and tls.port"
        return CheckResult(what, where, (error(text, cure=cure, side=Side.HERE),))
    if _is_ours(holders, servers):
        return CheckResult(what, f"{where}, served by {holders[0]}", facts={"pid": holders[0].pid})
    if not servers and is_locked(lock):
        return CheckResult(
            what,
            f"{where} is in use",
            (
                note(
                    f"whose it is cannot be told; the data directory has a server, and {where} "
                    "may be its own",
                    cure="run doctor as the user of the server",
                    side=Side.HERE,
                ),
            ),
        )
    by = f"by {holders[0]}" if holders else "by a process of another user"
    finding: Finding = error(
        f"{where} is in use {by}",
        meaning="isocenter serve cannot start there",
        cure="stop the other program, or choose another port; if it is the archive, run doctor "
        "as its user",
        side=Side.HERE,
    )
    return CheckResult(what, f"{where} is in use {by}", (finding,))


def _is_ours(holders: tuple[ProcessInfo, ...], servers: set[int]) -> bool:
    """Of several workers the sockets are everybody's, and the lock is the workers'."""
    return any(holder.pid in servers for holder in holders)
