"""One table: the same photos, hostile ones too, through every way to run an artifact, have the same rows.

Here each kind of photo once; 'scripts/compare-engines' has hundreds of them.
"""

from pathlib import Path

import pytest
from support.deploying import deploy
from support.engines import Row, library_rows, ray_rows, server_rows, triton_rows
from support.hostile_photos import KINDS, write_photos
from support.serving import serving
from support.triton_server import CLIENT_PYTHON, is_installed, running_triton

pytest.importorskip("ray", reason="the extra 'ray' is not installed")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:.*asks for a rotation by EXIF"),
]


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return write_photos(tmp_path_factory.mktemp("same-rows") / "photos", len(KINDS))


@pytest.fixture(scope="module")
def expected(tiny, photos) -> list[Row]:
    """The library's rows: answers for most, and a reason for each of the others."""
    rows = library_rows(tiny, photos)
    assert [row["input"] for row in rows] == list(map(str, photos))
    failed = {Path(row["input"]).name.partition("-")[2] for row in rows if "error" in row}
    hostile = {"empty.jpg", "garbage.jpg", "page.jpg", "pointer.jpg", "header-only.jpg", "bomb.png", "bomb.gif"}
    assert failed == hostile | {"truncated.jpg", "truncated.png"}
    return rows


def test_our_servers_rows_are_the_librarys(tiny, photos, expected):
    with serving(tiny) as server:
        assert server_rows(server.url, "tiny", photos) == expected


def test_ray_serves_rows_are_the_librarys(ray_serving, photos, expected):
    assert server_rows(ray_serving.url, "tiny", photos) == expected


def test_ray_datas_rows_are_the_librarys(ray_serving, tiny, photos, expected, tmp_path):
    options = ("--address", ray_serving.cluster, "--workers", "1")
    assert ray_rows(tiny, photos[0].parent, tmp_path / "rows.jsonl", *options) == expected


@pytest.mark.skipif(
    not (is_installed() and CLIENT_PYTHON.exists()),
    reason="run 'scripts/setup triton' and 'scripts/setup clients' for a real Triton",
)
def test_tritons_rows_are_the_librarys(tiny, photos, expected, tmp_path):
    assert deploy("triton", tiny, "--out", tmp_path / "out").returncode == 0
    with running_triton(tmp_path / "out" / "python", log=tmp_path / "log") as triton:
        assert triton_rows(triton, "tiny", photos) == expected
