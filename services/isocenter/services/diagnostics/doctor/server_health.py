"""Health check of the server here, over HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import httpx
import orjson

from isocenter.services.diagnostics.doctor.check import CheckResult
from isocenter.services.diagnostics.findings import Finding, Side, error, note, warning
from isocenter.services.errors import text_of
from isocenter.services.net.transport import format_address
from isocenter.services.settings.settings import Settings
from isocenter.services.system.pid_file import pid_of_server
from isocenter.services.system.private_files import SecretFileError, read_secret

#: A look at the index and one at the disk, of 5 s each, and what is between us.
SECONDS: Final = 12.0
_ANY: Final = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104
_WHAT: Final = "health"


def check_health(settings: Settings, *, seconds: float = SECONDS) -> CheckResult:
    """What the server that these settings describe says of itself; blocks."""
    monitoring = settings.monitoring
    if not monitoring.enabled or not monitoring.port:
        return _by_process(settings)
    host = _ANY.get(monitoring.host, monitoring.host)
    url = f"http://{format_address((host, monitoring.port))}/health"
    try:
        # The proxy of the environment is none of the way to this machine.
        with httpx.Client(trust_env=False, timeout=seconds) as client:
            answer = client.get(url, headers=_authorization(settings))
        told = orjson.loads(answer.content)
        status = str(told["status"])
        messages = [str(one) for one in told.get("messages", ())]
    except httpx.HTTPError as fault:
        text = f"no answer from {url}: {str(fault) or type(fault).__name__}"
        cure = "start isocenter serve, or look at its log; it listens where monitoring.host and "
        cure += "monitoring.port say"
        return CheckResult(_WHAT, text, (error(text, cure=cure, side=Side.HERE),))
    except (ValueError, KeyError, TypeError, AttributeError):
        text = f"what answers at {url} is not Isocenter (HTTP {answer.status_code})"
        cure = "give another port to monitoring.port"
        return CheckResult(_WHAT, text, (error(text, cure=cure, side=Side.HERE),))
    return CheckResult(_WHAT, f"{status}, by {url}", tuple(_findings(status, messages)))


def _authorization(settings: Settings) -> dict[str, str]:
    """For the reasons and figures; the state is told without, too."""
    token_file = settings.monitoring.token_file
    if token_file is None:
        return {}
    try:
        return {"Authorization": f"Bearer {read_secret(token_file).decode('ascii')}"}
    except (SecretFileError, UnicodeDecodeError):  # of a user who is not the server's
        return {}


def server_of(settings: Settings) -> int | None:
    """The process that serves the data directory; None: none, or it cannot be told."""
    try:
        return pid_of_server(Path(settings.storage.data_dir))
    except OSError:
        return None


def _findings(status: str, messages: list[str]) -> list[Finding]:
    if status == "healthy":
        return []
    tell = warning if status == "degraded" else error
    texts = messages or [f"the server calls itself {status}"]
    return [tell(text, cure=_cure_of(text), side=Side.HERE) for text in texts]


def _cure_of(message: str) -> str:
    if "disk is" in message or "quota" in message:
        return "make room: see room below; isocenter trash list names what can go at once"
    return "see the log of the server; room, below, says whether disk or quota are used up"


def _by_process(settings: Settings) -> CheckResult:
    """Where it answers no HTTP: whether there is a process at all."""
    unknown = "monitoring is off" if not settings.monitoring.enabled else "its port is any free one"
    finding = note(
        f"{unknown}, so that only the process is seen",
        cure="set monitoring.enabled and monitoring.port to have index and disk looked at, too",
        side=Side.HERE,
    )
    try:
        pid = pid_of_server(Path(settings.storage.data_dir))
    except OSError as fault:
        text = f"{settings.storage.data_dir}: {text_of(fault)}"
        return CheckResult(_WHAT, text, (error(text, side=Side.HERE),))
    if pid is None:
        text = f"no server runs on {settings.storage.data_dir}"
        return CheckResult(
            _WHAT, text, (error(text, cure="start isocenter serve", side=Side.HERE),)
        )
    return CheckResult(_WHAT, f"process {pid} runs", (finding,))
