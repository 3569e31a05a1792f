"""The API's description: valid, complete, made from the models that check requests, and true of the answers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
from openapi_spec_validator import OpenAPIV31SpecValidator

from config.settings import Settings
from tests.support.houses.printed import printed
from tests.support.houses.shop import Shop
from tests.support.houses.web_server import SECRET, Web, bearer, picture_bytes, running_web
from web.app.app import ADDRESSES
from web.openapi import schemas
from web.openapi.generator import openapi_document
from web.openapi.operations import OPERATIONS

TASKS = "/v1/tasks"
ORDER = {"type": "photography", "params": {"images": ["https://example.org/a.jpg"]}}


def _document(**settings: Any) -> dict[str, Any]:
    return openapi_document(Settings(secret=SECRET, **settings), ADDRESSES)


def _every(value: Any, key: str) -> Iterator[Any]:
    """Every value under a key, however deep."""
    if isinstance(value, dict):
        if key in value:
            yield value[key]
        for each in value.values():
            yield from _every(each, key)
    elif isinstance(value, list):
        for each in value:
            yield from _every(each, key)


def test_the_document_is_valid_openapi_3_1() -> None:
    OpenAPIV31SpecValidator(_document()).validate()
    OpenAPIV31SpecValidator(_document(tasks={"upscale": {}}, demo_user=False)).validate()


def test_every_address_is_described_and_nothing_else() -> None:
    named = [address.operation for address in ADDRESSES if address.operation]
    assert sorted(named) == sorted(OPERATIONS)
    assert [address.path for address in ADDRESSES if not address.operation] == ["/static/{name}"]


def test_the_status_that_is_expected_is_described() -> None:
    for address in ADDRESSES:
        if address.operation:
            assert address.status in OPERATIONS[address.operation].answers


def test_an_order_is_described_by_the_models_that_check_it() -> None:
    schemas_ = _document(tasks={"upscale": {}})["components"]["schemas"]
    assert set(schemas_["Order"]["discriminator"]["mapping"]) == {"photography", "fitting", "upscale"}
    params = schemas_["PhotographyParams"]
    assert params["properties"]["count"]["maximum"] == 8 and params["additionalProperties"] is False
    assert params["properties"]["sceneId"]["enum"] == ["studio", "sunset", "night"]
    assert schemas_["FittingParams"]["properties"]["images"]["minItems"] == 2
    assert schemas_["UpscaleOrder"]["properties"]["type"]["const"] == "upscale"


def test_what_a_request_may_leave_out_has_no_default_for_generators_to_take_for_a_value_and_says_it_in_words() -> (
    None
):
    parameters = {"properties": {"default": {"type": "integer", "default": 7, "examples": [{"default": 1}]}}}
    document = _document(tasks={"poster": {"count": [2, 4], "parameters": parameters}})
    found = document["components"]["schemas"]
    for name in ("PosterParams", "PosterOrder", "PhotographyParams", "PhotographyOrder"):
        members = found[name]["properties"]
        assert not [each for each in members.values() if "default" in each], name
    params = found["PosterParams"]["properties"]
    assert params["count"]["description"] == "How many pictures.  2 if it is left out."
    assert params["prompt"]["description"] == "What the picture shall show."
    own = params["parameters"]["properties"]["default"]
    assert own == {
        "type": "integer",
        "description": "7 if it is left out.",
        "examples": [{"default": 1}],
    }
    token = document["paths"]["/v1/tokens"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert token["properties"]["ttl_seconds"]["description"] == "3600 if it is left out."


def test_each_address_that_a_service_may_use_for_a_user_says_so() -> None:
    document = _document()
    for each in ADDRESSES:
        if each.operation:
            described = document["paths"][each.path][each.method.lower()]
            is_meant = OPERATIONS[each.operation].needs_token and described["tags"] != ["Operators"]
            named = [parameter["name"] for parameter in described.get("parameters", [])]
            assert ("X-User" in named) is is_meant, each.path


def test_each_address_that_refuses_blocked_users_says_so() -> None:
    paths = _document()["paths"]
    for name, operation in OPERATIONS.items():
        if operation.needs_token or name in ("logInWithWeChat", "falPutUpload"):
            (described,) = (
                each for path in paths.values() for each in path.values() if each["operationId"] == name
            )
            assert "`user_blocked`" in described["responses"]["403"]["description"], name


def test_scenes_of_ones_own_are_described() -> None:
    document = _document(
        tasks={"photography": {"provider": "painter", "scenes": ["beach"]}},
        providers={"painter": {"kind": "openai", "url": "https://example.org/v1"}},
    )
    OpenAPIV31SpecValidator(document).validate()
    params = document["components"]["schemas"]["PhotographyOrder"]["properties"]["params"]
    assert params["allOf"][0] == {"$ref": "#/components/schemas/TaskParams"}
    assert params["allOf"][1]["properties"]["sceneId"]["enum"] == ["beach"]


def test_a_token_is_optional_only_where_there_is_a_demo_user() -> None:
    for document, optional in ((_document(), True), (_document(demo_user=False), False)):
        security = document["paths"][TASKS]["post"]["security"]
        assert ({} in security) is optional and {"token": []} in security
    assert _document()["paths"]["/healthz"]["get"]["security"] == []


def test_every_reference_leads_somewhere() -> None:
    document = _document()
    known = document["components"]["schemas"]
    for reference in _every(document, "$ref"):
        assert reference.removeprefix("#/components/schemas/") in known


async def _answers(web: Web, http: aiohttp.ClientSession) -> AsyncIterator[tuple[str, type[Any], Any]]:
    """Real answers, and the models that describe them."""
    headers = bearer("o-1")

    async def ask(method: str, path: str, **more: Any) -> Any:
        async with http.request(
            method, web.url + path, headers=headers | more.pop("headers", {}), **more
        ) as answer:
            return await answer.json()

    jpeg = {"Content-Type": "image/jpeg"}
    yield "upload", schemas.UploadedImage, await ask("POST", "/v1/images", data=picture_bytes(), headers=jpeg)
    text = {"Content-Type": "text/plain"}
    yield "file", schemas.UploadedFile, await ask("POST", "/v1/files", data=b"some words", headers=text)
    accepted = await ask("POST", TASKS, json=ORDER)
    yield "submit", schemas.AcceptedTask, accepted
    yield "show", schemas.Task, await ask("GET", accepted["urls"]["task"])
    yield "order", schemas.TaskOrder, await ask("GET", accepted["urls"]["task"] + "/order")
    yield "events", schemas.TaskHistory, await ask("GET", accepted["urls"]["task"] + "/events")
    yield "list", schemas.TaskPage, await ask("GET", TASKS)
    yield "cancel", schemas.Task, await ask("POST", accepted["urls"]["cancel"])
    yield "work", schemas.Work, await ask("GET", accepted["urls"]["work"])
    yield "works", schemas.WorkPage, await ask("GET", "/v1/works")
    opening = await ask("GET", "/v1/works/changes")
    yield "init", schemas.Changes, opening
    await ask("POST", accepted["urls"]["task"] + "/retry")
    changed = await ask("GET", "/v1/works/changes", params={"since": opening["next"]})
    assert changed["docChanges"], "there is a change to look at"
    yield "changes", schemas.Changes, changed
    yield "ticket", schemas.FeedTicket, await ask("POST", "/v1/feed-tickets")
    yield "estimate", schemas.Estimate, await ask("POST", TASKS + "?estimate=true", json=ORDER)
    service = bearer("shop", "service")
    yield "token", schemas.IssuedToken, await ask("POST", "/v1/tokens", json={"user": "o-1"}, headers=service)
    granted = {"amount": 5, "reference": "r-1"}
    yield (
        "grant",
        schemas.Grant,
        await ask("POST", "/v1/credits/o-1/grants", json=granted, headers=service),
    )
    yield "credits", schemas.Credits, await ask("GET", "/v1/credits")
    yield "types", schemas.TypeList, await ask("GET", "/v1/types")
    made = await printed(Shop(web))
    a_day = {"ttl_seconds": 86_400}
    yield "share", schemas.Share, await ask("POST", f"/v1/works/{made}/shares", json=a_day)
    yield "archive", schemas.ArchiveLink, await ask("POST", "/v1/archives", json={})
    yield "problem", schemas.Problem, await ask("POST", TASKS, json={})
    yield "health", schemas.Health, await ask("GET", "/healthz")
    yield "readiness", schemas.Ready, await ask("GET", "/readyz")


async def test_answers_match_their_description(web: Web, http: aiohttp.ClientSession) -> None:
    seen = set()
    async for name, model, answer in _answers(web, http):
        model.model_validate(answer, strict=True)
        seen.add(model)
        assert model in schemas.ANSWERS, name
    assert seen == set(schemas.ANSWERS) - {schemas.DocChange, schemas.Login}


async def test_the_page_and_the_document_need_no_token(tmp_path: Path, http: aiohttp.ClientSession) -> None:
    async with running_web(tmp_path, demo_user=False) as web:
        async with http.get(web.url + "/openapi.json") as response:
            assert response.status == 200
            assert (await response.json())["openapi"].startswith("3.1")
        for path in ("/docs", "/"):
            async with http.get(web.url + path) as response:
                assert response.status == 200 and response.content_type == "text/html"
                policy, page = response.headers["Content-Security-Policy"], await response.text()
            assert "script-src 'self'" in policy and "unsafe" not in policy
            assert "http://" not in page and "https://" not in page, "nothing is loaded from elsewhere"


async def test_parts_of_the_pages_are_served_and_nothing_beside_them(
    web: Web, http: aiohttp.ClientSession
) -> None:
    async with http.get(web.url + "/static/console.js") as response:
        assert response.status == 200 and response.content_type == "text/javascript"
        etag = response.headers["ETag"]
    async with http.get(web.url + "/static/console.js", headers={"If-None-Match": etag}) as response:
        assert response.status == 304
    for name in ("nope.js", "..%2Fapp.py", "%2e%2e%2fpages.py", "console.js%00", "console"):
        async with http.get(f"{web.url}/static/{name}") as response:
            assert response.status == 404
