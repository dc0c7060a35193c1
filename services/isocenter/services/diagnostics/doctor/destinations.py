"""Check of remote nodes and destinations, and of the rules that send to them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Final

from isocenter.services.diagnostics.doctor.check import CheckResult, count
from isocenter.services.diagnostics.findings import Finding, Severity, Side, error
from isocenter.services.workflow.forwarding.ports import DestinationStatus, ForwardState
from isocenter.services.workflow.nodes.limits import DestinationLimit
from isocenter.services.workflow.nodes.node import Node, NodeState

_FAILED: Final = (NodeState.OFFLINE, NodeState.ERROR)


def assess_destinations(
    nodes: Sequence[Node],
    limits: Sequence[DestinationLimit],
    statuses: Sequence[DestinationStatus],
    forwards: Mapping[str, Collection[str]],
    rule_faults: Sequence[str],
    *,
    known: Collection[str],
    are_rules_on: bool,
    now: float,
) -> CheckResult:
    """What is against sending, as far as the database knows; nobody is asked.

    Args:
        forwards: by rule that is looked at, the destinations that it names.
        rule_faults: why others are not.
        known: the names of peers and of nodes that may be sent to.
        now: seconds since 1970.
    """
    findings = [
        *_of_nodes(nodes),
        *_of_rules(forwards, rule_faults, known, are_rules_on=are_rules_on),
        *_of_queue(statuses, {limit.destination: limit for limit in limits}, now),
    ]
    seen = f"{count(len(nodes), 'remote node')}, {count(len(forwards), 'forwarding rule')}"
    return CheckResult("destinations", seen, tuple(findings))


def _of_nodes(nodes: Sequence[Node]) -> Iterator[Finding]:
    for node in nodes:
        if node.is_enabled and node.state in _FAILED:
            what = "isocenter node test" if node.is_web else "isocenter doctor"
            where = node.name if node.is_web else node.address
            yield _warning(
                f"node {node.name} is {node.state.value}: {node.fault}",
                cure=f"{what} {where!r} says more",
                meaning="nothing is retrieved from it or sent to it",
            )


def _of_rules(
    forwards: Mapping[str, Collection[str]],
    rule_faults: Sequence[str],
    known: Collection[str],
    *,
    are_rules_on: bool,
) -> Iterator[Finding]:
    for fault in rule_faults:
        yield error(fault, meaning="the rule is not in use", side=Side.HERE)
    if forwards and not are_rules_on:
        yield _warning(
            "rules are switched off",
            cure="isocenter rules on",
            meaning="what comes is stored as it is, and sent to nobody",
        )
    for rule, destinations in forwards.items():
        for destination in destinations:
            if destination not in known:
                yield error(
                    f"rule {rule!r} forwards to {destination}, which is neither a peer nor a node "
                    "that is enabled",
                    cure=f"isocenter node add {destination}@host:port, or change the rule",
                    meaning="its objects wait, and are given up at last",
                    side=Side.HERE,
                )


def _of_queue(
    statuses: Sequence[DestinationStatus], limits: Mapping[str, DestinationLimit], now: float
) -> Iterator[Finding]:
    for status in statuses:
        name = status.destination
        due = status.counts.get(ForwardState.DUE, 0)
        failed = status.counts.get(ForwardState.FAILED, 0)
        closed = limits[name].why_closed(now) if name in limits else ""
        if due and closed:
            yield Finding(
                Severity.NOTE, f"{count(due, 'object')} for {name} wait: {closed}", side=Side.HERE
            )
        elif status.failures:
            yield _warning(
                f"{name} could not be sent to, {count(status.failures, 'time')} in a row: "
                f"{status.last_fault}",
                cure="isocenter queue summary says when it is tried again",
                meaning=f"{count(due, 'object')} wait",
            )
        if failed:
            yield _warning(
                f"{count(failed, 'object')} for {name} were given up",
                cure="isocenter queue list --state failed says why; isocenter queue retry sends "
                "them",
            )


def _warning(text: str, *, cure: str, meaning: str = "") -> Finding:
    return Finding(Severity.WARNING, text, cure=cure, meaning=meaning)
