"""Verification of nodes: once, and again and again in the background."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from typing import Final

import trio

from isocenter.engine.errors import IsocenterError
from isocenter.services.errors import ConnectError, StorageError, text_of
from isocenter.services.net.http.client_errors import ServerUnreachableError
from isocenter.services.workflow.nodes.node import Node, NodeState
from isocenter.services.workflow.nodes.ports import NodeBook, NodeCheck, OpenNode

log = logging.getLogger("isocenter.jobs")

#: A node that fails is looked at less and less often, up to so many times the interval.
_MOST_INTERVALS: Final = 16
#: Intervals differ by so much, so that nodes are not all asked at one moment.
_JITTER: Final = 0.2


async def verify_node(node: Node, open_node: OpenNode, now: Callable[[], float]) -> NodeCheck:
    """Speak to a node; what came of it."""
    began = trio.current_time()
    try:
        async with open_node(node) as remote:
            await remote.verify()
    except (ConnectError, ServerUnreachableError, OSError) as error:
        return NodeCheck(state=NodeState.OFFLINE, at=now(), fault=text_of(error))
    except IsocenterError as error:
        return NodeCheck(state=NodeState.ERROR, at=now(), fault=str(error))
    except Exception as error:
        # A fault of ours, and no reason for the server to end; its text may name a patient.
        fault = f"internal error ({type(error).__name__})"
        log.error("node %r: %s", node.name, fault)
        return NodeCheck(state=NodeState.ERROR, at=now(), fault=fault)
    return NodeCheck(state=NodeState.ONLINE, at=now(), response_seconds=trio.current_time() - began)


async def verify_nodes_always(
    book: NodeBook, open_node: OpenNode, interval: float, now: Callable[[], float]
) -> None:
    """Verify each node every *interval* seconds, one that fails less often; until cancelled."""
    due: dict[tuple[str, int], float] = {}
    while True:
        try:
            nodes = [node for node in await book.all() if node.is_enabled]
            due = {key: due[key] for node in nodes if (key := (node.name, node.version)) in due}
            for node in nodes:
                key = (node.name, node.version)
                if due.get(key, 0.0) > trio.current_time():
                    continue
                check = await verify_node(node, open_node, now)
                if await book.note_check(node, check):
                    log.info(
                        "node %r is %s%s",
                        node.name,
                        check.state.value,
                        f": {check.fault}" if check.fault else "",
                    )
                failures = 0 if check.state is NodeState.ONLINE else node.failures + 1
                times = min(2 ** min(failures, 10), _MOST_INTERVALS)
                spread = random.uniform(1 - _JITTER, 1 + _JITTER)  # noqa: S311 - no secret
                due[key] = trio.current_time() + interval * times * spread
        except StorageError as error:
            log.error("nodes cannot be verified now: %s", error)
        await trio.sleep(min(interval, 5.0))
