from __future__ import annotations

import pytest

from stackkit.serving.errors import RequestError
from stackkit.serving.routing import Request, Response, Router, RouteTable


async def handler(_: Request) -> Response:
    return Response(200, b"")


def write_error(error: RequestError) -> bytes:
    return error.message.encode()


GET = {"GET": handler}
PLAIN = RouteTable({"/ping": GET, "/docs": GET}, write_error)
V2 = RouteTable({"/v2": GET, "/v2/models/{name}": GET, "/v2/models/{name}/infer": GET}, write_error, prefix="/v2")
ROUTER = Router([PLAIN, V2])


@pytest.mark.parametrize(
    ("path", "pattern", "parameters"),
    [
        ("/ping", "/ping", {}),
        ("/ping/", "/ping", {}),
        ("/p%69ng", "/ping", {}),
        ("/v2/", "/v2", {}),
        ("/v2/models/iris", "/v2/models/{name}", {"name": "iris"}),
        ("/v2/models/a%2Fb%20c/infer", "/v2/models/{name}/infer", {"name": "a/b c"}),
    ],
)
def test_a_path_leads_to_its_pattern(path: str, pattern: str, parameters: dict[str, str]) -> None:
    route = ROUTER.find(path)
    assert route is not None
    assert (route.pattern, dict(route.parameters)) == (pattern, parameters)


@pytest.mark.parametrize(
    "path", ["", "/", "/pong", "//ping", "/v2/models", "/v2/models//infer", "/v2/models/a/b/infer"]
)
def test_other_paths_lead_nowhere(path: str) -> None:
    assert ROUTER.find(path) is None


@pytest.mark.parametrize(("path", "table"), [("/v2/nothing", V2), ("/nothing", PLAIN), ("*", PLAIN)])
def test_the_longest_prefix_says_whose_error_it_is(path: str, table: RouteTable) -> None:
    assert ROUTER.table_of(path) is table
