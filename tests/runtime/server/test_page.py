"""HTML page: complete, safe by its headers, and working in a real browser."""

import re
import subprocess
from importlib.resources import files
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PYTHON = ROOT / ".venv-clients" / "bin" / "python"
CHROMIUM = Path("/usr/bin/chromium")


@pytest.mark.slow
@pytest.mark.skipif(not PYTHON.exists(), reason="run 'scripts/setup clients' for the browser's driver")
@pytest.mark.skipif(
    not CHROMIUM.exists() or not Path("/usr/bin/chromedriver").exists(),
    reason="the page was not seen: install Debian's chromium and chromium-driver",
)
@pytest.mark.parametrize("token", ["", "secret-token"])
def test_a_dropped_photo_gets_its_label(start, tiny, tmp_path, token):
    with start(tiny, environment={"TRUECOPY_TOKEN": token}) as server:
        command = [PYTHON, ROOT / "tests" / "clients" / "browser.py", server.url, ROOT / "tests" / "data" / "cat.jpg"]
        done = subprocess.run(
            [*map(str, command), str(tmp_path), *([token] if token else [])],
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    assert (done.returncode, done.stdout) == (0, "cat\nok\n"), done.stderr[-3000:]


@pytest.mark.parametrize("path", ["/", "/docs", "/page/page.css", "/page/page.js", "/page/docs.js", "/page/icon.svg"])
def test_every_file_is_served_with_the_headers_that_a_scanner_looks_for(server, path):
    response = server.get(path)

    assert response.status == 200
    policy = response.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["x-frame-options"] == "DENY"
    assert response.headers["referrer-policy"] == "no-referrer"
    assert "server" not in response.headers


def test_the_page_names_no_other_host():
    for file in (files("runtime.server") / "page").iterdir():
        addresses = set(re.findall(r"https?://[^\"'\s]+", file.read_text()))
        assert addresses <= {"http://www.w3.org/2000/svg"}, file


def test_openapi_has_the_models_real_shapes(server):
    document = server.get("/openapi.json").json
    infer = document["paths"]["/v2/models/tiny/infer"]["post"]
    body = infer["requestBody"]["content"]["application/json"]["schema"]
    pixels, encoded = body["properties"]["inputs"]["items"]["oneOf"]

    assert pixels["properties"]["shape"]["prefixItems"][-1] == {"const": 3}
    assert encoded["properties"]["datatype"] == {"const": "BYTES"}
    assert "'cat', 'coffee', 'rocket', 'astronaut'" in document["paths"]["/predict/tiny"]["post"]["description"]


def test_every_path_of_the_openapi_document_exists(server):
    for path, methods in server.get("/openapi.json").json["paths"].items():
        for method in methods:
            response = server.get(path) if method == "get" else server.post(path, b"")
            assert response.status not in {404, 405}, path
