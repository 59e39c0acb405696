"""Files beside their place: what a killed writer left goes with the next write, and nothing that is still written."""

import errno
import os
from pathlib import Path

import pytest

from runtime.artifact.locks import lock
from runtime.artifact.unfinished import unfinished_folder, write_whole


@pytest.mark.skipif(os.name == "nt", reason="Windows locks nothing")
@pytest.mark.parametrize(("own_folder", "left"), [(False, {".q.xml.1.partial"}), (True, set())])
def test_what_a_killed_writer_left_is_removed(own_folder, left, tmp_path):
    for name in (".p.xml.1.partial", ".q.xml.1.partial", ".p.xml.2.partial", ".p.xml", "p.partial"):
        (tmp_path / name).write_bytes(b"half")
    (tmp_path / ".p.xml.3.partial").symlink_to(tmp_path / "p.partial")

    with (tmp_path / ".p.xml.2.partial").open("rb") as written_now:
        lock(written_now.fileno())
        write_whole(tmp_path / "p.xml", b"all", own_folder=own_folder)

    kept = {".p.xml.2.partial", ".p.xml.3.partial", ".p.xml", "p.partial", "p.xml"}
    assert {path.name for path in tmp_path.iterdir()} == kept | left
    assert (tmp_path / "p.xml").read_bytes() == b"all"


def test_a_file_has_the_usual_permissions(tmp_path):
    (tmp_path / "usual").write_bytes(b"")
    write_whole(tmp_path / "p.xml", b"")

    assert (tmp_path / "p.xml").stat().st_mode == (tmp_path / "usual").stat().st_mode


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_the_error_of_a_full_disk_names_what_was_written(tmp_path):
    with (
        pytest.raises(OSError, match="No space left") as raised,
        unfinished_folder(tmp_path / "out"),
        Path("/dev/full").open("wb", buffering=0) as full,
    ):
        full.write(b"x")

    assert (raised.value.errno, raised.value.filename) == (errno.ENOSPC, str(tmp_path / "out"))
    assert not list(tmp_path.iterdir())
