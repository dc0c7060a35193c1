"""``isocenter tiers``: which objects are in which storage tier, and moving them."""

from __future__ import annotations

import argparse
from typing import Final

import orjson

from isocenter.services import composition
from isocenter.services.archive.tiers.mover import MoveReport, TierMover
from isocenter.services.archive.tiers.ports import TierBook, TierOrder
from isocenter.services.archive.tiers.tier import Tier
from isocenter.services.cli import EXIT_FAILED, EXIT_OK
from isocenter.services.cli.support.actions import add_actions
from isocenter.services.cli.support.archive_action import run_action
from isocenter.services.cli.support.deletion_output import counted, requester_of
from isocenter.services.cli.support.local_time import local_time
from isocenter.services.cli.support.match_output import prepare_stdout, print_table, shown
from isocenter.services.cli.support.options import UsageError, add_archive_options, add_reason, uid
from isocenter.services.cli.support.terminal import Terminal
from isocenter.services.composition.archive import ArchiveParts
from isocenter.services.composition.tiers import tier_administration
from isocenter.services.diagnostics.doctor.check import size_text
from isocenter.services.settings.settings import Settings

DESCRIPTION: Final = """\
Storage tiers: cheaper and slower places for objects ([tiers] in the configuration).  Rules move
studies there by age, last use, modality and size; this shows what is where, moves studies by
hand, and keeps them where they are."""
EXAMPLES: Final = """\
examples:
  isocenter tiers status --config /etc/isocenter.toml
  isocenter tiers move 1.2.840.113619.2.55.3 --to cold
  isocenter tiers move --all --from cold --to hot          before the tier is given up
  isocenter tiers pin 1.2.840.113619.2.55.3 --tier hot --reason "trial 17"
  isocenter tiers unpin 1.2.840.113619.2.55.3

All of them may run while the server does.

exit codes: 0 done, 1 something could not be moved, or was not pinned, 2 arguments or settings, or
there are no tiers, 130 interrupted: what was under way is where it was"""

_STUDIES_AT_ONCE: Final = 500
_HEAD: Final = ("tier", "instances", "size", "availability", "place")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The actions of tiers."""
    tiers = [tier.value for tier in Tier]
    for name, action in add_actions(
        parser,
        (
            ("status", "what each tier has, what is to move, is pinned or could not be moved"),
            ("move", "move studies to a tier now"),
            ("pin", "keep studies in a tier, whatever rules say"),
            ("unpin", "let rules move studies again"),
        ),
    ):
        add_archive_options(action)
        if name == "status":
            action.add_argument("--json", action="store_true", help="for programs")
            continue
        action.add_argument(
            "studies",
            nargs="*" if name == "move" else "+",
            type=uid,
            metavar="UID",
            help="Study Instance UID",
        )
        if name == "move":
            action.add_argument("--to", required=True, choices=tiers, help="where they go")
            action.add_argument("--all", action="store_true", help="all that --from has")
            action.add_argument("--from", dest="from_", choices=tiers[1:], help="with --all")
        elif name == "pin":
            action.add_argument("--tier", required=True, choices=tiers, help="where they stay")
            add_reason(action)


def run(arguments: argparse.Namespace) -> int:
    """Do it; the exit code."""
    return run_action(arguments, {"status": _status, "move": _move, "pin": _pin, "unpin": _unpin})


def _mover(parts: ArchiveParts) -> TierMover:
    if parts.mover is None:
        raise UsageError("there are no tiers; set tiers.warm or tiers.cold in the configuration")
    return parts.mover


def _check(settings: Settings, tier: Tier) -> None:
    if tier is not Tier.HOT and tier not in settings.tiers.places:
        raise UsageError(f"there is no tier {tier.value}; set tiers.{tier.value}")


async def _status(settings: Settings, arguments: argparse.Namespace, terminal: Terminal) -> int:
    async with composition.open_archive_parts(settings, lock=False, recover=False) as parts:
        _mover(parts)
        administration = tier_administration(settings, parts.stores, "isocenter tiers")
        status = await administration.status()
    out = prepare_stdout("json" if arguments.json else "table")
    usage = {each.tier: each for each in status.usage}
    if arguments.json:
        document = {
            "tiers": [
                {
                    "tier": tier.value,
                    "instances": usage[tier].instances if tier in usage else 0,
                    "size": usage[tier].size if tier in usage else 0,
                    "availability": place.availability.value,
                    "place": place.place,
                }
                for tier, place in administration.places.items()
            ],
            "orders": [
                {"study_instance_uid": each.study_instance_uid, "tier": each.tier.value}
                for each in status.orders
            ],
            "pins": [
                {
                    "study_instance_uid": each.study_instance_uid,
                    "tier": each.tier.value,
                    "by": each.actor,
                    "since": local_time(each.at),
                    "reason": each.reason,
                }
                for each in status.pins
            ],
            "faults": [
                {"sop_instance_uid": each.sop_instance_uid, "fault": each.fault}
                for each in status.faults
            ],
        }
        out.write(orjson.dumps(document).decode() + "\n")
        return EXIT_OK
    rows = [
        (
            tier.value,
            str(usage[tier].instances if tier in usage else 0),
            size_text(usage[tier].size if tier in usage else 0),
            place.availability.value,
            place.place,
        )
        for tier, place in administration.places.items()
    ]
    print_table(out, _HEAD, rows)
    if status.orders:
        print(f"\nto be moved: {counted(len(status.orders), 'study', 'studies')}")
    if status.pins:
        print()
        print_table(
            out,
            ("pinned study", "tier", "since", "by", "reason"),
            [
                tuple(
                    map(
                        shown,
                        (
                            each.study_instance_uid,
                            each.tier.value,
                            local_time(each.at),
                            each.actor,
                            each.reason,
                        ),
                    )
                )
                for each in status.pins
            ],
        )
    if status.faults:
        print()
        print_table(
            out,
            ("instance that stays", "since", "why"),
            [
                (each.sop_instance_uid, local_time(each.at), shown(each.fault))
                for each in status.faults
            ],
        )
    return EXIT_OK


async def _move(settings: Settings, arguments: argparse.Namespace, terminal: Terminal) -> int:
    tier = Tier(arguments.to)
    if arguments.all == bool(arguments.studies) or arguments.all != bool(arguments.from_):
        raise UsageError("name studies, or give --all and --from TIER")
    _check(settings, tier)
    requester = requester_of(settings, "isocenter tiers")
    report = MoveReport()
    async with composition.open_archive_parts(settings, lock=False, recover=False) as parts:
        mover, book = _mover(parts), parts.stores.tiers
        administration = tier_administration(settings, parts.stores, "isocenter tiers")
        with terminal.progress("moving studies") as advance:
            done = 0
            after, studies = "", list(arguments.studies)
            while True:
                if arguments.all:
                    studies = list(
                        await book.studies_in(
                            Tier(arguments.from_), after=after, limit=_STUDIES_AT_ONCE
                        )
                    )
                if not studies:
                    break
                await administration.order(studies, tier, requester)
                await _move_now(studies, tier, mover, book, report, requester.name)
                after, done = studies[-1], done + len(studies)
                advance(done, None)
                if not arguments.all:
                    break
        faults = await book.faults(limit=20) if report.failed else []
    print(f"moved {counted(report.instances, 'object')} ({size_text(report.size)}) to {tier.value}")
    for each in faults:
        terminal.note(f"stays: {each.sop_instance_uid} ({each.fault})")
    if report.failed:
        terminal.error(f"{counted(report.failed, 'object')} could not be moved")
    if report.busy:
        terminal.error(
            f"{counted(report.busy, 'study is', 'studies are')} in use; a server moves them later"
        )
    return EXIT_FAILED if report.failed or report.busy else EXIT_OK


async def _move_now(
    studies: list[str],
    tier: Tier,
    mover: TierMover,
    book: TierBook,
    report: MoveReport,
    person: str,
) -> None:
    for study in studies:
        busy = report.busy
        await mover.move(study, tier, report, person=person, waits=tier is not Tier.HOT)
        if report.busy == busy:
            await book.fulfilled(TierOrder(study_instance_uid=study, tier=tier))


async def _pin(settings: Settings, arguments: argparse.Namespace, terminal: Terminal) -> int:
    tier = Tier(arguments.tier)
    _check(settings, tier)
    requester = requester_of(settings, "isocenter tiers")
    async with composition.open_archive_parts(settings, lock=False, recover=False) as parts:
        _mover(parts)
        administration = tier_administration(settings, parts.stores, "isocenter tiers")
        for study in arguments.studies:
            await administration.pin(study, tier, requester, arguments.reason)
            print(f"{study} is kept in {tier.value}")
    terminal.note("what is elsewhere, a server moves; or isocenter tiers move")
    return EXIT_OK


async def _unpin(settings: Settings, arguments: argparse.Namespace, terminal: Terminal) -> int:
    requester = requester_of(settings, "isocenter tiers")
    code = EXIT_OK
    async with composition.open_archive_parts(settings, lock=False, recover=False) as parts:
        _mover(parts)
        administration = tier_administration(settings, parts.stores, "isocenter tiers")
        for study in arguments.studies:
            if await administration.unpin(study, requester):
                print(f"{study} is moved by rules again")
            else:
                terminal.error(
                    f"{study} is not pinned; isocenter tiers status names those that are"
                )
                code = EXIT_FAILED
    return code
