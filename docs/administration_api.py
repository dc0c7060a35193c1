"""The reference page of the administration API, made from the OpenAPI document of a server."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import groupby
from typing import Any

import httpx

_OURS = "application/problem+json"
_METHODS = ("get", "post", "put", "patch", "delete")
_MARKUP = str.maketrans({"<": "&lt;", "*": r"\*", "_": r"\_", "|": r"\|"})
#: How the schema of a page of a list is called.
_PAGE = re.compile(r"Page_(\w+)_")
_START = 60
#: Every list takes them.
_OF_LISTS = ("limit", "after", "offset")

Json = dict[str, Any]


@cache
def document() -> Json:
    """What a server with the default settings says of its API."""
    with tempfile.TemporaryDirectory() as folder:
        words = [sys.executable, "-m", "isocenter.services.cli", "serve", "--data-dir", folder]
        words += ["--port", "0", "--tls-host", "127.0.0.1", "--tls-port", "0", "--http-port", "0"]
        kept = {key: value for key, value in os.environ.items() if "ISOCENTER" not in key}
        environment = {**kept, "ISOCENTER__MONITORING__PORT": "0"}
        with subprocess.Popen(  # noqa: S603 - our own program
            words,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            encoding="utf-8",
        ) as server:
            try:
                assert server.stdout is not None
                ready = next(line for line in server.stdout if line.startswith("ready "))
                (root,) = re.findall(r"(http://\S+)/dicomweb", ready)
                answer = httpx.get(f"{root}/api/v1/openapi.json", timeout=_START)
                found: Json = answer.raise_for_status().json()
                return found
            finally:
                server.terminate()


def page(generated: str) -> str:
    """The page; *generated*: the line that says how it is made."""
    made = document()
    return "\n".join([generated, "", *_page(made)]).rstrip() + "\n"


def _page(made: Json) -> Iterator[str]:
    yield "# Administration API: operations and types"
    yield ""
    yield (
        "Every operation below `/api/v1` that a server with the default settings has, made from "
        "the OpenAPI document that it serves at `/api/v1/openapi.json`. How to sign in, how lists "
        "are read and what errors look like is in the guide to the "
        "[administration API](../how-to/administration-api.md). Lists, whose answer is a page of "
        "something, take `limit`, `after` and `offset`."
    )
    operations = [
        (path, method, path_item[method])
        for path, path_item in made["paths"].items()
        for method in _METHODS
        if method in path_item
    ]
    by_tag = sorted(operations, key=lambda one: _tag(one[2]))
    for tag, group in groupby(by_tag, key=lambda one: _tag(one[2])):
        yield from _section(tag, list(group))
    yield ""
    yield "## Types"
    yield ""
    yield (
        "A page of something has `data`, a list of it, and `pagination`, a "
        "[Pagination](#pagination)."
    )
    for name, schema in sorted(made["components"]["schemas"].items()):
        if not _PAGE.fullmatch(name):
            yield from _type(name, schema)


def _tag(operation: Json) -> str:
    (tag,) = operation["tags"]
    return str(tag)


def _section(tag: str, operations: list[tuple[str, str, Json]]) -> Iterator[str]:
    yield from ("", f"## {tag}", "")
    yield "| operation | what it does | permission | body | answer |"
    yield "| --- | --- | --- | --- | --- |"
    for path, method, operation in operations:
        needs = ", ".join(f"`{one}`" for one in operation.get("x-permission", ())) or "none"
        cells = (
            f"`{method.upper()} {path}`",
            _prose(operation["summary"]),
            needs,
            _body(operation),
            _answer(operation),
        )
        yield f"| {' | '.join(cells)} |"
    parameters: dict[tuple[str, str], list[str]] = {}
    for _, _, operation in operations:
        for one in operation["parameters"]:
            if one["in"] != "path" and one["name"] not in _OF_LISTS:
                key = (one["name"], one["description"])
                parameters.setdefault(key, []).append(operation["operationId"])
    if parameters:
        yield from ("", "| parameter | meaning | of |", "| --- | --- | --- |")
        for (name, text), of in parameters.items():
            yield f"| `{name}` | {_prose(text)} | {', '.join(of)} |"


def _body(operation: Json) -> str:
    content = operation.get("requestBody", {}).get("content", {})
    return _content(content) or "none"


def _answer(operation: Json) -> str:
    said = []
    for status, answer in operation["responses"].items():
        if status < "300":
            content = {
                name: one for name, one in answer.get("content", {}).items() if name != _OURS
            }
            said.append(f"{status} {_content(content)}".strip())
    return "; ".join(said)


def _content(content: Mapping[str, Json]) -> str:
    kinds = [
        _kind(one["schema"]) if "schema" in one else f"`{media_type}`"
        for media_type, one in content.items()
    ]
    return ", ".join(dict.fromkeys(kinds))


def _kind(schema: Json) -> str:
    """A schema in a word or two."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        of = _PAGE.fullmatch(name)
        kind = of[1] if of else name
        return f"{'page of ' if of else ''}[{kind}](#{kind.lower()})"
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(_kind(one) for one in schema["anyOf"]))
    if "enum" in schema:
        return ", ".join(f"`{one}`" for one in schema["enum"])
    kind = schema.get("type", "any")
    if kind == "array":
        return f"list of {_kind(schema['items'])}" if schema.get("items") else "list"
    if kind == "object" and isinstance(schema.get("additionalProperties"), dict):
        return f"object of {_kind(schema['additionalProperties'])}"
    return str(kind)


def _type(name: str, schema: Json) -> Iterator[str]:
    yield from ("", f"### {name}", "")
    if schema.get("description"):
        yield _prose(" ".join(schema["description"].split()))
        yield ""
    if "properties" not in schema:
        yield f"One of {_kind(schema)}."
        return
    yield "| field | type | |"
    yield "| --- | --- | --- |"
    required = schema.get("required", ())
    for field, about in schema["properties"].items():
        yield f"| `{field}` | {_kind(about)} | {'required' if field in required else ''} |"


def _prose(text: str) -> str:
    """Escaped, but for what stands between back quotes."""
    parts = text.split("`")
    return "`".join(part if i % 2 else part.translate(_MARKUP) for i, part in enumerate(parts))
