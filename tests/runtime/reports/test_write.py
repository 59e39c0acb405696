"""Files of reports: all that were asked for, whole, and refused before the check where they cannot be written."""

import os
from pathlib import Path

import pytest

from runtime.errors import InputError
from runtime.reports import Destinations, write_reports


def test_all_forms_are_written_at_once_and_nothing_else(failed, outcome_of, tmp_path):
    (tmp_path / "p.html").write_text("of an earlier run, and longer than nothing")
    asked = Destinations(junit=tmp_path / "p.xml", sarif=tmp_path / "p.sarif", html=tmp_path / "p.html")
    asked.check()
    write_reports(outcome_of(failed), asked)

    assert sorted(path.name for path in tmp_path.iterdir()) == ["p.html", "p.sarif", "p.xml"]
    assert (tmp_path / "p.xml").read_bytes().startswith(b"<?xml")
    assert (tmp_path / "p.html").read_bytes().startswith(b"<!doctype html>")


def test_the_same_evidence_gives_the_same_bytes(failed, outcome_of, tmp_path):
    for name in ("one", "two"):
        write_reports(outcome_of(failed), Destinations(junit=tmp_path / name, html=tmp_path / f"{name}.html"))

    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert (tmp_path / "one.html").read_bytes() == (tmp_path / "two.html").read_bytes()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("-", "--junit '-': not a file: several forms cannot share standard output. Use another file"),
        ("{}", "is a folder, not a file. Use another file"),
        ("{}/none/p.xml", "there is no folder '.*none'. Use another file"),
        ("/dev/null", "is a device, not a file. Use another file"),
    ],
)
def test_what_cannot_be_written_is_refused_before_the_check(tmp_path, name, message):
    with pytest.raises(InputError, match=message):
        Destinations(junit=Path(name.format(tmp_path))).check()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_refused_before_the_check(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match="no permission to write in"):
        Destinations(junit=tmp_path / "p.xml").check()


def test_two_forms_in_one_file_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"--sarif '.*': --junit writes the same file"):
        Destinations(junit=tmp_path / "p", sarif=tmp_path / "p").check()


def test_a_form_that_fails_costs_no_other_and_leaves_nothing_half(failed, outcome_of, tmp_path):
    (tmp_path / "p.xml").mkdir()
    asked = Destinations(junit=tmp_path / "p.xml", html=tmp_path / "p.html")

    with pytest.raises(OSError, match=r"p\.xml"):
        write_reports(outcome_of(failed), asked)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["p.html", "p.xml"]


def test_a_link_is_followed_and_kept(passed, outcome_of, tmp_path):
    (tmp_path / "link.xml").symlink_to(tmp_path / "real.xml")
    write_reports(outcome_of(passed), Destinations(junit=tmp_path / "link.xml"))

    assert (tmp_path / "link.xml").is_symlink()
    assert (tmp_path / "real.xml").read_bytes().startswith(b"<?xml")
