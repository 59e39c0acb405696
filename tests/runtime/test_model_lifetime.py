"""A model stays the release that was loaded: after a swap, a chdir, a fork, a copy, and in other processes."""

import copy as copies
import multiprocessing
import os
import pickle
import shutil

import numpy as np
import pytest

import runtime


@pytest.fixture
def other(copy, rehash, tmp_path):
    """The next release of the artifact: other weights, under the same names."""
    target = tmp_path / "next"
    shutil.copytree(copy, target)
    weights = np.frombuffer((target / "weights.bin").read_bytes(), np.float32)
    (target / "weights.bin").write_bytes((weights * np.float32(0.5)).tobytes())
    rehash(target, "weights.bin")
    return target


@pytest.fixture
def photo(photos):
    return photos["cat"]


def everything(model, photo):
    """Return the scores of one input, of a list, which opens more sessions, and of the graph for raw inputs."""
    one = model.predict(photo).to_dict()
    many = [result.to_dict() for result in model.predict([photo] * 8)]
    raw = model.run({"image": np.full((1, 50, 60, 3), 90, np.uint8)})["probabilities"]
    return one["probability"], [row["probability"] for row in many], raw.tolist()


def replace_by_rename(artifact, other):
    artifact.rename(artifact.with_name("old"))
    other.rename(artifact)


def overwrite_weights(artifact, other):
    """As 'cp' does: the same file, cut to nothing and written again."""
    with (artifact / "weights.bin").open("wb") as stream:
        stream.write((other / "weights.bin").read_bytes())


def empty_weights(artifact, _other):
    os.truncate(artifact / "weights.bin", 0)


def remove(artifact, _other):
    shutil.rmtree(artifact)


def leave(artifact, _other):
    os.chdir(artifact.parent.parent)


@pytest.mark.parametrize("happening", [replace_by_rename, overwrite_weights, empty_weights, remove, leave])
def test_a_loaded_model_stays_what_was_verified(copy, other, photo, monkeypatch, happening):
    expected = everything(runtime.load(copy, device="cpu"), photo)
    assert everything(runtime.load(other, device="cpu"), photo) != expected
    monkeypatch.chdir(copy.parent)
    model = runtime.load(copy.name, device="cpu")

    happening(copy, other)

    assert everything(model, photo) == expected


def test_a_file_that_is_used_by_its_path_is_compared_again(copy, other):
    from runtime.artifact.open import open_artifact

    artifact = open_artifact(copy)
    artifact.file("weights.bin")
    replace_by_rename(copy, other)

    with pytest.raises(runtime.ArtifactError, match="changed while in use"):
        artifact.file("weights.bin")


def test_a_model_that_moved_its_current_folder_still_knows_that_nothing_changed(copy, monkeypatch, tmp_path):
    monkeypatch.chdir(copy.parent)
    model = runtime.load(copy.name)
    monkeypatch.chdir("/")

    model.check_unchanged()


def _send(connection, model, photo):
    connection.send(everything(model, photo))


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_another_process_gets_the_same_results_from_a_model_in_use(tiny, photo, method):
    model = runtime.load(tiny, device="cpu", workers=2)
    expected = everything(model, photo)
    context = multiprocessing.get_context(method)
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_send, args=(sender, model, photo))
    process.start()
    sender.close()
    try:
        assert receiver.poll(60), "the child waits for ever"
        assert receiver.recv() == expected
        process.join(20)
        assert process.exitcode == 0
    finally:
        process.kill()
    assert everything(model, photo) == expected


def test_a_forked_process_ends_although_it_never_used_the_model(tiny, photo):
    """Freeing the parent's sessions would wait for threads that do not exist."""
    model = runtime.load(tiny, device="cpu", workers=2)
    model.predict([photo] * 4)
    process = multiprocessing.get_context("fork").Process(target=model.close)
    process.start()
    process.join(30)

    assert process.exitcode == 0


def test_workers_of_joblib_take_a_model(tiny, photo):
    joblib = pytest.importorskip("joblib")
    model = runtime.load(tiny, device="cpu")
    predict = joblib.delayed(lambda model, photo: model.predict(photo).label)

    assert joblib.Parallel(n_jobs=2)(predict(model, photo) for _ in range(2)) == [model.predict(photo).label] * 2


def _pickled(model):
    return pickle.loads(pickle.dumps(model))  # noqa: S301  # of our own


@pytest.mark.parametrize("clone", [_pickled, copies.copy, copies.deepcopy])
def test_a_copy_is_a_model_of_its_own(tiny, photo, clone):
    model = runtime.load(tiny, device="cpu", threads=1, batch=3)
    expected = everything(model, photo)

    twin = clone(model)
    model.close()

    assert twin.plan == model.plan
    assert everything(twin, photo) == expected


def test_a_pickled_model_is_not_another_release(copy, other):
    data = pickle.dumps(runtime.load(copy))
    replace_by_rename(copy, other)

    with pytest.raises(runtime.ArtifactError, match="not the version of the model that was pickled"):
        pickle.loads(data)  # noqa: S301  # of our own
