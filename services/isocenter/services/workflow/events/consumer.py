"""Consumers of events, as values."""

from __future__ import annotations

from dataclasses import field
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from isocenter.engine.fast_init import dataclass
from isocenter.services.workflow.events.event import Kind

ALL_KINDS: Final = tuple(kind.value for kind in Kind)


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """POST to *url*, signed with the secret.

    Attributes:
        secret, secret_file: what signs; neither: nothing does.
        ca: certificates that sign the server's, instead of those that the system trusts.
    """

    url: str
    secret: str = field(default="", repr=False)
    secret_file: Path | None = None
    ca: Path | None = None

    @property
    def host(self) -> str:
        """Where events go."""
        return urlsplit(self.url).hostname or ""

    @property
    def host_in_the_clear(self) -> str:
        """Where events go in the clear; empty: over TLS."""
        parts = urlsplit(self.url)
        return (parts.hostname or "") if parts.scheme == "http" else ""


@dataclass(frozen=True, slots=True)
class ProgramTarget:
    """A program, with the event on its standard input."""

    argv: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PythonFunction:
    """``module:function``, called with the event as a dict, in a thread."""

    entry_point: str


@dataclass(frozen=True, slots=True)
class Availability:
    """A peer that is told by instance availability notification (PS3.4 Annex R) what it can
    retrieve of a study that is complete."""

    ae_title: str


@dataclass(frozen=True, slots=True)
class Publication:
    """A repository of documents that is to have manifests of studies as they are here."""

    repository: str


Target = Webhook | ProgramTarget | PythonFunction | Availability | Publication


@dataclass(frozen=True, slots=True, kw_only=True)
class Consumer:
    """Somebody who gets events.

    Attributes:
        kinds: of the events that it gets.
        timeout: of one delivery, in seconds.
        longest_retry: between two attempts, in seconds.
        give_up_after: seconds from the first failure until an event is given up; those that
            are as old get one attempt each then, as long as nothing arrives.
        concurrency: deliveries at once, each of another study.
    """

    name: str
    target: Target
    kinds: tuple[str, ...] = ALL_KINDS
    timeout: float = 30.0
    longest_retry: float = 900.0
    give_up_after: float = 7 * 86_400.0
    concurrency: int = 4

    def __str__(self) -> str:
        return self.name
