"""A folder gives the files that training's loaders read, and says what it leaves out."""

import glob
import os
from pathlib import Path

import pytest

from runtime.inputs.folders import LINK_ABOVE, LeftOut, match_pattern, walk_folder
from runtime.inputs.image.source import FORMAT


def walk(folder: Path, suffixes=FORMAT.suffixes):
    left_out = LeftOut()
    return list(walk_folder(str(folder), suffixes, left_out)), left_out


def test_what_torchvision_reads_is_read(tmp_path):
    """Names of every suffix on its list, in upper case as well, and folders behind links."""
    training = pytest.importorskip("torchvision.datasets.folder")
    store, data = tmp_path / "store" / "dogs", tmp_path / "set"
    (data / "cats").mkdir(parents=True)
    store.mkdir(parents=True)
    (data / "dogs").symlink_to(store)
    for suffix in training.IMG_EXTENSIONS:
        (data / "cats" / f"a{suffix}").write_bytes(b"")
        (store / f"B{suffix.upper()}").write_bytes(b"")
    (data / "cats" / "notes.txt").write_bytes(b"")

    found, left_out = walk(data)

    assert set(found) == {path for path, _ in training.ImageFolder(str(data)).samples}
    assert dict(left_out.counts) == {".txt files": 1}


def test_what_is_left_out_is_counted_by_reason_with_the_first_of_each(tmp_path):
    for name in ("a.heic", "b.heic", "0a1b2c", "c.jpg"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "loop").symlink_to(tmp_path)

    found, left_out = walk(tmp_path)

    assert found == [f"{tmp_path}/c.jpg"]
    assert str(left_out) == (
        f"4 left out. .heic files: 2, such as '{tmp_path}/a.heic'; files without a suffix: 1, such as "
        f"'{tmp_path}/0a1b2c'; links to a folder above them: 1, such as '{tmp_path}/loop'"
    )
    assert not LeftOut()


def test_folders_as_deep_as_a_path_may_be_are_searched(tmp_path, monkeypatch):
    depth = 1200
    monkeypatch.chdir(tmp_path)
    for _ in range(depth):
        Path("d").mkdir()
        os.chdir("d")
    Path("a.jpg").write_bytes(b"")
    try:
        assert len(walk(tmp_path)[0]) == 1
    finally:  # pytest's own removal is recursive
        Path("a.jpg").unlink()
        for _ in range(depth):
            os.chdir("..")
            Path("d").rmdir()


def test_a_folder_that_cannot_be_read_is_an_error_in_its_place(tmp_path, monkeypatch):
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.jpg").write_bytes(b"")
    scandir = os.scandir

    def refuse(path):
        if path.endswith("/b"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    first, (path, error), last = walk(tmp_path)[0]

    assert (first, path, last) == (f"{tmp_path}/a/x.jpg", f"{tmp_path}/b", f"{tmp_path}/c/x.jpg")
    assert "cannot be read: Permission denied" in str(error)


def test_links_that_lead_to_each_other_are_files_that_cannot_be_read(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"")
    (tmp_path / "self.jpg").symlink_to("self.jpg")

    assert walk(tmp_path)[0] == [f"{tmp_path}/a.jpg", f"{tmp_path}/self.jpg"]


@pytest.mark.parametrize(
    "pattern",
    ["**", "**/*.jpg", "a/**/*.jpg", "**/b/*.jpg", "*/**", "a/**/b/**/x.jpg", "none/**", "**/.dot/*"],
)
def test_a_pattern_matches_what_globs_match(tmp_path, monkeypatch, pattern):
    for name in ("x.jpg", "a/x.jpg", "a/b/x.jpg", "a/b/c/b/x.jpg", "a/.dot/x.jpg", ".dot.jpg", "[1]/x.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    monkeypatch.chdir(tmp_path)

    for form in (pattern, f"{tmp_path}/{pattern}"):
        expected = {path for path in glob.glob(form, recursive=True) if Path(path).is_file()}  # noqa: PTH207
        assert {path for path in match_pattern(form, LeftOut()) if Path(path).is_file()} == expected


def test_a_pattern_of_any_depth_does_not_go_in_circles(tmp_path, monkeypatch):
    """Two links up would be followed in every order, 2**40 times: globs alone never end."""
    monkeypatch.chdir(tmp_path)
    Path("a").mkdir()
    Path("a/x.jpg").write_bytes(b"")
    for name in ("one", "two", "three"):
        (tmp_path / "a" / name).symlink_to(tmp_path)
    left_out = LeftOut()

    assert list(match_pattern("**/*.jpg", left_out)) == ["a/x.jpg"]
    assert left_out.counts == {LINK_ABOVE: 3}
