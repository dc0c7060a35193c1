"""Writes the reference pages that come from code: messages, limits, routes, and public names.

    python docs/api_reference.py

They come from the tables that the code runs on and from its docstrings; a test compares the
pages with them.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import trio

import isocenter.engine
import isocenter.engine.dataset
import isocenter.services
from isocenter.engine import DEFAULT_LIMITS, Limits, limits
from isocenter.engine.dimse import FIELDS, MESSAGES, MessageRule, Presence
from isocenter.engine.dimse.message_fields import FORGIVEN
from isocenter.services.composition.archive import open_archive_parts
from isocenter.services.composition.services import build_services_and_workflow
from isocenter.services.composition.web import web_routes
from isocenter.services.net.http.application import Handler
from isocenter.services.net.http.routing import Route
from isocenter.services.notices import Notices
from isocenter.services.settings.loading import load_settings
from isocenter.services.web.description.document import markdown
from isocenter.services.web.description.service import PLACES, described
from isocenter.services.web.description.tables import tables

DOCS = Path(__file__).resolve().parent


def _beside(name: str) -> Any:
    """A module that lies beside this file, wherever that is run from."""
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


administration_api, python_names = _beside("administration_api"), _beside("python_names")
#: The names of ``__all__`` under the comments that stand in it.
groups: Callable[[ModuleType], dict[str, list[str]]] = python_names.groups
MAKE = "python docs/api_reference.py"
GENERATED = f"<!-- Made by `{MAKE}`; edit the tables in the code instead. -->"

_MESSAGES_HEAD = f"""\
{GENERATED}

# DIMSE messages

One frozen class each, in `isocenter.engine`. This page is made from the table that encodes and
decodes them (`isocenter.engine.dimse.MESSAGES`); the presence rules are those of PS3.7, 9.1 and
10.1:

| | |
| --- | --- |
| M | mandatory |
| U | the sender may leave it out |
| C | there under a condition of the standard |
| (=) | when it is there, it has the value of the request |

Every message also has Command Group Length (0000,0000), Command Field (0000,0100) and Command Data
Set Type (0000,0800); the codec makes them and a message value does not hold them. A field that is
not there is `""`, `()` or `None` in the value.

What a peer leaves out or gets wrong: a request without a mandatory field, or with a field of a
wrong length, becomes an `UnrecognizedMessage` that is answered 0212H (mistyped argument); an
unknown command field is answered 0211H (unrecognized operation); a response without a mandatory
field, and a request without Message ID, end the association (A-ABORT, source 2, reason 6).
{{forgiven}}

What bounds a message is on the page of [limits](limits.md).
"""

_LIMITS_HEAD = f"""\
{GENERATED}

# Engine limits

What a peer can make the engine hold, and how much work it can make of a message: the fields of
`isocenter.engine.Limits`, judged on announced lengths, before anything is kept. Lengths are in
bytes, headers excluded. Deadlines need a clock and belong to the driver.

| limit | default | reason |
| --- | ---: | --- |
"""


def messages_page() -> str:
    """``reference/dimse-messages.md``."""
    names = " and ".join(FIELDS[name].name for name in FIELDS if name in FORGIVEN)
    head = _MESSAGES_HEAD.format(
        forgiven=f"{names} are forgiven: without them it is plain what is meant."
    )
    return head + "".join(_message(rule) for rule in MESSAGES)


_WEB_HEAD = f"""\
{GENERATED}

Every operation that a server with the default settings offers over HTTP, made from the table of
routes that it runs on; `GET /api` of a server is this page for its own settings,
`GET /api/openapi.json` the same for programs. Examples are in the guide to
[DICOMweb](../how-to/dicomweb.md). Permissions are those of the [access
policy](../how-to/access-control.md); a token that has any of the scopes is good for those only.
"""


def web_services_page() -> str:
    """``reference/web-services.md``."""

    async def routes() -> Sequence[Route[Handler]]:
        settings = load_settings(None, {}, {"storage.data_dir": ":memory:", "tls.enabled": False})
        async with open_archive_parts(settings) as parts:
            _, workflow = build_services_and_workflow(settings, parts.archive, parts.stores, None)
            found = web_routes(settings, parts, Notices(), workflow)
            table, _ = described(found, version="", statement=lambda routes: "")
            return table.routes

    text = markdown("Web services", [*tables(trio.run(routes), PLACES)])
    title, _, rest = text.partition("\n")
    head, _, about = _WEB_HEAD.partition("\n")
    return f"{head}\n\n{title}\n{about}{rest}".rstrip() + "\n"


def _message(rule: MessageRule) -> str:
    number = f"command field {rule.command_field:04X}H"
    lines = [
        "",
        f"## {rule.name}",
        "",
        f"`{rule.message_class.__name__}`, {number}, PS3.7 {rule.clause}. {_data_set(rule)}",
        "",
        "| element | VR | name | presence | field |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, presence in rule.fields.items():
        element, vr, standard_name = FIELDS[name]
        lines.append(
            f"| (0000,{element:04X}) | {vr} | {standard_name} | {presence.value} | `{name}` |"
        )
    return "\n".join(lines) + "\n"


def _data_set(rule: MessageRule) -> str:
    if rule.data_set_presence is Presence.NEVER:
        return "No data set."
    return f"Data set: {rule.data_set} ({rule.data_set_presence.value})."


def limits_page() -> str:
    """``reference/limits.md``."""
    reasons = dict(_reasons())
    rows = (
        f"| `{field.name}` | {getattr(DEFAULT_LIMITS, field.name):,} | {reasons[field.name]} |\n"
        for field in fields(Limits)
    )
    return _LIMITS_HEAD + "".join(rows)


def _reasons() -> Iterator[tuple[str, str]]:
    """Field of `Limits` → the comment that stands before it."""
    source = inspect.getsource(limits)
    lines = source.splitlines()
    (definition,) = (node for node in ast.parse(source).body if isinstance(node, ast.ClassDef))
    for node in definition.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id, python_names.comment_before(lines, node.lineno)


def engine_page() -> str:
    """``reference/engine.md``."""
    return str(python_names.api_page(isocenter.engine, "Engine API", GENERATED))


def services_page() -> str:
    """``reference/services.md``."""
    return str(python_names.api_page(isocenter.services, "Services API", GENERATED))


def dataset_page() -> str:
    """``reference/dataset.md``."""
    return str(python_names.api_page(isocenter.engine.dataset, "Data set API", GENERATED))


#: File in ``docs`` → what it holds.
PAGES: Mapping[str, Callable[[], str]] = {
    "reference/dimse-messages.md": messages_page,
    "reference/limits.md": limits_page,
    "reference/engine.md": engine_page,
    "reference/dataset.md": dataset_page,
    "reference/services.md": services_page,
    "reference/web-services.md": web_services_page,
    "reference/administration-api.md": partial(administration_api.page, GENERATED),
}


if __name__ == "__main__":
    (DOCS / "reference").mkdir(exist_ok=True)
    for file_name, page in PAGES.items():
        (DOCS / file_name).write_text(page(), "utf-8")
