"""Rules in the API: shown, changed, put in order, and tried."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from isocenter.engine.ae import is_ae_title
from isocenter.services.net.http.application import Handler
from isocenter.services.net.http.messages import HttpError, Request, Response
from isocenter.services.net.http.routing import Answer, Parameter, Route, ok
from isocenter.services.web.principal import caller_of
from isocenter.services.web.rest.bodies import Body, answer, read_body
from isocenter.services.web.rest.endpoints import endpoint
from isocenter.services.web.rest.entity_tags import check_unchanged, tagged
from isocenter.services.web.rest.policy_answers import not_found
from isocenter.services.web.rule_book import (
    InvalidRuleError,
    RuleBook,
    RuleConflictError,
    ShownRule,
    Trial,
    UnknownRuleError,
)

_SERVICE: Final = "Rules"
_ONE: Final = "/rules/{rule}"
_MOST_FIRINGS: Final = 1_000
_TAKEN: Final = Answer(409, "There is a rule of that name already.")
_OF_SETTINGS: Final = Answer(409, "It stands in the settings, or was changed meanwhile.")


class RuleFields(Body):
    """A rule as one writes it; what is left out is as in `[[rules]]` of the settings."""

    enabled: bool = True
    priority: int = 0
    when: dict[str, list[str]] = msgspec.field(default_factory=dict)
    case_sensitive: bool = False
    forward: list[str] = msgspec.field(default_factory=list)
    forward_priority: str = "normal"
    delay_minutes: int = 0
    commit: bool = False
    delete_after: bool = False
    deidentify: str = ""
    forward_coerce: list[dict[str, Any]] = msgspec.field(default_factory=list)
    forward_syntax: str = ""
    delete_after_days: int = 0
    delete_since: str = ""
    area: str = ""
    coerce: list[dict[str, Any]] = msgspec.field(default_factory=list)
    compress: str = ""
    compress_when: str = "complete"
    sign: bool = False
    analyse: list[str] = msgspec.field(default_factory=list)
    quarantine: str = ""
    validate: str = ""
    effective_from: str = ""
    effective_until: str = ""
    hours: str = ""
    schedule: str = ""
    time_zone: str = "UTC"
    stop: bool = False


class NewRule(RuleFields):
    """A rule to be made; it needs a `name`."""

    name: str = ""


class RuleShown(Body):
    """A rule: in words, as it is written (`rule`), and what it has done.

    `source` is `settings` (it is changed there) or `database`; `fault` says why it is not in use.
    """

    name: str
    enabled: bool
    looks_at: str
    forward: str
    area: str
    coerces: str
    compress: str
    quarantine: str
    stop: str
    priority: int
    source: str
    fault: str
    changed_by: str
    changed_at: float | None
    matched: int
    sent: int
    failed: int
    deleted: int
    last_at: float | None
    rule: RuleFields


class Rules(Body):
    """The rules, in the order in which they are looked at; `is_on`: whether they are at all."""

    is_on: bool
    rules: list[RuleShown]


class RuleOrder(Body):
    """Names of all rules of the database, the one that is looked at first at the beginning."""

    names: list[str]


class TrialRequest(Body):
    """A study, or the values of an object by keyword, tag or path, as if it came now from `calling`
    to `called` (empty: our AE title)."""

    study: str = ""
    values: dict[str, str] = msgspec.field(default_factory=dict)
    calling: str = ""
    called: str = ""


class Done(Body):
    """Something that a rule does: a word and a text."""

    what: str
    text: str


class Reason(Body):
    """Whether a rule matches; `why`: why it does not."""

    rule: str
    matches: bool
    why: str


class TrialShown(Body):
    """What rules would do with some objects; `fault`: why they would be refused."""

    instances: int
    done: list[Done]
    fault: str
    reasons: list[Reason]


class Trials(Body):
    """What would be done with a study; `is_cut`: it has more objects than were looked at."""

    trials: list[TrialShown]
    is_cut: bool


class Firing(Body):
    """Objects of a study, from one sender, that a rule matched; times in seconds since 1970."""

    rule: str
    study: str
    calling: str
    objects: int
    first_at: float
    last_at: float


class Firings(Body):
    """What rules did, the latest first."""

    firings: list[Firing]


class RuleApi:
    """Answers with rules, changes and tries them."""

    def __init__(self, rules: RuleBook) -> None:
        self._rules = rules

    def routes(self) -> Iterator[Route[Handler]]:
        """Where they are."""
        yield endpoint(
            "GET", "/rules", self.list, "Rules, in the order in which they are looked at.",
            name="ListRules", service=_SERVICE, needs="state", gives=Rules,
        )  # fmt: skip
        yield endpoint(
            "POST", "/rules", self.add, "Make a rule.",
            name="AddRule", service=_SERVICE, needs="configure", takes=NewRule, gives=RuleShown,
            answers=(ok("It was made.", status=201), _TAKEN),
        )  # fmt: skip
        yield endpoint(
            "POST", "/rules/test", self.try_on,
            "What rules would do with a study or an object, were it to come now, and why; nothing "
            "is done.",
            name="TestRules", service=_SERVICE, needs="state", takes=TrialRequest, gives=Trials,
        )  # fmt: skip
        yield endpoint(
            "POST", "/rules/reorder", self.reorder,
            "Have the rules of the database looked at in another order.",
            name="ReorderRules", service=_SERVICE, needs="configure", takes=RuleOrder, gives=Rules,
        )  # fmt: skip
        yield endpoint(
            "POST", "/rules/enable", self.switch_on, "Have rules looked at again.",
            name="EnableRules", service=_SERVICE, needs="configure",
        )  # fmt: skip
        yield endpoint(
            "POST", "/rules/disable", self.switch_off,
            "Have no rule looked at, also none of the settings.",
            name="DisableRules", service=_SERVICE, needs="configure",
        )  # fmt: skip
        yield endpoint(
            "GET", "/rule-firings", self.firings, "What rules did, the latest first.",
            name="ListRuleFirings", service=_SERVICE, needs="state", gives=Firings,
            parameters=(
                Parameter(name="study", text="Of this study.", pattern="[0-9.]{1,64}"),
                Parameter(name="rule", text="Of this rule."),
                Parameter(
                    name="limit", text="At most so many; 100 when it is not said.",
                    pattern="[0-9]{1,4}",
                ),
            ),
        )  # fmt: skip
        yield endpoint(
            "GET", _ONE, self.show, "One rule.",
            name="GetRule", service=_SERVICE, needs="state", gives=RuleShown, has_tag=True,
        )  # fmt: skip
        yield endpoint(
            "PUT", _ONE, self.change, "Put another rule of that name in the place of one.",
            name="ChangeRule", service=_SERVICE, needs="configure", takes=RuleFields,
            gives=RuleShown, has_tag=True, answers=(_OF_SETTINGS,),
        )  # fmt: skip
        yield endpoint(
            "DELETE", _ONE, self.remove, "Forget a rule; what it has queued is sent all the same.",
            name="RemoveRule", service=_SERVICE, needs="configure", answers=(_OF_SETTINGS,),
        )  # fmt: skip

    async def list(self, request: Request) -> Response:
        """The handler."""
        return await self._all()

    async def add(self, request: Request) -> Response:
        """The handler."""
        body = await read_body(request, NewRule)
        table = {"name": body.name, **_table(body)}
        try:
            await self._rules.add(table, caller_of(request))
        except InvalidRuleError as error:
            raise _invalid(error) from error
        except RuleConflictError as error:
            raise _conflict(error) from error
        return answer(_shown(await self._named(body.name)), 201)

    async def show(self, request: Request) -> Response:
        """The handler."""
        return tagged(request, _shown(await self._named(request.arguments["rule"])))

    async def change(self, request: Request) -> Response:
        """The handler."""
        body = await read_body(request, RuleFields)
        known = await self._named(request.arguments["rule"])
        check_unchanged(request, _shown(known))
        try:
            await self._rules.change(
                known.name, _table(body), caller_of(request), version=known.version
            )
        except InvalidRuleError as error:
            raise _invalid(error) from error
        except (RuleConflictError, UnknownRuleError) as error:
            raise _conflict(error) from error
        return tagged(request, _shown(await self._named(known.name)))

    async def remove(self, request: Request) -> Response:
        """The handler."""
        known = await self._named(request.arguments["rule"])
        try:
            await self._rules.remove(known.name, caller_of(request))
        except UnknownRuleError as error:
            raise _conflict(error) from error
        return Response(status=204)

    async def reorder(self, request: Request) -> Response:
        """The handler."""
        body = await read_body(request, RuleOrder)
        try:
            await self._rules.reorder(body.names, caller_of(request))
        except InvalidRuleError as error:
            raise HttpError(400, "REORDER_FAILED", str(error)) from error
        return await self._all()

    async def switch_on(self, request: Request) -> Response:
        """The handler."""
        await self._rules.switch(caller_of(request), is_on=True)
        return Response(status=204)

    async def switch_off(self, request: Request) -> Response:
        """The handler."""
        await self._rules.switch(caller_of(request), is_on=False)
        return Response(status=204)

    async def try_on(self, request: Request) -> Response:
        """The handler."""
        body = await read_body(request, TrialRequest)
        if not all(is_ae_title(one) for one in (body.calling, body.called) if one):
            raise HttpError(
                400, "INVALID_REQUEST", "an AE title has 1 to 16 characters, and no backslash"
            )
        if bool(body.study) == bool(body.values):
            raise HttpError(400, "INVALID_REQUEST", "say either study, or values of an object")
        if body.values:
            try:
                trial = await self._rules.try_values(body.values, body.calling, body.called)
            except InvalidRuleError as error:
                raise _invalid(error) from error
            return answer(Trials(trials=[_trial(trial)], is_cut=False))
        trials, is_cut = await self._rules.try_on(body.study, body.calling, body.called)
        if not trials:
            raise not_found("study")
        return answer(Trials(trials=[_trial(one) for one in trials], is_cut=is_cut))

    async def firings(self, request: Request) -> Response:
        """The handler."""
        text = request.parameter("limit") or "100"
        limit = int(text) if text.isascii() and text.isdigit() else 0
        if not 1 <= limit <= _MOST_FIRINGS:
            raise HttpError(400, "INVALID_REQUEST", f"limit is a number from 1 to {_MOST_FIRINGS}")
        found = await self._rules.firings(
            study=request.parameter("study") or "",
            rule=request.parameter("rule") or "",
            limit=limit,
        )
        return answer(
            Firings(
                firings=[
                    Firing(
                        rule=one.rule,
                        study=one.study_instance_uid,
                        calling=one.calling_ae,
                        objects=one.objects,
                        first_at=one.first_at,
                        last_at=one.last_at,
                    )
                    for one in found
                ]
            )
        )

    async def _all(self) -> Response:
        shown = [_shown(one) for one in await self._rules.rules()]
        return answer(Rules(is_on=await self._rules.is_on(), rules=shown))

    async def _named(self, name: str) -> ShownRule:
        for one in await self._rules.rules():
            if one.name == name:
                return one
        raise not_found("rule")


def _invalid(error: Exception) -> HttpError:
    return HttpError(400, "INVALID_REQUEST", str(error))


def _conflict(error: Exception) -> HttpError:
    return HttpError(409, "CONFLICT", str(error))


def _table(body: RuleFields) -> Mapping[str, Any]:
    """As ``[[rules]]`` has it, without what says nothing: some of it may stand with others only."""
    defaults = msgspec.to_builtins(RuleFields())
    said = msgspec.to_builtins(body)
    said.pop("name", None)
    return {key: value for key, value in said.items() if value != defaults[key]}


def _fields(table: Mapping[str, Any]) -> RuleFields:
    known = {key: value for key, value in table.items() if key in RuleFields.__struct_fields__}
    try:
        return msgspec.convert(known, RuleFields)
    except msgspec.ValidationError:
        return RuleFields()  # its `fault` says why it is not in use


def _shown(one: ShownRule) -> RuleShown:
    return RuleShown(
        name=one.name,
        enabled=one.enabled,
        looks_at=one.looks_at,
        forward=one.forward,
        area=one.area,
        coerces=one.coerces,
        compress=one.compress,
        quarantine=one.quarantine,
        stop=one.stop,
        priority=one.priority,
        source="settings" if one.is_of_settings else "database",
        fault=one.fault,
        changed_by=one.changed_by,
        changed_at=one.changed_at,
        matched=one.count.matched,
        sent=one.count.sent,
        failed=one.count.failed,
        deleted=one.count.deleted,
        last_at=one.count.last_at,
        rule=_fields(one.table),
    )


def _trial(one: Trial) -> TrialShown:
    return TrialShown(
        instances=one.instances,
        done=[Done(what=what, text=text) for what, text in one.words],
        fault=one.fault,
        reasons=[Reason(rule=rule, matches=not why, why=why) for rule, why in one.reasons],
    )
