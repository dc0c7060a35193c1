"""Section of the web services: DICOMweb over HTTP."""

from __future__ import annotations

from enum import Enum
from typing import Final

from isocenter.engine.fast_init import dataclass
from isocenter.services.net.addresses import is_host, is_network
from isocenter.services.net.http.cross_origin import is_origin
from isocenter.services.settings import value_types as kinds
from isocenter.services.settings.field import COUNT, setting


class EmptySearch(Enum):
    """Status of a search that finds nothing."""

    STANDARD = "standard"
    OK = "200"
    NO_CONTENT = "204"

    def status(self, standard: int) -> int:
        """The status, where the standard has *standard*."""
        return standard if self is EmptySearch.STANDARD else int(self.value)


def _is_root(text: str) -> bool:
    return text == "" or (text.startswith(("http://", "https://")) and is_host(text[8:].strip("/")))


_HOST_OR_NONE: Final = kinds.Text(
    "a host name or an address, or nothing", lambda text: text == "" or is_host(text)
)
_ROOT: Final = kinds.Text("an address as https://archive.example", _is_root)


@dataclass(frozen=True, slots=True, kw_only=True)
class WebSettings:
    """DICOMweb (PS3.18) over HTTP."""

    enabled: bool = setting(
        True,
        kinds.Boolean(),
        "offer DICOMweb over HTTP",
        off_flag="--no-http",
        off_help="offer no DICOMweb",
    )
    anonymize: str = setting(
        "basic",
        kinds.Text(
            "the name of a project of [[deidentification]], or nothing",
            lambda text: text.isprintable(),
        ),
        "project under which WADO-URI de-identifies objects that are asked for with anonymize=yes; "
        "basic is there without being set up, unless nodes share the archive; empty: such requests "
        "are refused",
    )
    pages: bool = setting(
        True, kinds.Boolean(), "offer pages for people there: studies, images, upload, status"
    )
    host: str = setting(
        "127.0.0.1",
        kinds.HOST,
        "address to listen on for DICOMweb in the clear; others than programs on this machine need "
        "a token, which everybody on the path can read",
        "--http-host",
        "H",
    )
    port: int = setting(
        8080, kinds.PORT, "port for DICOMweb; 0 takes a free one", "--http-port", "N"
    )
    https_host: str = setting(
        "",
        _HOST_OR_NONE,
        "address to listen on for DICOMweb over TLS, with the server's certificate; unset: it is "
        "not offered",
        "--https-host",
        "H",
    )
    https_port: int = setting(
        8443, kinds.PORT, "port for DICOMweb over TLS; 0 takes a free one", "--https-port", "N"
    )
    public_root: str = setting(
        "",
        _ROOT,
        "address under which others reach the service, as https://archive.example; unset: the one "
        "that a request asked for",
    )
    trusted_proxies: tuple[str, ...] = setting(
        (),
        kinds.ListOf(kinds.Text("an address or a network (10.1.0.0/16)", is_network)),
        "reverse proxies whose word is taken for the address of a caller; what they pass on needs "
        "a token, also on this machine, and web.public_root",
    )
    forwarded_header: str = setting(
        "X-Forwarded-For",
        kinds.one_of("X-Forwarded-For", "Forwarded"),
        "the header that the proxies write, and the only one that is read",
    )
    cors_origins: tuple[str, ...] = setting(
        (),
        kinds.ListOf(
            kinds.Text("an origin as browsers write it (https://viewer.example)", is_origin)
        ),
        "origins whose pages may use the service (CORS), to the letter; none: those of no other",
    )
    volview: str = setting(
        "",
        _ROOT,
        "address of a VolView that studies are opened in from their pages, as "
        "https://volview.example; web.cors_origins has to name its origin",
    )
    deletes: bool = setting(
        False,
        kinds.Boolean(),
        "offer the deletion of studies, series and instances (DELETE) to who has study:delete; "
        "what is deleted goes into the trash",
    )
    session_idle: float = setting(
        1_800.0, kinds.Seconds(), "a browser that is signed in and not used is signed out after it"
    )
    session_length: float = setting(
        43_200.0, kinds.Seconds(), "a browser is signed in for so long at most"
    )
    max_connections: int = setting(500, COUNT, "HTTP connections at once")
    max_connections_per_address: int = setting(
        100, COUNT, "HTTP connections at once from one address"
    )
    max_requests_per_caller: int = setting(
        250,
        kinds.Integer(1, 1_000_000, zero="no limit"),
        "requests of one user, certificate or token, or else of one address, under way at once; "
        "over it, status 429",
    )
    max_request_rate: int = setting(
        0,
        kinds.Integer(1, 1_000_000, "a second", zero="no limit"),
        "requests of such a caller in a second, twice as many after a pause; over it, status 429",
    )
    head_timeout: float = setting(
        10.0, kinds.Seconds(), "from the first byte of a request, or the connection, to its head"
    )
    idle_timeout: float = setting(75.0, kinds.Seconds(), "between two requests of a connection")
    body_timeout: float = setting(30.0, kinds.Seconds(), "for each 64 KiB of a request's body")
    send_timeout: float = setting(30.0, kinds.Seconds(), "for each 256 KiB of an answer")
    default_results: int = setting(
        1_000, COUNT, "matches of a search that says no limit; a Warning tells of more"
    )
    max_results: int = setting(
        10_000, COUNT, "matches of any answer to a search; a Warning tells of more"
    )
    max_event_streams: int = setting(
        100, COUNT, "streams of events (/api/v1/events) at once; over it, status 503"
    )
    max_downloads: int = setting(
        8, COUNT, "downloads as a ZIP file under way at once; over it, status 503"
    )
    max_downloads_per_caller: int = setting(
        2, COUNT, "downloads of one user, certificate or token at once; over it, status 429"
    )
    max_download: int = setting(
        100 << 30,
        kinds.Integer(1 << 20, 1 << 60, "bytes"),
        "bytes of the objects of one download; over it, status 413",
    )
    max_objects_searched: int = setting(
        1_000,
        COUNT,
        "objects that one search reads, for attributes that the index does not have; over it, "
        "status 413",
    )
    empty_search: EmptySearch = setting(
        EmptySearch.STANDARD,
        kinds.Choice(EmptySearch),
        "status of a search that finds nothing: 200 with an empty array, or 204, which older "
        "clients expect; standard: 200, and of the worklist 204 (PS3.18 Table 14.4.3-1)",
    )
