"""Cross-origin requests and the prefix of a proxy: off by default, and the same for every path."""

import asyncio

import httpx
import pytest

from runtime.errors import InputError
from runtime.server.access_log import AccessLog
from runtime.server.auth import BearerAuth
from runtime.server.http.app import HttpApp
from runtime.server.http.cors import check_origins, check_root_path
from runtime.server.limits import Limits
from runtime.server.service import Service

PAGE = "https://shop.example"
PREFLIGHT = {
    "Origin": PAGE,
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "authorization,content-type,x-request-timeout",
}


@pytest.fixture
def send():
    """Return a function that sends one request to an application with its own options."""
    service = Service([], limits=Limits(), workers=1)

    def send(method, path, headers, *, token="", **options):
        app = HttpApp(service, auth=BearerAuth(token), log=AccessLog("none"), **options)

        async def run():
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
                return await client.request(method, path, headers=headers)

        return asyncio.run(run())

    yield send
    service.close()


def test_no_page_of_another_origin_is_allowed_by_default(send):
    response = send("GET", "/v2/health/live", {"Origin": PAGE})

    assert response.status_code == 200
    assert not any(name.startswith("access-control") for name in response.headers)
    assert send("OPTIONS", "/predict/tiny", PREFLIGHT).status_code == 405


@pytest.mark.parametrize("origins", [[], ["https://other.example"]])
def test_a_refused_page_says_how_to_allow_it(send, origins):
    response = send("OPTIONS", "/predict/tiny", PREFLIGHT, cors_origins=origins)

    assert response.status_code in {400, 405}
    assert response.json()["error"].endswith(f"Start it with --cors-origin {PAGE}.")
    assert "access-control-allow-origin" not in response.headers


@pytest.mark.parametrize(
    ("origins", "allowed"), [([PAGE], PAGE), (["https://other.example", PAGE], PAGE), (["*"], "*")]
)
def test_a_page_of_a_named_origin_may_send_and_read(send, origins, allowed):
    preflight = send("OPTIONS", "/predict/tiny", PREFLIGHT, token="s3cret", cors_origins=origins)

    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-origin"] == allowed
    assert {"authorization", "content-type", "x-request-timeout"} <= {
        name.strip().lower() for name in preflight.headers["access-control-allow-headers"].split(",")
    }
    assert "x-request-id" in preflight.headers


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/v2", 401), ("GET", "/nowhere", 404), ("PUT", "/v2", 405), ("GET", "/v2/health/ready", 503)],
)
def test_errors_are_as_readable_as_results(send, method, path, status):
    response = send(method, path, {"Origin": PAGE}, token="s3cret", cors_origins=[PAGE])

    assert response.status_code == status
    assert response.headers["access-control-allow-origin"] == PAGE
    assert "access-control-allow-credentials" not in response.headers


def test_a_page_of_another_origin_is_refused(send):
    preflight = send("OPTIONS", "/predict/tiny", PREFLIGHT | {"Origin": "https://evil.example"}, cors_origins=[PAGE])
    response = send("GET", "/v2", {"Origin": "https://evil.example"}, cors_origins=[PAGE])

    assert preflight.status_code == 400
    assert "access-control-allow-origin" not in preflight.headers
    assert "access-control-allow-origin" not in response.headers


@pytest.mark.parametrize("path", ["/v2", "/models/v2"])
def test_a_proxy_may_leave_its_prefix_or_remove_it(send, path):
    assert send("GET", path, {}, root_path="/models").json()["name"] == "truecopy"


def test_the_prefix_alone_leads_to_the_page(send):
    response = send("GET", "/models", {}, root_path="/models")

    assert (response.status_code, response.headers["location"]) == (307, "/models/")
    assert send("GET", "/models/", {}, root_path="/models").headers["content-type"].startswith("text/html")
    assert send("GET", "/modelsv2", {}, root_path="/models").status_code == 404


def test_the_document_names_the_prefix(send):
    assert send("GET", "/openapi.json", {}, root_path="/models").json()["servers"] == [{"url": "/models"}]
    assert "servers" not in send("GET", "/openapi.json", {}).json()


def test_the_pages_links_are_relative(send):
    for path in ("/", "/docs", "/page/page.js", "/page/docs.js"):
        text = send("GET", path, {}).text
        assert not any(
            link in text for link in ('="/', 'fetch("/', "fetch(`/", 'send("/', "send(`/", "location.origin")
        )


@pytest.mark.parametrize("origin", ["example.com", "https://a.example/", "https://a.example/x", "ftp://a", "", "null"])
def test_what_is_no_origin_is_refused(origin):
    with pytest.raises(InputError, match=r"--cors-origin .* not an origin"):
        check_origins(["http://localhost:3000", "https://[::1]:8", origin])


@pytest.mark.parametrize("prefix", ["models", "/models/", "/", "//x", "/a?b", "/a b", "https://x"])
def test_what_is_no_prefix_is_refused(prefix):
    check_root_path("")
    check_root_path("/models/v1.2")
    with pytest.raises(InputError, match=r"--root-path .* not a path prefix"):
        check_root_path(prefix)
