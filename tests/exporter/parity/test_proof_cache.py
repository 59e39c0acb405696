"""Earlier proofs: found for exactly what was proven, and for nothing else."""

import os

import pytest

from exporter.parity.proof_cache import ProofCache, describe_machine, user_cache

KEY = {**describe_machine(), "path": "model.onnx", "computation": "12"}


@pytest.fixture
def cache(tmp_path):
    return ProofCache(tmp_path / "truecopy" / "proofs")


def test_a_proof_is_found_again_and_says_what_it_holds_for(cache):
    assert cache.find(KEY) is None
    cache.keep(KEY, expected="ab", inputs=72)

    proof = cache.find(KEY)

    assert (proof.expected, proof.inputs) == ("ab", 72)
    sentence = proof.describe()
    assert all(
        f"{name} {KEY[name]}" in sentence for name in ("torch", "torchvision", "Pillow", "onnxruntime", "kernel")
    )
    assert KEY["processor"] in sentence
    assert cache.notes == []


@pytest.mark.parametrize("name", KEY)
def test_no_other_version_graph_or_machine_finds_it(cache, name):
    cache.keep(KEY, expected="ab", inputs=72)

    assert cache.find({**KEY, name: KEY[name] + "0"}) is None


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b'{"key": {}, "expected": "ab"}'])
def test_a_damaged_file_is_ignored_with_one_line_and_written_again(cache, content):
    cache.keep(KEY, expected="ab", inputs=72)
    (file,) = cache._folder.iterdir()
    file.write_bytes(content)

    assert cache.find(KEY) is None
    (note,) = cache.notes
    assert note.startswith(f"'{file}': ignored: ")
    assert "\n" not in note
    cache.keep(KEY, expected="cd", inputs=72)
    assert cache.find(KEY).expected == "cd"


def test_a_file_under_another_name_is_no_proof(cache):
    cache.keep(KEY, expected="ab", inputs=72)
    (file,) = cache._folder.iterdir()
    other = {**KEY, "computation": "13"}
    file.rename(cache._path(other))

    assert cache.find(other) is None
    assert "something else" in cache.notes[0]


def test_a_folder_that_cannot_be_written_to_is_noted(tmp_path):
    (tmp_path / "file").write_text("no folder")
    cache = ProofCache(tmp_path / "file")

    cache.keep(KEY, expected="ab", inputs=72)

    assert "not written" in cache.notes[0]


def test_nothing_is_left_where_the_disk_is_full(cache, monkeypatch):
    cache.keep(KEY, expected="ab", inputs=72)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(type(cache._folder), "replace", full)
    cache.keep(KEY, expected="cd", inputs=72)

    assert cache.find(KEY).expected == "ab"
    assert len(list(cache._folder.iterdir())) == 1
    assert "No space left" in cache.notes[0]


@pytest.mark.parametrize("relative", [False, True])
def test_the_folder_is_the_users_own(monkeypatch, tmp_path, relative):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", "cache" if relative else str(tmp_path / "cache"))

    base = tmp_path / "home" / ".cache" if relative else tmp_path / "cache"
    assert os.fspath(user_cache()._folder) == os.fspath(base / "truecopy" / "proofs")
