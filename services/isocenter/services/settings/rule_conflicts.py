"""Conflicts of rules with settings, and of destinations with projects of de-identification."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator

from isocenter.services.archive.rules.evaluation import Rule, as_named
from isocenter.services.net.addresses import is_within
from isocenter.services.settings.conflict import Conflict
from isocenter.services.settings.settings import Settings


def missing_of_signer(settings: Settings) -> Iterator[str]:
    """Settings without which nobody can sign."""
    for name in ("sign_key", "sign_certificate"):
        if getattr(settings.signatures, name) is None:
            yield name


def conflicts_of_rule(
    rule: Rule,
    settings: Settings,
    destinations: Collection[str],
    ae_title_of: Callable[[str], str] = as_named,
) -> Iterator[Conflict]:
    """What of a rule does not fit to the rest.

    Args:
        destinations: to which it may send.
        ae_title_of: as of `Rules`.
    """
    if settings.storage.is_in_memory and rule.quarantine:
        yield Conflict(
            "rules",
            f"rule {rule.name!r}: quarantine needs a data directory: in memory nobody could "
            "release anything",
            ("storage.data_dir",),
        )
    for missing in missing_of_signer(settings) if rule.signs else ():
        yield Conflict(
            "rules",
            f"rule {rule.name!r}: sign needs signatures.{missing}: who signs",
            (f"signatures.{missing}",),
        )
    if settings.storage.is_in_memory and rule.retention is not None:
        yield Conflict(
            "rules",
            f"rule {rule.name!r}: delete_after_days needs a data directory: in memory there is no "
            "trash",
            ("storage.data_dir",),
        )
    compression = rule.compression
    if compression is not None and compression.when_complete and not settings.events.enabled:
        yield Conflict(
            "rules",
            f"rule {rule.name!r}: while events.enabled is false nothing says when a study is "
            'complete; add compress_when = "arrival"',
            ("events.enabled",),
        )
    known = {service.name for service in settings.ai_services}
    for name in rule.analyses:
        if name not in known:
            yield Conflict(
                "rules",
                f"rule {rule.name!r}: {name} is none of the AI services; add it as one of "
                "[[ai_services]]",
                ("ai_services",),
            )
    projects = {project.name for project in settings.deidentification}
    for name in {route.form.project for route in rule.routes if route.form.project}:
        if name not in projects:
            yield Conflict(
                "rules",
                f"rule {rule.name!r}: {name} is no project of de-identification; add it as one of "
                "[[deidentification]]",
                ("deidentification",),
            )
    is_given_up = rule.retention is not None and rule.retention.forwarded_days > 0
    if is_given_up and all(project_of(route.destination, settings) for route in rule.routes):
        yield Conflict(
            "rules",
            f"rule {rule.name!r}: all of its destinations are given what a project de-identifies, "
            "and with delete_after_days nobody would have the object as it is; leave it out, or "
            'say delete_since = "arrived"',
            ("deidentification",),
        )
    ours = {settings.server.ae_title, *settings.server.additional_ae_titles}
    for route in rule.routes if is_given_up else ():
        if ae_title_of(route.destination) in ours:
            yield Conflict(
                "rules",
                f"rule {rule.name!r}: {route.destination} is this archive itself, and with "
                "delete_after_days nobody would have the object any more; forward to another one",
                ("server.ae_title", "server.additional_ae_titles"),
            )
    for route in rule.routes:
        project = project_of(route.destination, settings) if route.commit else ""
        if project:
            yield Conflict(
                "rules",
                f"rule {rule.name!r}: {route.destination} is given what the project {project} "
                "de-identifies, and would commit another object than the one that is here; leave "
                "out commit, or forward to it by a rule of its own",
                ("deidentification",),
            )
        if route.destination not in destinations:
            yield Conflict(
                "rules",
                f"rule {rule.name!r}: {route.destination} is none of the peers; "
                "add it with --peer, or as one of [[peers]]",
                ("peers",),
            )


def project_of(destination: str, settings: Settings) -> str:
    """The name of the project that is for a peer of the settings; empty: none is."""
    hosts = [peer.host for peer in settings.peers if peer.ae_title == destination]
    return project_at([destination, *hosts], settings)


def project_at(places: Collection[str], settings: Settings) -> str:
    """The name of the project that is for one of some AE titles and hosts; empty: none is."""
    compared = {place.casefold().rstrip(".") for place in places}
    for project in settings.deidentification:
        named = {place.casefold().rstrip(".") for place in project.destinations}
        if compared & named or any(is_within(place, project.networks) for place in places):
            return project.name
    return ""
