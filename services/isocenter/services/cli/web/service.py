"""Connection of ``isocenter dicomweb`` to a service: address, TLS, token, resources."""

from __future__ import annotations

import argparse
from base64 import b64encode
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final

from isocenter.engine.error_codes import ErrorCode
from isocenter.engine.errors import IsocenterError
from isocenter.engine.fast_init import dataclass
from isocenter.services.archive.index.attributes import UNIQUE_KEY, Level
from isocenter.services.cli.support.client_command import Interrupts, run_task
from isocenter.services.cli.support.network_options import add_seconds, secret_in
from isocenter.services.cli.support.options import UsageError
from isocenter.services.cli.support.query_options import Request, requests_of
from isocenter.services.cli.support.terminal import Terminal
from isocenter.services.cli.support.tls_options import add_tls_file_options, tls_context_of
from isocenter.services.net.http.client import HttpDeadlines
from isocenter.services.net.http.client_errors import HttpStatusError
from isocenter.services.web.client.client import DicomWebClient
from isocenter.services.web.client.models import value_of
from isocenter.services.web.client.resources import WebResource, split_address

_CONNECT_SECONDS: Final = 30
_ANSWER_SECONDS: Final = 300
_IDLE_SECONDS: Final = 60
#: Headers that a request has already, or that say how it is carried.
_OWN_HEADERS: Final = frozenset(
    {
        "accept", "accept-encoding", "connection", "content-length", "content-type", "expect",
        "host", "range", "te", "transfer-encoding", "upgrade",
    }
)  # fmt: skip
_LEVELS: Final = (Level.STUDY, Level.SERIES, Level.IMAGE)
_CURES: Final = {
    401: "give a token (--token-file), a certificate (--tls-cert, --tls-key) or --user",
    403: "the server knows us, and its access policy does not allow this",
    405: "the server does not offer this",
    501: "the server does not offer this",
}


class RefusedError(IsocenterError):
    """The server refused, and what helps.  Exit code 1."""

    error_code = ErrorCode.HTTP


def add_service_options(parser: argparse.ArgumentParser) -> None:
    """How a service is reached, and who we are there."""
    group = parser.add_argument_group("service")
    token = group.add_mutually_exclusive_group()
    token.add_argument("--token-file", type=Path, metavar="F", help="holds a bearer token")
    token.add_argument(
        "--token", metavar="T", help="the token; everybody on this machine can see it"
    )
    token.add_argument("--user", metavar="NAME", help="sign in with a password (HTTP Basic)")
    group.add_argument(
        "--password-file", type=Path, metavar="F", help="holds the password (for --user)"
    )
    group.add_argument(
        "--header",
        action="append",
        default=[],
        type=_header,
        metavar="NAME: VALUE",
        help="a header of each request (repeatable)",
    )
    group.add_argument(
        "--http2", action="store_true", help="speak HTTP/2 where the server does (https only)"
    )
    add_seconds(group, "-to", "--timeout", default=_CONNECT_SECONDS, text="to connect")
    add_seconds(
        group, "--answer-timeout", default=_ANSWER_SECONDS, text="until an answer begins to come"
    )
    add_seconds(
        group,
        "-ts",
        "--socket-timeout",
        default=_IDLE_SECONDS,
        text="without a byte in the middle of an answer",
    )
    add_tls_file_options(parser.add_argument_group("TLS (of https)"))


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    name, value = name.strip(), value.strip()
    is_token = name.isascii() and name.replace("-", "").replace("_", "").isalnum()
    if not colon or not is_token or not value.isascii() or not value.isprintable():
        raise argparse.ArgumentTypeError(f"{name!r} is no header; write 'Name: value'")
    if name.lower() in _OWN_HEADERS:
        raise argparse.ArgumentTypeError(f"{name} is set by this command")
    return name, value


@dataclass(frozen=True, slots=True, kw_only=True)
class WebCommand:
    """One action while it runs.

    Attributes:
        named: what the address names beside the service.
    """

    arguments: argparse.Namespace
    client: DicomWebClient
    named: WebResource | None
    terminal: Terminal
    interrupts: Interrupts

    async def resources(self) -> list[WebResource]:
        """What the address and the keys name; keys that are no UIDs are searched for.

        Raises:
            UsageError: they name nothing.
        """
        if self.named is not None:
            if _has_keys(self.arguments):
                raise UsageError("the address names it already; leave the keys out")
            return [self.named]
        if not _has_keys(self.arguments):
            raise UsageError(
                "of what? Give --study-uid, --series-uid, --sop-instance-uid or other keys, or the "
                "address of a study, series or instance"
            )
        (request,) = requests_of(self.arguments, (), retrieve=False)
        if request.level is None or request.level is Level.PATIENT:
            raise UsageError("DICOMweb has no level PATIENT; name studies")
        exact = _exactly_named(request)
        if exact is not None:
            return [exact]
        found = []
        tags = [f"{UNIQUE_KEY[level]:08X}" for level in _LEVELS[: request.level.depth]]
        keys = [*request.keys, *((tag, "") for tag in tags)]
        asked = request.top_level
        async for model in self.client.search(request.level, keys):
            uids = [
                value_of(model, tag) or asked.get(int(tag, 16), "") for tag in tags
            ]  # some servers do not repeat what was asked for
            try:
                found.append(_of_uids(uids))
            except ValueError:
                self.terminal.error("the server names a match by what is no UID; it is left out")
        return found

    def tell_of_no_match(self) -> None:
        """Nothing matched."""
        self.terminal.error("nothing matched; see what there is with isocenter dicomweb search")


def _has_keys(arguments: argparse.Namespace) -> bool:
    named = (value for name, value in vars(arguments).items() if name.startswith("key_"))
    return bool(arguments.key or arguments.query_file or any(named))


def _exactly_named(request: Request) -> WebResource | None:
    """What UIDs name without a search."""
    assert request.level is not None
    values = request.top_level
    wanted = [UNIQUE_KEY[level] for level in _LEVELS[: request.level.depth]]
    if len(request.keys) != len(wanted) or set(values) != set(wanted):
        return None
    try:
        return _of_uids([values[tag] for tag in wanted])
    except ValueError:
        return None


def _of_uids(uids: Sequence[str]) -> WebResource:
    """By those of a study, a series in it, and an instance in that.

    Raises:
        ValueError: one is none.
    """
    study, series, instance = (*uids, "", "")[:3]
    if not all(uids):
        raise ValueError("a UID is missing")
    return WebResource(study, series, instance)


def run_web(arguments: argparse.Namespace, work: Callable[[WebCommand], Awaitable[int]]) -> int:
    """Run an action from its options to its exit code."""
    terminal = Terminal.of(arguments)

    async def prepared(interrupts: Interrupts) -> int:
        try:
            base, named = split_address(arguments.url)
            client = _client(arguments, base)
        except ValueError as error:
            raise UsageError(f"{arguments.url!r}: {error}") from error
        try:
            async with client:
                return await work(
                    WebCommand(
                        arguments=arguments,
                        client=client,
                        named=named,
                        terminal=terminal,
                        interrupts=interrupts,
                    )
                )
        except HttpStatusError as error:
            cure = _CURES.get(error.status)
            raise RefusedError(f"{error}; {cure}" if cure else str(error)) from error

    return run_task(terminal, prepared)


def _client(arguments: argparse.Namespace, base: str) -> DicomWebClient:
    is_https = base.lower().startswith("https:")
    key, certificate = arguments.tls_key, arguments.tls_cert
    if not is_https and (key or certificate or arguments.tls_ca or arguments.tls_crl):
        raise UsageError("files for TLS, but no TLS: the address begins with http, not https")
    headers = list(arguments.header)
    token = arguments.token or ""
    if arguments.token_file is not None:
        token = _text_in(arguments.token_file)
    if arguments.user is not None:
        if arguments.password_file is None:
            raise UsageError("--user needs --password-file")
        signed = f"{arguments.user}:{_text_in(arguments.password_file)}".encode()
        headers.append(("Authorization", f"Basic {b64encode(signed).decode()}"))
    elif arguments.password_file is not None:
        raise UsageError("a password needs --user NAME")
    return DicomWebClient(
        base,
        tls=tls_context_of(arguments, key, certificate) if is_https else None,
        token=token,
        headers=headers,
        http2=arguments.http2,
        deadlines=HttpDeadlines(
            connect=arguments.timeout,
            answer=arguments.answer_timeout,
            idle=arguments.socket_timeout,
        ),
    )


def _text_in(path: Path) -> str:
    try:
        return secret_in(path).decode()
    except UnicodeDecodeError:
        raise UsageError(f"{path}: no text") from None


def add_url(parser: argparse.ArgumentParser, *, text: str = "") -> None:
    """The address."""
    parser.add_argument(
        "url",
        metavar="URL",
        help="the service, as http://localhost:8080/dicomweb" + (f"; {text}" if text else ""),
    )
