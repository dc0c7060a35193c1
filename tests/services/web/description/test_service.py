"""What the web services say of themselves: WADL, OpenAPI, a page; `Allow`, HEAD, CORS."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from isocenter.services.net.http.application import Handler
from isocenter.services.net.http.messages import HttpError, Request
from isocenter.services.net.http.routing import Payload, Route
from services.web.asking import ORIGIN, web_side

NAMESPACE = "{http://wadl.dev.java.net/2009/02}"
METHODS = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")


def filled(path: str) -> str:
    """A path that a route takes."""
    return re.sub(r"\{[^}]+\}", "1.2.3", path)


async def test_every_path_says_which_methods_it_takes() -> None:
    async with web_side() as ask:
        for path in {route.path for route in ask.routes}:
            options = await ask("OPTIONS", filled(path))
            allowed = options.headers["allow"].split(", ")
            mine = {route.method for route in ask.routes if filled(route.path) == filled(path)}
            assert set(allowed) == mine | {"OPTIONS"} | ({"HEAD"} if "GET" in mine else set())
            for method in set(METHODS) - set(allowed):
                refused = await ask(method, filled(path))
                assert (refused.status, refused.headers["allow"]) == (405, ", ".join(allowed))
                assert method == "HEAD" or refused.json["error"]["code"] == "METHOD_NOT_ALLOWED"


async def test_head_says_what_get_says_without_the_body() -> None:
    async with web_side() as ask:
        for route in ask.routes:
            if route.method == "GET":
                path = filled(route.path)
                head, get = await ask("HEAD", path), await ask("GET", path)
                assert (head.status, head.body) == (get.status, b"")
                for name in ("content-type", "content-length"):
                    assert head.headers.get(name) == get.headers.get(name), path


async def test_a_preflight_is_no_question_for_capabilities() -> None:
    async def nobody(request: Request, route: Route[Handler]) -> None:
        raise HttpError(401, "NOT_SIGNED_IN", "")

    async with web_side(authorize=nobody) as ask:
        asked = {"origin": ORIGIN, "access_control_request_method": "POST"}
        allowed = await ask("OPTIONS", "/dicomweb/studies", **asked)
        assert (allowed.status, allowed.body) == (204, b"")
        assert allowed.headers["access-control-allow-methods"] == "GET, HEAD, OPTIONS, POST"
        assert allowed.headers["access-control-allow-origin"] == ORIGIN
        refused = await ask("OPTIONS", "/dicomweb/studies", **asked | {"origin": "https://evil"})
        assert "access-control-allow-origin" not in refused.headers
        # Who only asks what there is has to be somebody.
        assert (await ask("OPTIONS", "/dicomweb/studies", origin=ORIGIN)).status == 401


# -- WADL ---------------------------------------------------------------------------------


def paths_of(element: ET.Element, above: str = "") -> dict[str, set[str]]:
    """Path → methods, of a document."""
    found: dict[str, set[str]] = {}
    for resource in element.findall(f"{NAMESPACE}resource"):
        path = f"{above}/{resource.get('path')}"
        methods = {str(each.get("name")) for each in resource.findall(f"{NAMESPACE}method")}
        if methods:
            found[path] = methods
        found |= paths_of(resource, path)
    return found


async def test_the_capabilities_are_the_routes() -> None:
    async with web_side() as ask:
        for path in ("/dicomweb", "/dicomweb/"):
            answer = await ask("OPTIONS", path)
            assert answer.headers["content-type"] == "application/vnd.sun.wadl+xml"
            (resources,) = answer.xml
            assert resources.get("base") == "http://localhost:8080/dicomweb"
            expected: dict[str, set[str]] = {}
            for route in ask.routes:
                if route.path.startswith("/dicomweb/"):
                    shown = route.path.removeprefix("/dicomweb").replace("...}", "}")
                    expected.setdefault(shown, set()).add(route.method)
            assert paths_of(resources) == expected


async def test_capabilities_of_one_resource_are_those_of_what_is_below_it() -> None:
    async with web_side() as ask:
        answer = await ask("OPTIONS", "/dicomweb/studies/1.2/series/3.4/instances/5.6/frames")
        (resources,) = answer.xml
        (resource,) = resources
        template = "studies/{study}/series/{series}/instances/{instance}/frames"
        assert resource.get("path") == template
        assert set(paths_of(resources)) == {
            f"/{template}/{{frames}}",
            f"/{template}/{{frames}}/rendered",
            f"/{template}/{{frames}}/thumbnail",
        }
        names = [each.get("name") for each in resource.findall(f"{NAMESPACE}param")]
        assert names == ["study", "series", "instance"]
        search = (await ask("OPTIONS", "/dicomweb/series")).xml.find(f".//{NAMESPACE}method")
        assert search is not None
        assert (search.get("id"), search.get("name")) == ("SearchForSeries", "GET")
        parameters = {each.get("name") for each in search.iter(f"{NAMESPACE}param")}
        assert {"limit", "offset", "includefield"} <= parameters
        media_types = {each.get("mediaType") for each in search.iter(f"{NAMESPACE}representation")}
        assert {"application/dicom+json", "application/json"} <= media_types
        assert (await ask("OPTIONS", "/dicomweb/nothing")).status == 404


@pytest.mark.parametrize(
    ("accept", "status", "media_type"),
    [
        ("*/*", 200, "application/vnd.sun.wadl+xml"),
        ("application/xml", 200, "application/xml"),
        ("text/*;q=0.5, application/vnd.sun.wadl+xml", 200, "application/vnd.sun.wadl+xml"),
        ("application/dicom", 406, "application/json"),
        ("nonsense", 400, "application/json"),
    ],
)
async def test_capabilities_by_accept(accept: str, status: int, media_type: str) -> None:
    async with web_side() as ask:
        answer = await ask("OPTIONS", "/dicomweb", accept=accept)
        assert (answer.status, answer.headers["content-type"]) == (status, media_type)


# -- OpenAPI and the page -----------------------------------------------------------------


async def test_the_openapi_document_is_one() -> None:
    async with web_side() as ask:
        answer = await ask("GET", "/api/openapi.json")
        assert answer.headers["content-type"] == "application/json"
        document = answer.json
        OpenAPIV31SpecValidator(document).validate()
        operations = {
            (method.upper(), path): operation
            for path, methods in document["paths"].items()
            for method, operation in methods.items()
        }
        assert set(operations) == {
            (route.method, route.path.replace("...}", "}")) for route in ask.routes
        }
        store = operations["POST", "/dicomweb/studies/{study}"]
        assert store["x-permission"] == ["study:write"]
        assert {"bearer": ["dicomweb.write"]} in store["security"]
        assert set(store["requestBody"]["content"]) >= {"multipart/related", "application/dicom"}
        assert set(store["responses"]) >= {"200", "202", "400", "401", "403", "409", "415"}
        assert "application/dicom+json" in store["responses"]["409"]["content"]
        (study,) = store["parameters"]
        assert (study["in"], study["required"]) == ("path", True)
        search = operations["GET", "/dicomweb/studies"]["parameters"]
        named = {parameter["name"]: parameter for parameter in search}
        assert re.search(named["limit"]["schema"]["pattern"], "100")
        assert not re.search(named["limit"]["schema"]["pattern"], "-1")
        # Attributes are matched by any name.
        assert (named["attribute"]["style"], named["attribute"]["explode"]) == ("form", True)


async def test_every_route_is_explained() -> None:
    async with web_side() as ask:
        names = [route.name for route in ask.routes]
        assert len(set(names)) == len(names)
        for route in ask.routes:
            assert route.text.endswith("."), route.path
            assert route.name.isidentifier(), route.path
            assert route.service, route.path
            successes = [answer for answer in route.answers if answer.status < 300]
            assert successes, route.path
            is_silent = all(answer.payload is Payload.NOTHING for answer in successes)
            assert route.produces or is_silent or route.method == "POST", route.path
            statuses = [answer.status for answer in route.answers]
            assert len(set(statuses)) == len(statuses), route.path


async def test_the_page_names_every_route_and_needs_nothing() -> None:
    async with web_side() as ask:
        answer = await ask("GET", "/api")
        page = answer.body.decode()
        for route in ask.routes:
            assert f"<td>{route.path}</td>" in page
            assert f"<td>{route.name}</td>" in page
        assert not re.search(r"(src|href)=|<script|url\(|@import", page)
        assert answer.headers["content-security-policy"].startswith("default-src 'none'")


async def test_the_conformance_statement_is_that_of_the_server() -> None:
    async with web_side({"mpps.enabled": False}) as ask:
        answer = await ask("GET", "/api/conformance")
        page = answer.body.decode()
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        for route in ask.routes:
            assert f"<td>{route.path}</td>" in page
        assert "Storage Commitment Push Model" in page
        assert "Modality Performed Procedure Step SOP Class" not in page
        assert not re.search(r"(src|href)=|<script|url\(|@import", page)
        # It names peers: it is for who may see the state of the server.
        (route,) = [route for route in ask.routes if route.path == "/api/conformance"]
        assert route.needs == "state"
