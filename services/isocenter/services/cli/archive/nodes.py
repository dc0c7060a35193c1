"""``isocenter nodes``: servers that have one archive together."""

from __future__ import annotations

import argparse
from collections.abc import Awaitable, Callable
from typing import Final

import trio

from isocenter.services import composition
from isocenter.services.cli import EXIT_FAILED, EXIT_OK
from isocenter.services.cli.support.actions import add_actions
from isocenter.services.cli.support.archive_action import run_action
from isocenter.services.cli.support.listing import print_rows
from isocenter.services.cli.support.local_time import local_time
from isocenter.services.cli.support.options import UsageError, add_archive_options
from isocenter.services.cli.support.terminal import Terminal
from isocenter.services.cluster.member import Member
from isocenter.services.cluster.ports import Members
from isocenter.services.composition.audit import active_process_of
from isocenter.services.composition.jobs import record_node_change
from isocenter.services.settings.settings import Settings

DESCRIPTION: Final = """\
Nodes: servers that have one archive together, in one PostgreSQL database (--database) and one
place of objects (--objects).  Other archives that it speaks to are those of isocenter node."""
EXAMPLES: Final = """\
examples:
  isocenter nodes list --config isocenter.toml
  isocenter nodes drain two --config isocenter.toml
  isocenter nodes remove two --config isocenter.toml

drain has a node say that it is not ready, take no associations any more, and end after the last
one.  remove forgets a node that does not live any more, and frees what it had claimed at once.

exit codes: 0 done, 1 there is no such node, or it lives, 2 arguments or settings"""

_HEAD: Final = ("name", "state", "address", "version", "since", "heard", "clock", "ms", "duties")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The actions of nodes."""
    for name, action in add_actions(
        parser,
        (
            ("list", "list the nodes, and how they do"),
            ("drain", "have nodes end when what they do is done"),
            ("remove", "forget nodes that do not live any more"),
        ),
    ):
        add_archive_options(action)
        if name == "list":
            action.add_argument("--json", action="store_true", help="for programs")
        else:
            action.add_argument("names", nargs="+", metavar="NAME", help="of a node")


def run(arguments: argparse.Namespace) -> int:
    """Do it; the exit code."""
    return run_action(arguments, {"list": _list, "drain": _drain, "remove": _remove})


def _check(settings: Settings) -> None:
    if not settings.is_shared:
        raise UsageError(
            "this archive has no nodes but this server: several have one where --database names "
            "PostgreSQL, and --objects a bucket or a folder that all share"
        )


async def _list(settings: Settings, arguments: argparse.Namespace, terminal: Terminal) -> int:
    _check(settings)
    async with composition.open_stores(settings) as stores:
        members = await stores.members.list()
    print_rows(members, as_json=arguments.json, head=_HEAD, line=_line, members=_json)
    return EXIT_OK


def _line(member: Member) -> tuple[str, ...]:
    return (
        member.name,
        member.state.value,
        member.address,
        member.version,
        local_time(member.started_at),
        f"{member.silent_seconds:.0f} s ago",
        f"{member.clock_offset:+.1f} s",
        f"{member.answer_seconds * 1e3:.0f}",
        ", ".join(member.duties),
    )


def _json(member: Member) -> dict[str, object]:
    return {
        "name": member.name,
        "state": member.state.value,
        "address": member.address,
        "version": member.version,
        "started_at": member.started_at,
        "silent_seconds": round(member.silent_seconds, 3),
        "clock_offset_seconds": round(member.clock_offset, 3),
        "database_answer_seconds": round(member.answer_seconds, 4),
        "duties": list(member.duties),
    }


async def _drain(settings: Settings, arguments: argparse.Namespace, terminal: Terminal) -> int:
    return await _of_each(
        settings, arguments, terminal, lambda members, name: members.drain(name),
        "ends after its last association", "there is no node {name!r} that lives",
    )  # fmt: skip


async def _remove(settings: Settings, arguments: argparse.Namespace, terminal: Terminal) -> int:
    return await _of_each(
        settings,
        arguments,
        terminal,
        lambda members, name: members.remove(name),
        "is forgotten",
        "there is no node {name!r}",
    )


async def _of_each(
    settings: Settings,
    arguments: argparse.Namespace,
    terminal: Terminal,
    change: Callable[[Members, str], Awaitable[bool]],
    done: str,
    missing: str,
) -> int:
    _check(settings)
    code = EXIT_OK
    async with composition.open_stores(settings) as stores:
        for name in arguments.names:
            if await change(stores.members, name):
                print(f"node {name} {done}")
                here = active_process_of(settings, "isocenter nodes")
                await trio.to_thread.run_sync(record_node_change, settings, here, name, done)
            else:
                terminal.error(missing.format(name=name))
                code = EXIT_FAILED
    return code
