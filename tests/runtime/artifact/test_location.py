"""What people pass instead of an artifact's folder says what to pass."""

import shutil
from pathlib import Path

import pytest

import runtime
from runtime.artifact.open import open_artifact


def test_a_file_url_is_its_folder(tiny, tmp_path):
    shutil.copytree(tiny, tmp_path / "two words")
    url = (tmp_path / "two words").as_uri()

    assert "%20" in url
    for form in (url, Path(url), f"file://{tmp_path}/two words"):
        assert open_artifact(form).path == tmp_path / "two words"


def test_what_is_no_folder_says_what_to_pass(tiny, tmp_path):
    shutil.make_archive(str(tmp_path / "packed"), "zip", tiny)
    shutil.make_archive(str(tmp_path / "packed"), "gztar", tiny)
    (tmp_path / "text").write_text("x")

    for path, problem in (
        (tmp_path / "packed.zip", "an archive: .* Unpack it"),
        (tmp_path / "packed.tar.gz", "an archive: .* Unpack it"),
        (tiny / "model.onnx", f"a file of an artifact: expected its folder. Pass '{tiny}'"),
        (tiny / "truecopy.json", f"Pass '{tiny}'"),
        (tmp_path / "text", "not a folder"),
        ("https://a.example/model", "is a URL: .* Download it"),
        (Path("s3://bucket/model"), "is a URL: .* Download it"),
    ):
        with pytest.raises(runtime.ArtifactError, match=problem):
            open_artifact(path)


@pytest.mark.parametrize("name", ["tiny", "snapshots/abc"])
def test_a_folder_with_an_artifact_in_it_names_that(tiny, tmp_path, name):
    shutil.copytree(tiny, tmp_path / name)

    with pytest.raises(runtime.ArtifactError, match=f"such as '{tmp_path / name}'"):
        open_artifact(tmp_path)


@pytest.mark.parametrize("name", ["truecopy.json", "weights.bin"])
def test_a_pointer_of_git_lfs_is_named(copy, name):
    (copy / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")

    with pytest.raises(runtime.ArtifactError, match=r"a Git LFS pointer, .* Run 'git lfs pull'"):
        runtime.load(copy)


def test_a_file_without_permission_is_not_a_damaged_artifact(copy, monkeypatch):
    opened = Path.open

    def refuse(path, *arguments, **options):
        if path.name == "weights.bin":
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, *arguments, **options)

    monkeypatch.setattr(Path, "open", refuse)

    with pytest.raises(runtime.ArtifactError, match=r"cannot be read: Permission denied of '.*weights.bin'. Change"):
        runtime.load(copy)
