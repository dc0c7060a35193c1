"""Settings in the API: shown, changed while the server runs, put back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from isocenter.services.net.http.application import Handler
from isocenter.services.net.http.messages import HttpError, Request, Response
from isocenter.services.net.http.routing import Answer, Parameter, Route
from isocenter.services.web.configuration import (
    ChangedNow,
    Configuration,
    InvalidChangeError,
    ShownSetting,
)
from isocenter.services.web.principal import caller_of
from isocenter.services.web.rest.bodies import Body, answer, read_body
from isocenter.services.web.rest.endpoints import endpoint
from isocenter.services.web.rest.entity_tags import check_unchanged, tagged
from isocenter.services.web.rest.problems import Fault, ProblemError

_SERVICE: Final = "Settings"
_PATH: Final = "/system/config"


class Setting(Body):
    """A setting; `allowed` completes "must be …".

    `source` says who set it, `fixed_by` what wins over any change, and `is_pending` that what is in
    use is another value until a restart.  Of a secret, value and default are never shown.  What is
    of the machine (`is_of_machine`: files, folders, plug-ins) is set there only.
    """

    key: str
    text: str
    allowed: str
    value: Any
    default: Any
    source: str
    is_changed: bool
    fixed_by: str
    is_of_machine: bool
    is_secret: bool
    needs_restart: bool
    is_pending: bool


class Settings(Body):
    """Settings, in the order of their reference."""

    settings: list[Setting]


class Changes(Body):
    """Values by key; null: what it would be had nobody changed it."""

    settings: dict[str, Any]


class Value(Body):
    """The new value of a setting."""

    value: Any


class Changed(Body):
    """The keys that are in use now, and those that are kept and wait for a restart."""

    applied: list[str]
    after_restart: list[str]
    message: str


_REFUSED: Final = Answer(400, "A value cannot be; `faults` has all that is wrong.")
_SECTION: Final = Parameter(name="section", text="Those of one section only: `log`.")


class ConfigurationApi:
    """Answers with settings, and changes them."""

    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration

    def routes(self) -> Iterator[Route[Handler]]:
        """Where they are."""
        one = f"{_PATH}/{{key}}"
        yield endpoint(
            "GET", _PATH, self.list, "All settings: value, default, source, and what they may be.",
            name="GetConfiguration", service=_SERVICE, needs="state", gives=Settings,
            parameters=(_SECTION,), has_tag=True,
        )  # fmt: skip
        yield endpoint(
            "PUT", _PATH, self.change,
            "Change the settings that are named; others stay.  All are changed, or none.",
            name="ChangeConfiguration", service=_SERVICE, needs="configure", takes=Changes,
            gives=Changed, answers=(_REFUSED,), has_tag=True,
        )  # fmt: skip
        yield endpoint(
            "GET", one, self.show, "One setting.",
            name="GetSetting", service=_SERVICE, needs="state", gives=Setting, has_tag=True,
        )  # fmt: skip
        yield endpoint(
            "PUT", one, self.change_one, "Change one setting.",
            name="ChangeSetting", service=_SERVICE, needs="configure", takes=Value,
            gives=Changed, answers=(_REFUSED,), has_tag=True,
        )  # fmt: skip
        yield endpoint(
            "DELETE", one, self.put_back,
            "Put a setting back to what it would be had nobody changed it.",
            name="ResetSetting", service=_SERVICE, needs="configure", gives=Changed,
            answers=(_REFUSED,), has_tag=True,
        )  # fmt: skip

    async def list(self, request: Request) -> Response:
        """The handler."""
        shown = await self._shown()
        section = request.parameter("section") or ""
        found = [one for one in shown if section in ("", one.key.partition(".")[0])]
        return tagged(request, _settings(found))

    async def change(self, request: Request) -> Response:
        """The handler."""
        body = await read_body(request, Changes)

        def check(shown: Sequence[ShownSetting]) -> None:
            check_unchanged(request, _settings(shown))

        return await self._change(request, body.settings, check)

    async def show(self, request: Request) -> Response:
        """The handler."""
        return tagged(request, _setting(_named(await self._shown(), request)))

    async def change_one(self, request: Request) -> Response:
        """The handler."""
        body = await read_body(request, Value)
        return await self._change(
            request, {request.arguments["key"]: body.value}, self._check_one(request)
        )

    async def put_back(self, request: Request) -> Response:
        """The handler."""
        return await self._change(
            request, {request.arguments["key"]: None}, self._check_one(request)
        )

    def _check_one(self, request: Request) -> Callable[[Sequence[ShownSetting]], None]:
        return lambda shown: check_unchanged(request, _setting(_named(shown, request)))

    async def _shown(self) -> Sequence[ShownSetting]:
        try:
            return await self._configuration.settings()
        except InvalidChangeError as error:
            raise HttpError(503, "CONFIG_UNAVAILABLE", str(error)) from error

    async def _change(
        self,
        request: Request,
        values: Mapping[str, Any],
        check: Callable[[Sequence[ShownSetting]], None],
    ) -> Response:
        return answer(await change(self._configuration, request, values, check))


async def change(
    configuration: Configuration,
    request: Request,
    values: Mapping[str, Any],
    check: Callable[[Sequence[ShownSetting]], None],
) -> Changed:
    """Change settings for whoever asks.

    Raises:
        ProblemError: they cannot be (400), with all that is wrong.
    """
    try:
        done = await configuration.change(values, caller_of(request), check)
    except InvalidChangeError as error:
        faults = [Fault(key=one.key, detail=one.text) for one in error.faults]
        raise ProblemError(400, "INVALID_SETTINGS", str(error), faults) from error
    return Changed(
        applied=list(done.applied), after_restart=list(done.after_restart), message=_message(done)
    )


def _message(done: ChangedNow) -> str:
    if not done.after_restart:
        return "it is in use"
    waiting = ", ".join(done.after_restart)
    return f"kept; in use after a restart only: {waiting}"


def _named(shown: Sequence[ShownSetting], request: Request) -> ShownSetting:
    key = request.arguments["key"]
    for one in shown:
        if key == one.key or key in one.former:
            return one
    raise HttpError(404, "NOT_FOUND", "there is no such setting; see /api/v1/system/config")


def _settings(shown: Sequence[ShownSetting]) -> Settings:
    return Settings(settings=[_setting(one) for one in shown])


def _setting(one: ShownSetting) -> Setting:
    return Setting(
        key=one.key, text=one.text, allowed=one.allowed, value=one.value, default=one.default,
        source=one.source, is_changed=one.is_changed, fixed_by=one.fixed_by,
        is_of_machine=one.is_of_machine, is_secret=one.is_secret,
        needs_restart=one.needs_restart, is_pending=one.is_pending,
    )  # fmt: skip
