"""Examination of an installation, from its settings to its objects."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from time import time
from typing import Final

import trio

from isocenter.services.composition.archive import open_stores
from isocenter.services.composition.audit import audit_folder, is_trail_enabled, keeping_of
from isocenter.services.composition.database import INDEX_FILE, has_index, inspect_database
from isocenter.services.composition.inspection import inspect_archive, inspect_room
from isocenter.services.composition.objects import try_bucket
from isocenter.services.composition.run_time_rules import booked_rules
from isocenter.services.composition.signatures import signing_fault
from isocenter.services.diagnostics.doctor.archive import assess_database, assess_inspection
from isocenter.services.diagnostics.doctor.audit_trail import check_audit_trail
from isocenter.services.diagnostics.doctor.capacity import assess_room
from isocenter.services.diagnostics.doctor.check import CheckResult, Tell
from isocenter.services.diagnostics.doctor.destinations import assess_destinations
from isocenter.services.diagnostics.doctor.nodes import assess_nodes
from isocenter.services.diagnostics.doctor.publications import assess_publications
from isocenter.services.diagnostics.findings import Finding, Side, error, warning
from isocenter.services.errors import StorageError
from isocenter.services.settings.settings import Settings
from isocenter.services.web.parts import Check

#: For SQLite's check of the index; a few million instances fit.
_QUICK_SECONDS: Final = 5.0
#: Objects that are compared with the index.
_SAMPLE: Final = 50
#: The same answer serves everybody who looks within so many seconds.
_KEPT_SECONDS: Final = 30.0


class Checks:
    """Examines a server that runs, for its pages; not oftener than once in a while.

    Args:
        settings: those of the moment.
    """

    def __init__(self, settings: Callable[[], Settings]) -> None:
        self._settings = settings
        self._one_at_a_time = trio.Lock()
        self._found: Sequence[Check] = ()
        self._looked_at = -math.inf

    async def look(self) -> Sequence[Check]:
        """What was seen, at most `_KEPT_SECONDS` ago."""
        async with self._one_at_a_time:
            if trio.current_time() - self._looked_at >= _KEPT_SECONDS:
                found: list[Check] = []
                await examine(self._settings(), lambda result: found.append(_shown(result)))
                self._found, self._looked_at = found, trio.current_time()
            return self._found


def _shown(result: CheckResult) -> Check:
    return Check(
        what=result.what,
        seen=result.seen,
        severity="" if result.severity is None else result.severity.name.lower(),
        findings=[(one.text, one.meaning, one.cure) for one in result.findings],
    )


def has_index_of_today(settings: Settings) -> bool:
    """Whether there is an index with the schema of this program: who opens it changes nothing."""
    if not has_index(settings):
        return False
    if settings.database.url:
        found = inspect_database(settings)
    else:
        data_dir = Path(settings.storage.data_dir)
        found = inspect_archive(data_dir, data_dir / INDEX_FILE, seconds=0.0, sample=0)
    return not found.fault and found.schema_version == found.latest_version


async def examine(settings: Settings, tell: Tell) -> bool:
    """Look at all that can be looked at beside a server that runs; nothing is changed.

    Returns whether its objects can be compared with its index.
    """
    # Late: it knows certificates and HTTP, which take a tenth of a second of each start.
    from isocenter.services.diagnostics.doctor.installation import check_installation

    await check_installation(settings, tell)
    if settings.signatures.sign_key is not None:
        tell(await trio.to_thread.run_sync(_check_signing, settings))
    if settings.storage.is_in_memory:
        return False
    trail = audit_folder(settings) if is_trail_enabled(settings) else None
    tell(await trio.to_thread.run_sync(check_audit_trail, trail, partial(keeping_of, settings)))
    data_dir = Path(settings.storage.data_dir)
    if not (data_dir / "objects").is_dir() and not settings.database.url:
        return False
    if settings.object_store is not None:
        tell(await _check_bucket(settings))
    if settings.database.url:
        database = await trio.to_thread.run_sync(inspect_database, settings, abandon_on_cancel=True)
        tell(assess_database(database))
        is_of_today = database.schema_version == database.latest_version
        if settings.is_shared and is_of_today:
            tell(await _check_nodes(settings))
        if not database.fault and is_of_today:
            tell(await _check_destinations(settings))
            await _tell_publications(settings, tell)
        return not database.fault
    found = await trio.to_thread.run_sync(
        lambda: inspect_archive(
            settings.objects.folder(data_dir),
            data_dir / INDEX_FILE,
            seconds=_QUICK_SECONDS,
            sample=_SAMPLE if settings.objects.in_bucket is None else 0,
        ),
        abandon_on_cancel=True,
    )
    for examined in assess_inspection(found, settings):
        tell(examined)
    is_usable = not found.fault and not found.damage
    if not is_usable or found.schema_version != found.latest_version:
        return False
    room = await trio.to_thread.run_sync(
        lambda: inspect_room(
            data_dir / INDEX_FILE, settings.retention, seconds=_QUICK_SECONDS, now=time()
        ),
        abandon_on_cancel=True,
    )
    if room is not None:
        tell(assess_room(room, settings))
    tell(await _check_destinations(settings))
    await _tell_publications(settings, tell)
    return True


def _check_signing(settings: Settings) -> CheckResult:
    fault = signing_fault(settings)
    signatures = settings.signatures
    seen = f"with {signatures.sign_key}"
    if not fault:
        return CheckResult("signing", seen)
    is_needed = bool(signatures.sign_for)  # it is read at the start
    finding = (error if is_needed else warning)(
        fault,
        meaning="isocenter serve does not start" if is_needed else "",
        cure="give signatures.sign_key and signatures.sign_certificate files that belong together, "
        "and that the user of the server may read",
        side=Side.HERE,
    )
    return CheckResult("signing", seen, (finding,))


async def _tell_publications(settings: Settings, tell: Tell) -> None:
    """Nothing where nothing was ever published, and nothing is to be."""
    names = [one.name for one in settings.sharing.repositories]
    try:
        async with open_stores(settings) as stores:
            book = stores.publications
            standing = await book.standing()
            if names or standing:
                backlog, behind = await book.backlog(), await book.all_behind(_SAMPLE)
                tell(assess_publications(names, backlog, standing, behind, now=time()))
    except StorageError as fault:
        tell(CheckResult("publications", "", (error(str(fault), side=Side.HERE),)))


async def _check_destinations(settings: Settings) -> CheckResult:
    try:
        async with open_stores(settings) as stores:
            rules = await stores.rules.all()
            booked = booked_rules(settings.rules, rules.rules)
            nodes = await stores.nodes.all()
            in_use = [one.rule for one in booked if one.rule is not None and one.is_enabled]
            return assess_destinations(
                nodes,
                await stores.limits.limits(),
                await stores.forwards.destinations(),
                {
                    rule.name: [route.destination for route in rule.routes]
                    for rule in in_use
                    if rule.routes
                },
                [one.fault for one in booked if one.fault],
                known={
                    *(peer.ae_title for peer in settings.peers),
                    *(node.name for node in nodes if node.is_enabled),
                },
                are_rules_on=rules.is_on,
                now=time(),
            )
    except StorageError as fault:
        return CheckResult("destinations", "", (error(str(fault), side=Side.HERE),))


async def _check_nodes(settings: Settings) -> CheckResult:
    try:
        async with open_stores(settings) as stores:
            members = await stores.members.list()
            offset = time() - stores.clock()
    except StorageError as fault:
        return CheckResult("nodes", "", (error(str(fault), side=Side.HERE),))
    return assess_nodes(members, own_clock_offset=offset)


async def _check_bucket(settings: Settings) -> CheckResult:
    findings: tuple[Finding, ...] = ()
    try:
        await try_bucket(settings)
    except StorageError as fault:
        findings = (
            error(
                str(fault),
                meaning="isocenter serve does not start, or stores nothing",
                side=Side.HERE,
            ),
        )
    return CheckResult("object store", str(settings.objects.url), findings)
