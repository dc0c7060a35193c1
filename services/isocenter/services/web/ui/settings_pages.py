"""Pages of the settings: value, source, and a form for each."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, Final
from urllib.parse import quote

import orjson

from isocenter.engine.fast_init import dataclass
from isocenter.services.net.http.application import Handler
from isocenter.services.net.http.messages import HttpError, Request, Response
from isocenter.services.net.http.routing import Route
from isocenter.services.web.configuration import Configuration, InvalidChangeError, ShownSetting
from isocenter.services.web.forms import read_fields
from isocenter.services.web.principal import caller_of
from isocenter.services.web.ui.layout import Layout
from isocenter.services.web.ui.page_routes import action, page

#: Words to choose from, as settings say what they may be.
_CHOICE: Final = re.compile(r"[\w-]+(?: or [\w-]+)+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """The field of a form that takes a setting.

    Attributes:
        kind: ``choice``, ``number``, ``line``, ``lines`` (one value each) or ``json``.
        text: what stands in it.
        options: of a choice.
    """

    kind: str
    text: str
    options: Sequence[str] = ()

    def value(self, text: str) -> Any:
        """What somebody has written into it, as JSON has it.

        Raises:
            ValueError: it is no number, or no JSON; in words.
        """
        text = text.replace("\r\n", "\n").strip()
        match self.kind:
            case "choice" if self.options == _YES_NO:
                return text == _YES_NO[0]
            case "number":
                return _number(text)
            case "lines":
                return [line.strip() for line in text.split("\n") if line.strip()]
            case "json":
                try:
                    return orjson.loads(text)
                except orjson.JSONDecodeError as error:
                    raise ValueError(f"that is no JSON: {error}") from None
            case _:
                return text


_YES_NO: Final = ("true", "false")


class SettingsPages:
    """Answers with settings, and changes them."""

    def __init__(self, configuration: Configuration, layout: Layout) -> None:
        self._configuration = configuration
        self._layout = layout

    def routes(self) -> Iterator[Route[Handler]]:
        """Where they are, and their forms."""
        yield page("/settings", "state", self.show, "All settings.")
        yield page("/settings/{key}", "state", self.show_one, "One setting.")
        yield action("/settings/{key}", "configure", self.change, "Change a setting.")
        path = "/settings/{key}/reset"
        yield action(path, "configure", self.reset, "Put a setting back.")

    async def show(self, request: Request) -> Response:
        """The handler of the list."""
        words = (request.parameter("find") or "").strip()
        section = request.parameter("section") or ""
        is_set_only = request.parameter("set") is not None
        is_first = not (words or section)
        shown = await self._settings()
        found = [
            one
            for one in shown
            if words.lower() in f"{one.key} {one.text}".lower()
            and section in ("", _section_of(one))
            and (one.source != "default" or not (is_set_only or is_first))
        ]
        sections: dict[str, list[ShownSetting]] = {}
        for one in found:
            sections.setdefault(_section_of(one), []).append(one)
        return self._layout.page(
            request,
            "settings.html",
            section="settings",
            sections=sections,
            names=list(dict.fromkeys(map(_section_of, shown))),
            name=section,
            find=words,
            is_set_only=is_set_only,
            pending=[one.key for one in shown if one.is_pending],
            shown=_shown,
        )

    async def show_one(self, request: Request) -> Response:
        """The handler of the page of one."""
        return await self._one(request)

    async def change(self, request: Request) -> Response:
        """The handler of its form."""
        fields = await read_fields(request)
        text, before = fields.get("value", ""), fields.get("before", "")
        setting = await self._named(request)

        def check(settings: Sequence[ShownSetting]) -> None:
            now = next(one for one in settings if one.key == setting.key)
            if _field(now).text != before.replace("\r\n", "\n"):
                raise _OtherValueError

        try:
            value = _field(setting).value(text)
            await self._configuration.change({setting.key: value}, caller_of(request), check)
        except _OtherValueError:
            fault = "somebody else has changed it meanwhile; look, and change it again"
            return await self._one(request, fault)
        except ValueError as error:
            return await self._one(request, str(error), text)
        except InvalidChangeError as error:
            return await self._one(request, "; ".join(one.text for one in error.faults), text)
        return _to(setting.key)

    async def reset(self, request: Request) -> Response:
        """The handler of the button that puts it back to what it would be."""
        setting = await self._named(request)
        try:
            await self._configuration.change({setting.key: None}, caller_of(request))
        except InvalidChangeError as error:
            return await self._one(request, "; ".join(one.text for one in error.faults))
        return _to(setting.key)

    async def _settings(self) -> Sequence[ShownSetting]:
        try:
            return await self._configuration.settings()
        except InvalidChangeError as error:
            raise HttpError(503, "UNAVAILABLE", "the settings cannot be read; see the log") from (
                error
            )

    async def _named(self, request: Request) -> ShownSetting:
        key = request.arguments["key"]
        for one in await self._settings():
            if one.key == key:
                return one
        raise HttpError(404, "NOT_FOUND", "there is no such setting")

    async def _one(self, request: Request, fault: str = "", text: str | None = None) -> Response:
        setting = await self._named(request)
        field = _field(setting)
        return self._layout.page(
            request,
            "setting.html",
            status=400 if fault else 200,
            section="settings",
            setting=setting,
            field=field,
            text=field.text if text is None else text,
            default=_shown(setting.default),
            fault=fault,
        )


class _OtherValueError(Exception):
    """The setting is not what the form has shown."""


def _section_of(setting: ShownSetting) -> str:
    return setting.key.partition(".")[0]


def _field(setting: ShownSetting) -> Field:
    value = setting.value
    if isinstance(value, bool):
        return Field(kind="choice", text=_shown(value), options=_YES_NO)
    if isinstance(value, int | float):
        return Field(kind="number", text=_shown(value))
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        is_of_texts = value or not setting.allowed.startswith(("a list, each a table", "tables"))
        if is_of_texts:
            return Field(kind="lines", text="\n".join(value))
    if isinstance(value, list | dict):
        return Field(kind="json", text=orjson.dumps(value, option=orjson.OPT_INDENT_2).decode())
    if isinstance(value, str) and _CHOICE.fullmatch(setting.allowed):
        return Field(kind="choice", text=value, options=setting.allowed.split(" or "))
    return Field(kind="line", text=_shown(value))


def _number(text: str) -> int | float:
    try:
        return int(text)
    except ValueError:
        try:
            return float(text)
        except ValueError:
            raise ValueError("that is no number") from None


def _shown(value: object) -> str:
    """A value for people; empty: it is not set."""
    match value:
        case None:
            return ""
        case str():
            return value
        case list() if all(isinstance(one, str) for one in value):
            return ", ".join(map(str, value))
        case _:
            return orjson.dumps(value).decode()


def _to(key: str) -> Response:
    return Response(status=303, headers=[("location", f"/settings/{quote(key, safe='')}")])
