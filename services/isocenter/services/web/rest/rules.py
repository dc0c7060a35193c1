"""Rules in the API: shown, and tried on a study."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from isocenter.engine.ae import is_ae_title
from isocenter.services.net.http.application import Handler
from isocenter.services.net.http.messages import HttpError, Request, Response
from isocenter.services.net.http.routing import Route
from isocenter.services.web.rest.bodies import Body, answer, read_body
from isocenter.services.web.rest.endpoints import endpoint
from isocenter.services.web.rest.policy_answers import not_found
from isocenter.services.web.rule_book import RuleBook

_SERVICE: Final = "Rules"


class RuleShown(Body):
    """A rule, in words; it is set by `rules` in the settings."""

    name: str
    enabled: bool
    looks_at: str
    forward: str
    area: str
    coerces: str
    compress: str
    quarantine: str
    stop: str


class Rules(Body):
    """The rules, in the order in which they are looked at."""

    rules: list[RuleShown]


class TrialRequest(Body):
    """A study as if it came now, from `calling` to `called` (empty: our AE title)."""

    study: str
    calling: str = ""
    called: str = ""


class Done(Body):
    """Something that a rule does: a word and a text."""

    what: str
    text: str


class TrialShown(Body):
    """What rules would do with some objects; `fault`: why they would be refused."""

    instances: int
    done: list[Done]
    fault: str


class Trials(Body):
    """What would be done with a study; `is_cut`: it has more objects than were looked at."""

    trials: list[TrialShown]
    is_cut: bool


class RuleApi:
    """Answers with rules, and tries them."""

    def __init__(self, rules: RuleBook) -> None:
        self._rules = rules

    def routes(self) -> Iterator[Route[Handler]]:
        """Where they are."""
        yield endpoint(
            "GET", "/rules", self.list, "Rules, in the order in which they are looked at.",
            name="ListRules", service=_SERVICE, needs="state", gives=Rules,
        )  # fmt: skip
        yield endpoint(
            "POST", "/rules/test", self.try_on,
            "What rules would do with a study, were it to come now; nothing is done.",
            name="TestRules", service=_SERVICE, needs="state", takes=TrialRequest, gives=Trials,
        )  # fmt: skip

    async def list(self, request: Request) -> Response:
        """The handler."""
        shown = [
            RuleShown(
                name=one.name, enabled=one.enabled, looks_at=one.looks_at, forward=one.forward,
                area=one.area, coerces=one.coerces, compress=one.compress,
                quarantine=one.quarantine, stop=one.stop,
            )
            for one in self._rules.rules()
        ]  # fmt: skip
        return answer(Rules(rules=shown))

    async def try_on(self, request: Request) -> Response:
        """The handler."""
        body = await read_body(request, TrialRequest)
        if not all(is_ae_title(one) for one in (body.calling, body.called) if one):
            raise HttpError(
                400, "INVALID_REQUEST", "an AE title has 1 to 16 characters, and no backslash"
            )
        trials, is_cut = await self._rules.try_on(body.study, body.calling, body.called)
        if not trials:
            raise not_found("study")
        return answer(
            Trials(
                trials=[
                    TrialShown(
                        instances=one.instances,
                        done=[Done(what=what, text=text) for what, text in one.words],
                        fault=one.fault,
                    )
                    for one in trials
                ],
                is_cut=is_cut,
            )
        )
