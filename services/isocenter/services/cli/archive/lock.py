"""``isocenter lock``: studies that somebody changes."""

from __future__ import annotations

import argparse
from typing import Final

from isocenter.services import composition
from isocenter.services.archive.locks.administration import LockAdministration
from isocenter.services.archive.locks.lock import LockCount, StudyLock
from isocenter.services.cli import EXIT_FAILED, EXIT_OK
from isocenter.services.cli.support.actions import add_actions
from isocenter.services.cli.support.archive_action import run_action
from isocenter.services.cli.support.deletion_output import requester_of
from isocenter.services.cli.support.listing import print_rows
from isocenter.services.cli.support.local_time import local_time
from isocenter.services.cli.support.match_output import shown
from isocenter.services.cli.support.options import add_archive_options, add_reason, uid
from isocenter.services.cli.support.terminal import Terminal
from isocenter.services.composition.audit import lock_recorder
from isocenter.services.settings.settings import Settings

DESCRIPTION: Final = """\
Locks of studies.  Who deletes, corrects or moves objects of a study locks it: nobody reads or
changes it meanwhile.  A lock is taken and released by itself, and that of a process that died ends
within half a minute."""
EXAMPLES: Final = """\
examples:
  isocenter lock list
  isocenter lock stats
  isocenter lock release 1.2.840.113619.2.55.3 --reason "the server hangs"

Whoever has a lock that is released ends with an error before its next step.

exit codes: 0 done, 1 nobody has a lock of that study, 2 arguments or settings"""

_COUNTS: Final = (
    "kind", "now", "taken", "released", "taken away", "not renewed", "refused", "waited for",
    "average s", "longest s",
)  # fmt: skip
_HEAD: Final = ("Study Instance UID", "kind", "by", "since", "waits for")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The actions of lock."""
    for name, action in add_actions(
        parser,
        (
            ("list", "list locks, and whom they wait for"),
            ("stats", "count what has become of locks"),
            ("release", "take locks away from whoever has them"),
        ),
    ):
        add_archive_options(action)
        if name in ("list", "stats"):
            action.add_argument("--json", action="store_true", help="for programs")
            continue
        action.add_argument(
            "studies", nargs="+", type=uid, metavar="UID", help="Study Instance UID"
        )
        add_reason(action)


def run(arguments: argparse.Namespace) -> int:
    """Do it; the exit code."""
    return run_action(arguments, {"list": _list, "stats": _stats, "release": _release})


async def _list(settings: Settings, arguments: argparse.Namespace, _: Terminal) -> int:
    async with composition.open_stores(settings) as stores:
        locks = await stores.locks.all()
    print_rows(locks, as_json=arguments.json, head=_HEAD, line=_line, members=_json)
    return EXIT_OK


async def _stats(settings: Settings, arguments: argparse.Namespace, _: Terminal) -> int:
    async with composition.open_stores(settings) as stores:
        counts = await stores.locks.counts()
    print_rows(counts, as_json=arguments.json, head=_COUNTS, line=_count_line, members=_count_json)
    return EXIT_OK


async def _release(settings: Settings, arguments: argparse.Namespace, terminal: Terminal) -> int:
    code = EXIT_OK
    async with composition.open_stores(settings) as stores:
        record = lock_recorder(settings, stores.index, "isocenter lock")
        locks = LockAdministration(stores.locks, record)
        actor = requester_of(settings, "isocenter lock").name
        for study in arguments.studies:
            if await locks.release(study, actor, arguments.reason):
                print(f"{study} is free")
            else:
                terminal.error(f"nobody has a lock of {study}; isocenter lock list names them")
                code = EXIT_FAILED
    return code


def _count_line(count: LockCount) -> tuple[str, ...]:
    numbers = (
        count.active, count.taken, count.released, count.forced, count.expired, count.refused,
        count.waited,
    )  # fmt: skip
    seconds = (f"{count.average_seconds:.2f}", f"{count.longest_seconds:.2f}")
    return (count.kind.value, *map(str, numbers), *seconds)


def _count_json(count: LockCount) -> dict[str, object]:
    return {
        "kind": count.kind.value,
        "active": count.active,
        "taken": count.taken,
        "released": count.released,
        "forced": count.forced,
        "expired": count.expired,
        "refused": count.refused,
        "waited": count.waited,
        "waited_seconds": count.waited_seconds,
        "average_seconds": count.average_seconds,
        "longest_seconds": count.longest_seconds,
    }


def _line(lock: StudyLock) -> tuple[str, ...]:
    by = f"{lock.holder} ({lock.reason})" if lock.reason else lock.holder
    texts = (
        lock.study_instance_uid, lock.kind.value, by, local_time(lock.since),
        "; ".join(lock.readers),
    )  # fmt: skip
    return tuple(map(shown, texts))


def _json(lock: StudyLock) -> dict[str, object]:
    return {
        "study_instance_uid": lock.study_instance_uid,
        "kind": lock.kind.value,
        "by": lock.holder,
        "reason": lock.reason,
        "process": lock.process,
        "since": local_time(lock.since),
        "until": local_time(lock.until),
        "waits_for": list(lock.readers),
    }
