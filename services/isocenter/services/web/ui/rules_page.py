"""Pages of the rules: in their order, edited, and tried on a study."""

from __future__ import annotations

import tomllib
from collections.abc import Awaitable, Iterator, Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote

from isocenter.engine.ae import is_ae_title
from isocenter.services.errors import StorageError
from isocenter.services.net.http.application import Handler
from isocenter.services.net.http.messages import HttpError, Request, Response
from isocenter.services.net.http.routing import Route
from isocenter.services.web.forms import read_fields
from isocenter.services.web.principal import caller_of
from isocenter.services.web.rule_book import (
    InvalidRuleError,
    RuleBook,
    RuleConflictError,
    ShownRule,
    Trial,
    UnknownRuleError,
)
from isocenter.services.web.ui.catalogue import Catalogue
from isocenter.services.web.ui.layout import Layout
from isocenter.services.web.ui.page_routes import action, page

_ONE: Final = "/rules/{rule}"
_MOST_FIRINGS: Final = 50
_NOTHING: Final[Mapping[str, str]] = {}


class RulesPage:
    """Answers with rules, changes them, and says what they would do with a study."""

    def __init__(self, rules: RuleBook, catalogue: Catalogue, layout: Layout) -> None:
        self._rules = rules
        self._catalogue = catalogue
        self._layout = layout

    def routes(self) -> Iterator[Route[Handler]]:
        """Where they are, and their forms."""
        yield page("/rules", "state", self.show, "Rules, and a trial of them on a study.")
        yield action("/rules", "configure", self.add, "Make a rule.")
        yield action("/routing/switch", "configure", self.switch_all, "Have rules used, or none.")
        yield page(_ONE, "state", self.one, "A rule, and what it did.")
        yield action(_ONE, "configure", self.change, "Change a rule.")
        yield action(f"{_ONE}/switch", "configure", self.switch, "Have a rule used, or not.")
        yield action(f"{_ONE}/move", "configure", self.move, "Have a rule looked at sooner, later.")
        yield action(f"{_ONE}/remove", "configure", self.remove, "Forget a rule.")

    async def show(self, request: Request) -> Response:
        """The handler of the page."""
        fields = {
            name: (request.parameter(name) or "").strip() for name in ("study", "calling", "called")
        }
        fault, is_cut = "", False
        trials: Sequence[Trial] = ()
        if not all(is_ae_title(fields[name]) for name in ("calling", "called") if fields[name]):
            fault = "an AE title has 1 to 16 characters, and no backslash"
        elif fields["study"]:
            try:
                trials, is_cut = await self._rules.try_on(**fields)
            except StorageError as error:
                raise HttpError(503, "UNAVAILABLE", "the study cannot be read now") from error
            if not trials:
                fault = "the archive has no such study"
        return await self._list(request, fields=fields, trials=trials, is_cut=is_cut, fault=fault)

    async def one(self, request: Request) -> Response:
        """The handler of the page of one rule."""
        rule = await self._named(request)
        return await self._page_of(request, rule, {"priority": str(rule.priority)}, "")

    async def add(self, request: Request) -> Response:
        """The handler of the form that makes one."""
        said = await read_fields(request)
        try:
            table = {"name": said.get("name", "").strip(), **_table_of(said)}
            await self._do(self._rules.add(table, caller_of(request)))
        except (InvalidRuleError, RuleConflictError) as error:
            return await self._list(request, said=said, add_fault=str(error))
        return _to("/rules")

    async def change(self, request: Request) -> Response:
        """The handler of the form that changes one."""
        rule = await self._named(request)
        said = await read_fields(request)
        version = said.get("version", "")
        try:
            await self._do(
                self._rules.change(
                    rule.name,
                    _table_of(said),
                    caller_of(request),
                    version=int(version) if version.isdecimal() and len(version) < 16 else None,
                )
            )
        except (InvalidRuleError, RuleConflictError, UnknownRuleError) as error:
            return await self._page_of(request, rule, said, str(error))
        return _to("/rules")

    async def switch(self, request: Request) -> Response:
        """The handler of the button that has a rule looked at, or not any more."""
        rule = await self._named(request)
        return await self._try(
            request,
            self._rules.enable(rule.name, caller_of(request), is_enabled=not rule.enabled),
        )

    async def switch_all(self, request: Request) -> Response:
        """The handler of the button that has rules looked at, or none."""
        said = await read_fields(request)
        is_on = said.get("rules") == "on"
        return await self._try(request, self._rules.switch(caller_of(request), is_on=is_on))

    async def move(self, request: Request) -> Response:
        """The handler of the buttons that have a rule looked at sooner or later."""
        rule = await self._named(request)
        said = await read_fields(request)
        names = [one.name for one in await self._all() if not one.is_of_settings]
        if rule.name not in names:
            raise HttpError(409, "CONFLICT", "it stands in the settings, and is changed there")
        place = names.index(rule.name)
        other = place + (1 if said.get("where") == "later" else -1)
        if 0 <= other < len(names):
            names[place], names[other] = names[other], names[place]
        return await self._try(request, self._rules.reorder(names, caller_of(request)))

    async def remove(self, request: Request) -> Response:
        """The handler of the button that forgets one."""
        rule = await self._named(request)
        return await self._try(request, self._rules.remove(rule.name, caller_of(request)))

    async def _try(self, request: Request, work: Awaitable[None]) -> Response:
        try:
            await self._do(work)
        except (InvalidRuleError, RuleConflictError, UnknownRuleError) as error:
            return await self._list(request, fault=str(error))
        return _to("/rules")

    async def _do(self, work: Awaitable[None]) -> None:
        try:
            await work
        except StorageError as error:
            raise _unavailable() from error

    async def _all(self) -> Sequence[ShownRule]:
        try:
            return await self._rules.rules()
        except StorageError as error:
            raise _unavailable() from error

    async def _named(self, request: Request) -> ShownRule:
        for one in await self._all():
            if one.name == request.arguments["rule"]:
                return one
        raise HttpError(404, "NOT_FOUND", "there is no such rule")

    async def _list(self, request: Request, **values: Any) -> Response:
        shown: dict[str, Any] = {
            "fields": {"study": "", "calling": "", "called": ""},
            "said": _NOTHING,
            "trials": (),
            "is_cut": False,
            "fault": "",
            "add_fault": "",
        } | values
        rules = await self._all()
        status = 400 if shown["fault"] or shown["add_fault"] else 200
        return self._layout.page(
            request,
            "rules.html",
            status=status,
            section="rules",
            rules=rules,
            are_on=await self._rules.is_on(),
            **shown,
        )

    async def _page_of(
        self, request: Request, rule: ShownRule, said: Mapping[str, str], fault: str
    ) -> Response:
        try:
            firings = await self._rules.firings(rule=rule.name, limit=_MOST_FIRINGS)
        except StorageError as error:
            raise _unavailable() from error
        return self._layout.page(
            request,
            "rule.html",
            status=400 if fault else 200,
            section="rules",
            rule=rule,
            said=said,
            fault=fault,
            firings=firings,
            studies=await self._catalogue.studies_named(
                [one.study_instance_uid for one in firings]
            ),
        )


def _table_of(said: Mapping[str, str]) -> dict[str, Any]:
    """What a form says of a rule.

    Raises:
        InvalidRuleError: it cannot be read.
    """
    try:
        table = tomllib.loads(said.get("definition", "").replace("\r\n", "\n"))
    except (ValueError, RecursionError) as error:
        raise InvalidRuleError(f"what the rule does is not TOML: {error}") from error
    for key in ("name", "enabled", "priority"):
        if key in table:
            raise InvalidRuleError(f"{key} has a field of its own; leave it out of the text")
    priority = said.get("priority", "").strip() or "0"
    try:
        table["priority"] = int(priority)
    except ValueError:
        raise InvalidRuleError("the priority must be a whole number") from None
    table["enabled"] = said.get("enabled") == "yes"
    return table


def _to(path: str) -> Response:
    return Response(status=303, headers=[("location", quote(path))])


def _unavailable() -> HttpError:
    return HttpError(503, "UNAVAILABLE", "rules cannot be read or changed now; see the log")
