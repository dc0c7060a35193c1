"""The OpenAPI document of the API: all routes, their types, problems as answers."""

from __future__ import annotations

from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from services.web.signed_in import Site

AS_PROGRAM = {"x-certificate": "program", "accept": "application/json"}


async def document_of(site: Site) -> dict[str, Any]:
    answer = await site.client.get("/api/v1/openapi.json", headers=AS_PROGRAM)
    assert answer.status_code == 200
    found: dict[str, Any] = answer.json()
    return found


async def test_the_document_is_valid_and_has_all_routes(site: Site) -> None:
    document = await document_of(site)
    assert not list(OpenAPIV31SpecValidator(document).iter_errors())
    operations = {
        (method.upper(), path): operation
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    }
    assert operations.keys() == {(one.method, one.path.replace("...}", "}")) for one in site.rest}
    names = [operation["operationId"] for operation in operations.values()]
    assert len(names) == len(set(names))


async def test_every_body_has_a_schema(site: Site) -> None:
    """So a client can be made of the document, and requests and answers can be checked by it."""
    document = await document_of(site)
    for path, operations in document["paths"].items():
        for operation in operations.values():
            contents = [answer.get("content", {}) for answer in operation["responses"].values()]
            contents.append(operation.get("requestBody", {}).get("content", {}))
            for content in contents:
                for media_type, described in content.items():
                    is_typed = media_type.endswith("json")
                    is_itself = path.endswith("openapi.json") and media_type == "application/json"
                    assert bool(described) is (is_typed and not is_itself), f"{path}: {media_type}"


@pytest.mark.parametrize(
    ("path", "headers", "status", "code"),
    [
        ("/api/v1", AS_PROGRAM, 404, "NOT_FOUND"),
        ("/api/v1/nothing", AS_PROGRAM, 404, "NOT_FOUND"),
        ("/api/v1/system/status", {}, 401, "NOT_SIGNED_IN"),
        ("/api/v1/system/version", AS_PROGRAM, 405, "METHOD_NOT_ALLOWED"),
        ("/api/v1/nothing", {**AS_PROGRAM, "accept": "text/html"}, 404, "NOT_FOUND"),
    ],
)
async def test_what_is_wrong_is_a_problem_object(
    site: Site, path: str, headers: dict[str, str], status: int, code: str
) -> None:
    method = "DELETE" if status == 405 else "GET"
    answer = await site.client.request(method, path, headers=headers)
    assert (answer.status_code, answer.headers["content-type"]) == (
        status, "application/problem+json",
    )  # fmt: skip
    problem = answer.json()
    assert problem["status"] == status
    assert problem["code"] == code
    assert problem["request"] == answer.headers["x-request-id"]
    assert {"type", "title", "detail"} <= problem.keys()
