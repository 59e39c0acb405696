"""The table of the demo in the pages that show it."""

import msgspec
import pytest

from maintenance.demo_table import PAGES, ROOT, put, render
from runtime.evidence import Evidence


@pytest.fixture(scope="module")
def evidence() -> Evidence:
    return msgspec.json.decode((ROOT / "tests/data/tiny/parity.json").read_bytes(), type=Evidence)


@pytest.mark.parametrize("name", PAGES)
def test_a_page_shows_one_table_which_is_replaced_whole(name, evidence):
    page = (ROOT / name).read_text(encoding="utf-8")
    table = render(evidence, PAGES[name])
    written = put(page, table)

    assert table in written
    assert put(written, table) == written
    assert len(written.splitlines()) - len(table.splitlines()) == len(put(page, "").splitlines())


def test_the_readme_shows_what_users_run(evidence):
    rows = render(evidence, PAGES["README.md"]).splitlines()

    assert rows[0].startswith("parity with eager PyTorch: passed")
    assert len(rows) < len(render(evidence, PAGES["docs/concepts/evidence.md"]).splitlines())
    assert any(row.startswith("runtime ") for row in rows)


def test_a_page_that_lost_its_block_is_an_error():
    with pytest.raises(ValueError, match="expected one block"):
        put("# A page\n", "table\n")
