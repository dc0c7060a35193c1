"""AI service that the settings name, as a value."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import field
from enum import Enum
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from isocenter.engine.fast_init import dataclass

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}")
#: What its jobs call it where others call a node: no name of a node has a colon.
_PREFIX: Final = "ai:"


class Authentication(Enum):
    """How we say who we are."""

    NONE = "none"
    #: ``Authorization: Bearer``, with the content of the key file.
    BEARER = "bearer"
    #: A header of its own.
    API_KEY = "api_key"
    #: ``Authorization: Basic``, with a user and the content of the key file.
    BASIC = "basic"


@dataclass(frozen=True, slots=True, kw_only=True)
class AiService:
    """A service that analyses images, and how it is spoken to.

    Attributes:
        url: below which its protocol lies.
        key_file: holds what proves who we are, on one line.
        header: of `Authentication.API_KEY`.
        ca: certificates that sign the server's, instead of those that the system trusts.
        model: which of its models is meant where nobody says one; empty: that is left to it.
        parameters: sent with each request.
        modalities: of series that it is sent; empty: any that have images.
        connect_seconds, answer_seconds: until there is a connection, and an answer.
        poll_seconds: how often it is asked how far it is.
        give_up_seconds: until a request that it does not finish is taken back.
        is_strict: what is not valid by its IOD is withheld; else it is stored, and that is noted.
        most_results, most_result_bytes: how many objects it may answer with, and of what sum.
        is_research: results are not taken in: they are about nobody that is known here.
    """

    name: str
    url: str
    authentication: Authentication = Authentication.NONE
    user: str = ""
    key_file: Path | None = None
    header: str = "x-api-key"
    ca: Path | None = None
    model: str = ""
    parameters: Mapping[str, str] = field(default_factory=dict)
    modalities: tuple[str, ...] = ()
    connect_seconds: float = 30.0
    answer_seconds: float = 300.0
    poll_seconds: float = 5.0
    give_up_seconds: float = 1_800.0
    most_results: int = 100
    most_result_bytes: int = 1 << 30
    is_strict: bool = False
    is_research: bool = False

    @property
    def host(self) -> str:
        return (urlsplit(self.url).hostname or "").rstrip(".")

    @property
    def destination(self) -> str:
        """What its jobs call it, and the list of destinations that are left alone."""
        return destination_of(self.name)

    def __str__(self) -> str:
        return self.name


def is_service_name(text: str) -> bool:
    """Whether a service may be called that."""
    return _NAME.fullmatch(text) is not None


def destination_of(name: str) -> str:
    """What jobs call the service of that name."""
    return _PREFIX + name


def service_of(destination: str) -> str:
    """The name of a service that a job names; empty: it names none."""
    return destination.removeprefix(_PREFIX) if destination.startswith(_PREFIX) else ""
