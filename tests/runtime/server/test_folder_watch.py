"""A change of an artifact's folder is noticed once, whatever copies it and however alike the files are."""

import os
import shutil

import pytest

pytest.importorskip("uvicorn")

from runtime.server.folder_watch import FolderWatch
from runtime.server.served_model import load_verified


def settles(watch):
    return [watch.has_settled() for _ in range(3)].count(True)


def test_nothing_settles_where_nothing_changes(copy):
    assert settles(FolderWatch(copy)) == 0


@pytest.mark.parametrize("name", ["truecopy.json", "weights.bin"])
def test_a_file_overwritten_by_one_of_its_size_and_time_is_a_change(copy, name):
    """As 'rsync --archive --inplace' and 'cp --preserve' do it, with files of a reproducible archive."""
    path = copy / name
    status = path.stat()
    watch = FolderWatch(copy)
    with path.open("r+b") as stream:
        stream.write(path.read_bytes())
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))

    assert settles(watch) == 1


def test_a_folder_that_lacks_a_file_has_not_settled(copy):
    watch = FolderWatch(copy)
    (copy / "weights.bin").rename(copy / "weights.bin.new")
    assert settles(watch) == 0
    (copy / "weights.bin.new").rename(copy / "weights.bin")

    assert settles(watch) == 1


def test_what_changed_while_the_artifact_was_loaded_is_noticed(copy, monkeypatch):
    def replaced(path):
        opened = opening(path)
        shutil.copy2(copy / "labels.txt", copy / "labels.new")
        (copy / "labels.new").rename(copy / "labels.txt")
        return opened

    from runtime.server import served_model

    opening = served_model.open_artifact
    monkeypatch.setattr(served_model, "open_artifact", replaced)
    served = load_verified(copy, name="", device="cpu", cores=1, max_pixels=10**7)

    assert settles(served.watch) == 1
