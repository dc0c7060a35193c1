"""OpenAPI 3.1 document of a route table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field
from typing import Any, Final

import msgspec

from isocenter.engine.fast_init import dataclass
from isocenter.services.net.http.routing import Answer, Parameter, Payload, Route
from isocenter.services.security.access.permissions import permission_texts
from isocenter.services.web.browser_sessions import COOKIE
from isocenter.services.web.principal import permissions_for, scopes_for

OPENAPI_JSON: Final = "application/json"
_DICOM_JSON: Final = "application/dicom+json"
_UID: Final = "^[0-9.]{1,64}$"
_FRAMES: Final = "^[1-9][0-9]{0,8}(,[1-9][0-9]{0,8})*$"
_BEARER, _CERTIFICATE, _SESSION = "bearer", "certificate", "session"
_DESCRIPTION: Final = """\
DICOMweb (PS3.18). Who calls is known by a client certificate, a bearer token or the session of a \
browser; programs on the same machine need none of them in the clear. Every operation says which \
permission of the access policy it needs (`x-permission`)."""

#: What may be answered to any request.
COMMON_ANSWERS: Final[tuple[Answer, ...]] = (
    Answer(400, "The request cannot be understood."),
    Answer(401, "Nobody knows who calls.", headers=("WWW-Authenticate",)),
    Answer(403, "The caller may not do that."),
    Answer(404, "There is nothing at this path."),
    Answer(405, "The path is not for this method; `Allow` has those that it is for."),
    Answer(408, "The body did not come in time."),
    Answer(
        429,
        "Too many requests of this caller, or failed sign-ins; `Retry-After` says how long.",
        headers=("Retry-After",),
    ),
    Answer(500, "A fault of the server."),
    Answer(503, "It cannot be done now."),
)
_SCHEMAS: Final[Mapping[str, Any]] = {
    "Error": {
        "type": "object",
        "required": ["error"],
        "properties": {
            "error": {
                "type": "object",
                "required": ["code", "message", "request"],
                "properties": {
                    "code": {"type": "string", "description": "For programs."},
                    "message": {"type": "string", "description": "For people."},
                    "request": {"type": "string", "description": "In the log of the server, too."},
                },
            }
        },
    },
    "DataSet": {
        "description": "A data set as JSON (PS3.18 F.2): attributes by tag.",
        "type": "object",
        "additionalProperties": False,
        "patternProperties": {"^[0-9A-F]{8}$": {"$ref": "#/components/schemas/Attribute"}},
    },
    "Attribute": {
        "type": "object",
        "required": ["vr"],
        "additionalProperties": False,
        "properties": {
            "vr": {"type": "string", "pattern": "^[A-Z]{2}$"},
            "Value": {"type": "array"},
            "BulkDataURI": {"type": "string"},
            "InlineBinary": {"type": "string", "contentEncoding": "base64"},
        },
    },
    "DataSets": {
        "anyOf": [
            {"$ref": "#/components/schemas/DataSet"},
            {"type": "array", "items": {"$ref": "#/components/schemas/DataSet"}},
        ]
    },
}


_REFERENCE: Final = "#/components/schemas/{name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """What a document is about.

    Attributes:
        error: media type of errors, and the type that their schema is made of; None: the JSON of
            an `HttpError`.
        schemas: by name, beside those that are made of types.
    """

    title: str
    description: str
    error: tuple[str, type | None] = (OPENAPI_JSON, None)
    schemas: Mapping[str, Any] = field(default_factory=lambda: _SCHEMAS)


DICOMWEB: Final = About(title="Web services of Isocenter", description=_DESCRIPTION)


def openapi(
    routes: Iterable[Route[Any]],
    *,
    version: str,
    places: Mapping[str, str],
    about: About = DICOMWEB,
) -> dict[str, Any]:
    """The document.

    Args:
        version: of this program.
        places: what the places of paths are.
    """
    routes = list(routes)
    schemas = _Schemas(routes, about)
    paths: dict[str, dict[str, Any]] = {}
    services: dict[str, None] = {}
    for route in routes:
        path = route.path.replace("...}", "}")
        paths.setdefault(path, {})[route.method.lower()] = _operation(route, places, schemas)
        services[route.service] = None
    return {
        "openapi": "3.1.0",
        "info": {
            "title": about.title,
            "version": version,
            "description": about.description,
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": name} for name in services if name],
        "paths": paths,
        "components": {
            "schemas": {**about.schemas, **schemas.components},
            "securitySchemes": {
                _BEARER: {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A JWT of the issuer that is believed, or an API token.",
                },
                _CERTIFICATE: {"type": "mutualTLS"},
                _SESSION: {
                    "type": "apiKey",
                    "in": "cookie",
                    "name": COOKIE,
                    "description": "Of a browser in which somebody has signed in.",
                },
            },
        },
    }


class _Schemas:
    """Schemas of the types in a table, and references to them."""

    def __init__(self, routes: Iterable[Route[Any]], about: About) -> None:
        self.error_type, kind = about.error
        kinds = [kind] if kind is not None else []
        kinds += [one for route in routes for one in (route.takes, route.gives) if one is not None]
        made, self.components = msgspec.json.schema_components(
            list(dict.fromkeys(kinds)), ref_template=_REFERENCE
        )
        self._made = dict(zip(dict.fromkeys(kinds), made, strict=True))
        self.error = {"$ref": _REFERENCE.format(name="Error")} if kind is None else self._made[kind]

    def content(self, media_types: Sequence[str], kind: Any) -> dict[str, Any]:
        """Media types with their schemas, where there are any."""
        return {name: self._of(name, kind) for name in media_types}

    def _of(self, media_type: str, kind: Any) -> dict[str, Any]:
        if media_type == _DICOM_JSON:
            return {"schema": {"$ref": _REFERENCE.format(name="DataSets")}}
        if kind is not None and media_type == OPENAPI_JSON:
            return {"schema": self._made[kind]}
        return {}


def _operation(route: Route[Any], places: Mapping[str, str], schemas: _Schemas) -> dict[str, Any]:
    scopes = sorted(scopes_for(route)) or [""]
    needs = permission_texts(permissions_for(route))
    found: dict[str, Any] = {
        "operationId": route.name or f"{route.method} {route.path}",
        "summary": route.text,
        "parameters": [
            *(_place(name, places) for name in route.places),
            *map(_parameter, route.parameters),
        ],
        "security": [
            {},
            *({_BEARER: [scope] if scope else []} for scope in scopes),
            {_CERTIFICATE: []},
            {_SESSION: []},
        ],
        "responses": _responses(route, schemas),
    }
    if route.service:
        found["tags"] = [route.service]
    if needs:
        found["x-permission"] = needs
    if route.consumes:
        found["requestBody"] = {
            "required": True,
            "content": schemas.content(route.consumes, route.takes),
        }
    return found


def _place(name: str, places: Mapping[str, str]) -> dict[str, Any]:
    text = places.get(name, "")
    schema: dict[str, Any] = {"type": "string", "minLength": 1}
    if text.endswith("UID"):
        schema = {"type": "string", "pattern": _UID}
    elif name == "frames":
        schema = {"type": "string", "pattern": _FRAMES}
    return {"name": name, "in": "path", "required": True, "description": text, "schema": schema}


def _parameter(parameter: Parameter) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    if parameter.values:
        schema["enum"] = list(parameter.values)
    if parameter.pattern:
        schema["pattern"] = f"^({parameter.pattern})$"
    if parameter.is_any:
        schema = {"type": "object", "additionalProperties": schema}
    found = {
        "name": parameter.name,
        "in": parameter.place,
        "required": parameter.is_required,
        "description": parameter.text,
        "schema": schema,
    }
    if parameter.is_flag:
        found["allowEmptyValue"] = True
    if parameter.is_any:
        found |= {"style": "form", "explode": True}
    return found


def _responses(route: Route[Any], schemas: _Schemas) -> dict[str, Any]:
    answers = {one.status: one for one in COMMON_ANSWERS}
    answers |= {one.status: one for one in route.answers}
    return {str(status): _response(route, answers[status], schemas) for status in sorted(answers)}


def _response(route: Route[Any], answer: Answer, schemas: _Schemas) -> dict[str, Any]:
    content: dict[str, Any] = {}
    if answer.payload in (Payload.REPRESENTATION, Payload.EITHER):
        content |= schemas.content(route.produces, route.gives)
    if answer.payload in (Payload.ERROR, Payload.EITHER):
        content[schemas.error_type] = {"schema": schemas.error}
    found: dict[str, Any] = {"description": answer.text}
    if content:
        found["content"] = content
    if answer.headers:
        field = {"required": True, "schema": {"type": "string"}}
        found["headers"] = dict.fromkeys(answer.headers, field)
    return found
