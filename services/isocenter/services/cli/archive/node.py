"""``isocenter node``: remote nodes that jobs ask and send to."""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Final

from isocenter.services import composition
from isocenter.services.cli import EXIT_FAILED, EXIT_OK
from isocenter.services.cli.support.actions import add_actions
from isocenter.services.cli.support.archive_action import run_action
from isocenter.services.cli.support.listing import print_rows
from isocenter.services.cli.support.local_time import local_time
from isocenter.services.cli.support.match_output import shown
from isocenter.services.cli.support.options import UsageError, add_archive_options
from isocenter.services.cli.support.terminal import Terminal
from isocenter.services.composition.jobs import client_side, node_of_peer
from isocenter.services.concurrency import open_plain_nursery
from isocenter.services.hours import parse_hours
from isocenter.services.settings.settings import Settings
from isocenter.services.workflow.nodes.changes import NodeChangeError
from isocenter.services.workflow.nodes.limits import (
    DestinationLimit,
    check_associations,
    parse_bandwidth,
)
from isocenter.services.workflow.nodes.node import Node, NodeState, new_node
from isocenter.services.workflow.nodes.verification import verify_node

DESCRIPTION: Final = """\
Remote nodes: archives and stations that isocenter retrieve and isocenter send speak to, over
DIMSE or DICOMweb.  The peers of the settings are nodes, too."""
EXAMPLES: Final = """\
examples:
  isocenter node add PACS@192.0.2.10:11112
  isocenter node add PACS2@pacs2.example:2762 --tls --name "second archive"
  isocenter node add https://archive.example/dicom-web --name cloud --token-file /etc/cloud.token
  isocenter node list
  isocenter node test
  isocenter node test PACS
  isocenter node limit PACS --associations 1 --bandwidth 2M --hours "mon-fri 20:00-06:00"
  isocenter node hold PACS
  isocenter node release PACS
  isocenter node disable PACS
  isocenter node remove PACS

All of them may run while the server does, which verifies nodes by itself (jobs.verify_nodes_every).

exit codes: 0 done, 1 there is no such node, or it does not answer, 2 arguments or settings"""

_HEAD: Final = ("name", "address", "state", "verified", "ms", "limits", "what was wrong")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The actions of node."""
    for name, action in add_actions(
        parser,
        (
            ("add", "add a node"),
            ("list", "list the nodes, and how they did when they were verified last"),
            ("test", "verify nodes now (C-ECHO, QIDO-RS)"),
            ("limit", "say what may be sent to a node or peer, and when"),
            ("hold", "have nothing sent to nodes or peers until they are released"),
            ("release", "have what waited sent"),
            ("enable", "let jobs speak to nodes again"),
            ("disable", "let no job speak to nodes until they are enabled"),
            ("remove", "remove nodes; their jobs fail"),
        ),
    ):
        add_archive_options(action)
        match name:
            case "add":
                _add_add_arguments(action)
            case "limit":
                _add_limit_arguments(action)
            case "list":
                action.add_argument("--json", action="store_true", help="for programs")
            case _:
                count = "*" if name == "test" else "+"
                action.add_argument("names", nargs=count, metavar="NAME", help="of a node")


def _add_limit_arguments(action: argparse.ArgumentParser) -> None:
    action.add_argument("name", metavar="NAME", help="of a node, or AE title of a peer")
    for flag, kind, metavar, text in (
        ("--associations", int, "N", "so many associations at once; 0: as the settings say"),
        ("--bandwidth", str, "RATE", "bytes a second, as in 500k or 2.5M; 0: no limit"),
        ("--hours", str, "TEXT", "in these hours of the week only; '': always"),
    ):
        action.add_argument(flag, type=kind, metavar=metavar, help=text)


def _add_add_arguments(action: argparse.ArgumentParser) -> None:
    action.add_argument(
        "address", metavar="ADDRESS", help="AET@host:port, or the URL of a DICOMweb service"
    )
    action.add_argument(
        "--name", default="", metavar="NAME", help="default: the AE title, or the host of a URL"
    )
    action.add_argument("--tls", action="store_true", help="speak TLS (DIMSE)")
    action.add_argument(
        "--any-host",
        action="store_true",
        help="its certificate may be for any host, if a trusted CA has signed it",
    )
    action.add_argument(
        "--server-name",
        default="",
        metavar="HOST",
        help="whose its certificate has to be, and that it is asked for (SNI; DIMSE over TLS); "
        "default: the host of its address",
    )
    action.add_argument(
        "--token-file", default="", metavar="F", help="holds a bearer token (DICOMweb)"
    )
    action.add_argument(
        "--move-token",
        action="store_true",
        help="the token may be sent to this address, although it was given for another",
    )
    action.add_argument(
        "--ca-file", default="", metavar="F", help="CAs that may sign its certificate (DICOMweb)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Do it; the exit code."""
    return run_action(
        arguments,
        {
            "add": _add,
            "list": _list,
            "test": _test,
            "enable": _enable,
            "disable": _disable,
            "remove": _remove,
            "limit": _limit,
            "hold": partial(_hold, is_held=True),
            "release": partial(_hold, is_held=False),
        },
    )


async def _add(settings: Settings, arguments: argparse.Namespace, terminal: Terminal) -> int:
    try:
        node = new_node(
            arguments.address,
            arguments.name,
            tls=arguments.tls,
            verify_host=not arguments.any_host,
            server_name=arguments.server_name,
            token_file=arguments.token_file,
            ca_file=arguments.ca_file,
        )
    except ValueError as error:
        raise UsageError(str(error)) from error
    async with client_side(settings) as side:
        try:
            await side.changes.add(node, side.caller, moves_token=arguments.move_token)
        except NodeChangeError as error:
            terminal.error(str(error))
            return EXIT_FAILED
    print(f"node {node.name} was added; isocenter node test {node.name} asks whether it answers")
    return EXIT_OK


async def _list(settings: Settings, arguments: argparse.Namespace, terminal: Terminal) -> int:
    async with composition.open_stores(settings) as stores:
        nodes = list(await stores.nodes.all())
        limits = {limit.destination: limit for limit in await stores.limits.limits()}
    names = {node.name for node in nodes}
    nodes += [node_of_peer(peer) for peer in settings.peers if peer.ae_title not in names]
    print_rows(
        nodes,
        as_json=arguments.json,
        head=_HEAD,
        line=partial(_line, limits),
        members=partial(_json, limits),
    )
    if not nodes and not arguments.json:
        terminal.note("there is none yet; isocenter node add AET@host:port")
    return EXIT_OK


def limit_text(limit: DestinationLimit | None) -> str:
    """What may be sent, in words; empty: whatever there is."""
    if limit is None:
        return ""
    words = ["held"] if limit.is_held else []
    words += [f"{limit.associations} associations"] if limit.associations else []
    words += [f"{limit.bandwidth} bytes/s"] if limit.bandwidth else []
    words += [limit.hours.text] if limit.hours.text else []
    return ", ".join(words)


def _line(limits: Mapping[str, DestinationLimit], node: Node) -> tuple[str, ...]:
    state = node.state.value if node.is_enabled else "disabled"
    texts = (
        node.name, node.address + (" (TLS)" if node.tls else ""), state,
        local_time(node.checked_at),
        "" if node.response_seconds is None else f"{node.response_seconds * 1000:.0f}",
        limit_text(limits.get(node.name)), node.fault,
    )  # fmt: skip
    return tuple(map(shown, texts))


def _json(limits: Mapping[str, DestinationLimit], node: Node) -> dict[str, object]:
    limit = limits.get(node.name) or DestinationLimit(destination=node.name)
    return {
        "name": node.name,
        "address": node.address,
        "tls": node.tls,
        "server_name": node.server_name,
        "enabled": node.is_enabled,
        "state": node.state.value,
        "checked_at": local_time(node.checked_at),
        "response_seconds": node.response_seconds,
        "fault": node.fault,
        "associations": limit.associations,
        "bandwidth": limit.bandwidth,
        "hours": limit.hours.text,
        "held": limit.is_held,
    }


async def _test(settings: Settings, arguments: argparse.Namespace, terminal: Terminal) -> int:
    code = EXIT_OK
    async with client_side(settings) as side:
        nodes: list[Node] = []
        for name in arguments.names:
            node = await side.find(name)
            if node is None:
                terminal.error(_unknown(name))
                code = EXIT_FAILED
            else:
                nodes.append(node)
        if not arguments.names:
            nodes = [node for node in await side.stores.nodes.all() if node.is_enabled]
            if not nodes:
                terminal.note("there is no node to be tested; isocenter node add AET@host:port")

        async def test(node: Node) -> None:
            nonlocal code
            check = await verify_node(node, side.open_node, time.time)
            await side.stores.nodes.note_check(node, check)
            if check.state is NodeState.ONLINE:
                assert check.response_seconds is not None
                print(f"{node.name}: online, {check.response_seconds * 1000:.0f} ms")
            else:
                terminal.error(f"{node.name}: {check.state.value}: {check.fault}")
                code = EXIT_FAILED

        async with open_plain_nursery() as nursery:
            for node in nodes:
                nursery.start_soon(test, node)
    return code


def _unknown(name: str) -> str:
    return f"there is no node {name!r}; isocenter node list names those that there are"


async def _limit(settings: Settings, arguments: argparse.Namespace, terminal: Terminal) -> int:
    said = (arguments.associations, arguments.bandwidth, arguments.hours)
    if said == (None, None, None):
        raise UsageError("say --associations, --bandwidth or --hours")
    async with client_side(settings) as side:
        node = await side.find(arguments.name)
        if node is None:
            terminal.error(_unknown(arguments.name))
            return EXIT_FAILED
        limit = await side.changes.limit_of(node)
        try:
            if arguments.associations is not None:
                limit = replace(limit, associations=check_associations(arguments.associations))
            if arguments.bandwidth is not None:
                limit = replace(limit, bandwidth=parse_bandwidth(arguments.bandwidth))
            if arguments.hours is not None:
                limit = replace(limit, hours=parse_hours(arguments.hours))
        except ValueError as error:
            raise UsageError(str(error)) from error
        await side.changes.set_limit(limit, side.caller)
    return EXIT_OK


async def _hold(
    settings: Settings, arguments: argparse.Namespace, terminal: Terminal, *, is_held: bool
) -> int:
    code = EXIT_OK
    async with client_side(settings) as side:
        for name in arguments.names:
            node = await side.find(name)
            if node is None:
                terminal.error(_unknown(name))
                code = EXIT_FAILED
            elif not await side.changes.hold(node, side.caller, is_held=is_held):
                terminal.note(f"{name} is {'held' if is_held else 'not held'} already")
    return code


async def _enable(settings: Settings, arguments: argparse.Namespace, terminal: Terminal) -> int:
    return await _switch(settings, arguments, terminal, is_enabled=True)


async def _disable(settings: Settings, arguments: argparse.Namespace, terminal: Terminal) -> int:
    return await _switch(settings, arguments, terminal, is_enabled=False)


async def _switch(
    settings: Settings, arguments: argparse.Namespace, terminal: Terminal, *, is_enabled: bool
) -> int:
    code = EXIT_OK
    async with client_side(settings) as side:
        for name in arguments.names:
            node = await side.stores.nodes.get(name)
            if node is None:
                terminal.error(_unknown(name))
                code = EXIT_FAILED
                continue
            try:
                await side.changes.exchange(replace(node, is_enabled=is_enabled), side.caller)
            except NodeChangeError as error:
                terminal.error(f"{name}: {error}")
                code = EXIT_FAILED
    return code


async def _remove(settings: Settings, arguments: argparse.Namespace, terminal: Terminal) -> int:
    code = EXIT_OK
    async with client_side(settings) as side:
        for name in arguments.names:
            if not await side.changes.remove(name, side.caller):
                terminal.error(_unknown(name))
                code = EXIT_FAILED
    return code
