"""``isocenter link``: patients who are one person, and stay two records."""

from __future__ import annotations

import argparse
import time
from typing import Final

import trio

from isocenter.engine.errors import IsocenterError
from isocenter.services import composition
from isocenter.services.cli import EXIT_FAILED, EXIT_OK
from isocenter.services.cli.support.actions import add_actions
from isocenter.services.cli.support.archive_action import run_action
from isocenter.services.cli.support.correction_output import patient
from isocenter.services.cli.support.listing import add_limit, print_rows
from isocenter.services.cli.support.local_time import local_time
from isocenter.services.cli.support.match_output import shown
from isocenter.services.cli.support.options import UsageError, add_archive_options, add_reason
from isocenter.services.cli.support.terminal import Terminal
from isocenter.services.composition.audit import active_process_of, record_now
from isocenter.services.security.audit.correction_messages import patients_linked
from isocenter.services.settings.sections.monitoring import OnAuditFailure
from isocenter.services.settings.settings import Settings
from isocenter.services.workflow.reconciliation.values import Identifier, PatientLink

DESCRIPTION: Final = """\
Link patients who are one person.  Nothing of their studies changes; with query.follow_links,
whoever asks for one of them by Patient ID (C-FIND, C-MOVE, C-GET, QIDO-RS) is answered for all
that are linked."""
EXAMPLES: Final = """\
examples:
  isocenter link add 4711 4712 --reason "registered twice, both IDs are in use"
  isocenter link add 17^^^WARD 4712^^^HOSPITAL --reason "emergency"
  isocenter link list
  isocenter link remove 4711 4712 --reason "two persons after all"

All of them may run while the server does.  isocenter merge makes one patient of two.

exit codes: 0 done, 1 they are linked already, or they are not, 2 arguments or settings"""

_MOST: Final = 1_000
_HEAD: Final = ("patient", "issuer", "patient", "issuer", "since", "by")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The actions of link."""
    for name, action in add_actions(
        parser,
        (
            ("add", "link two patients"),
            ("remove", "take a link away"),
            ("list", "list links, the latest first"),
        ),
    ):
        add_archive_options(action)
        if name == "list":
            action.add_argument("--json", action="store_true", help="for programs")
            add_limit(action)
            continue
        for which in ("first", "second"):
            action.add_argument(which, type=patient, metavar="ID[^^^ISSUER]")
        add_reason(action)


def run(arguments: argparse.Namespace) -> int:
    """Do it; the exit code."""
    return run_action(arguments, {"add": _add, "remove": _remove, "list": _list})


async def _add(settings: Settings, arguments: argparse.Namespace, terminal: Terminal) -> int:
    one, other = _pair(arguments)
    link = _said(settings, one, other)
    async with composition.open_stores(settings) as stores:
        if not await stores.reconciliation.link(link):
            terminal.error("they are linked already; nothing was changed")
            return EXIT_FAILED
        if not await _record(settings, arguments, terminal, is_linked=True):
            await stores.reconciliation.unlink(link)
            return EXIT_FAILED
    print("they are linked")
    if not settings.query.follow_links:
        terminal.note("queries follow links when query.follow_links = true")
    return EXIT_OK


async def _remove(settings: Settings, arguments: argparse.Namespace, terminal: Terminal) -> int:
    one, other = _pair(arguments)
    async with composition.open_stores(settings) as stores:
        book = stores.reconciliation
        known = await book.links(patient_id=one.patient_id, limit=_MOST)
        before = [each for each in known if {each.one, each.other} == {one, other}]
        if not before or not await book.unlink(_said(settings, one, other)):
            terminal.error("they are not linked; isocenter link list shows who is")
            return EXIT_FAILED
        if not await _record(settings, arguments, terminal, is_linked=False):
            await book.link(before[0])
            return EXIT_FAILED
    print("they are linked no more")
    return EXIT_OK


def _said(settings: Settings, one: Identifier, other: Identifier) -> PatientLink:
    """What whoever is at the terminal says of two patients now."""
    here = active_process_of(settings, "isocenter link")
    return PatientLink(one=one, other=other, actor=f"{here.user}@{here.machine}", at=time.time())


def _pair(arguments: argparse.Namespace) -> tuple[Identifier, Identifier]:
    one, other = (
        Identifier(each.patient_id, each.issuer) for each in (arguments.first, arguments.second)
    )
    if one == other:
        raise UsageError("both are the same patient")
    return one, other


async def _record(
    settings: Settings, arguments: argparse.Namespace, terminal: Terminal, *, is_linked: bool
) -> bool:
    """Whether it may stay as it is now: it was recorded, or need not be."""
    here = active_process_of(settings, "isocenter link")
    ids = [each.patient_id for each in _pair(arguments)]
    message = patients_linked(here, ids, arguments.reason, is_linked=is_linked)
    try:
        await trio.to_thread.run_sync(record_now, settings, here, [message])
    except (OSError, IsocenterError) as error:
        may_stay = settings.audit.on_failure is not OnAuditFailure.STOP
        what = "it was done all the same" if may_stay else "nothing was changed"
        terminal.error(f"the audit trail cannot be written: {error}; {what}")
        return may_stay
    return True


async def _list(settings: Settings, arguments: argparse.Namespace, _: Terminal) -> int:
    async with composition.open_stores(settings) as stores:
        links = await stores.reconciliation.links(limit=arguments.limit)
    print_rows(links, as_json=arguments.json, head=_HEAD, line=_line, members=_json)
    return EXIT_OK


def _line(link: PatientLink) -> tuple[str, ...]:
    texts = (
        link.one.patient_id, link.one.issuer, link.other.patient_id, link.other.issuer,
        local_time(link.at), link.actor,
    )  # fmt: skip
    return tuple(map(shown, texts))


def _json(link: PatientLink) -> dict[str, object]:
    return {
        "first": {"id": link.one.patient_id, "issuer": link.one.issuer},
        "second": {"id": link.other.patient_id, "issuer": link.other.issuer},
        "since": local_time(link.at),
        "by": link.actor,
    }
