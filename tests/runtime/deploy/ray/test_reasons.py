"""What a person is told when something within a Ray cluster fails: Ray's own exceptions, in one sentence each."""

from pathlib import Path

import pytest

pytest.importorskip("ray", reason="the extra 'ray' is not installed")

import ray
from ray import exceptions

from runtime.deploy.ray.cluster import explain, open_cluster
from runtime.errors import ArtifactError, DeviceError, InputError

FAILURES = {
    "actor out of memory": (
        exceptions.OutOfMemoryError("Task was killed due to the node running low on memory."),
        "a worker ran out of memory",
        "Use fewer --workers",
    ),
    "full object store": (exceptions.ObjectStoreFullError(), "the object store is full", "--object-store-memory"),
    "full disk": (exceptions.OutOfDiskError(), "the object store is full, and so is the disk", "Free space"),
    "lost node": (exceptions.NodeDiedError("The node died."), "a node was lost", "ray status"),
    "died actor": (exceptions.ActorDiedError(), "a worker died", "Ray's logs"),
    "crashed worker": (exceptions.WorkerCrashedError(), "a worker died", "Ray's logs"),
    "no room": (exceptions.ActorUnschedulableError("no node"), "no node can take a worker", "fewer --workers"),
    "environment": (
        exceptions.RuntimeEnvSetupError("pip failed"),
        "a worker's environment could not be set up",
        "runtime_env",
    ),
    "gone": (exceptions.RaySystemError("Failed to connect to GCS."), "the cluster is gone", "Start it again."),
}


@pytest.mark.parametrize("name", FAILURES)
@pytest.mark.parametrize("wrapped", [False, True], ids=["itself", "as a cause"])
def test_a_failure_of_the_cluster_is_one_sentence_and_what_to_do(name, wrapped):
    error, problem, fix = FAILURES[name]
    if wrapped:  # as Ray Data has it: the cause of a task's failure
        error = exceptions.RayTaskError("predict", "Traceback ...", error)

    reason = explain(error)

    assert isinstance(reason, DeviceError)
    assert str(reason).startswith(f"--engine ray: {problem}"), reason
    assert fix in str(reason)
    assert ", which stopped the run. " in str(reason)
    assert "\n" not in str(reason)


def test_an_actor_that_died_of_memory_is_told_from_one_that_died():
    error = exceptions.ActorDiedError()
    error.__cause__ = exceptions.OutOfMemoryError("Task was killed due to the node running low on memory.")

    assert "ran out of memory" in str(explain(error))


@pytest.mark.parametrize(
    "own", [InputError("'a.jpg': wrong."), ArtifactError("'tiny': damaged.")], ids=["input", "artifact"]
)
def test_an_error_of_ours_on_a_node_comes_back_as_it_was(own):
    reason = explain(exceptions.RayTaskError("predict", "Traceback ...", own))

    assert (type(reason), str(reason)) == (type(own), str(own))


def test_anything_else_is_named_by_its_last_line():
    assert "the cluster failed: what nobody knew." in str(explain(RuntimeError("first\nwhat nobody knew")))


def test_a_ray_that_does_not_start_here_is_one_sentence_and_leaves_no_folder(monkeypatch, tmp_path):
    """What Ray does on a machine so busy that its node needs more than 30 seconds: it raises a bare Exception."""

    def init(**_: object) -> None:
        raise Exception("The current node timed out during startup. This could happen because ...")

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr("tempfile.tempdir", "/tmp")  # noqa: S108
    before = set(Path("/tmp").glob("truecopy-ray-*"))  # noqa: S108
    with (
        pytest.raises(DeviceError, match=r"Ray does not start on this machine: The current node timed out"),
        open_cluster(None, cores=1),
    ):
        pass
    assert set(Path("/tmp").glob("truecopy-ray-*")) == before  # noqa: S108
