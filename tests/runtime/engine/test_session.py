"""A named device is a contract: the session is on it, or there is no session."""

import contextlib
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import onnxruntime
import pytest

import runtime
from runtime.engine import cpu as cores
from runtime.engine import session
from runtime.engine.devices import DEVICES

HAS_GPU = Path("/dev/nvidiactl").exists()
HAS_CUDA_PROVIDER = "CUDAExecutionProvider" in onnxruntime.get_available_providers()


@pytest.mark.skipif(HAS_GPU, reason="this machine has a GPU, on which CUDA may well work")
def test_cuda_without_a_gpu_is_an_error_and_not_a_slow_success(tiny, capfd):
    """onnxruntime-gpu lists CUDA as available here, and would quietly run on the CPU."""
    expected = "fell back to the CPU" if HAS_CUDA_PROVIDER else r"pip install 'truecopy\[cuda\]'"

    with pytest.raises(runtime.DeviceError, match=expected) as caught:
        runtime.load(tiny, device="cuda")
    assert capfd.readouterr() == ("", ""), "the error says it all"
    if HAS_CUDA_PROVIDER:
        assert any(remedy in str(caught.value) for remedy in ("pip install", "NVIDIA driver"))


@pytest.mark.skipif(HAS_GPU or not HAS_CUDA_PROVIDER, reason="needs onnxruntime-gpu on a machine without a GPU")
def test_auto_says_once_why_it_is_on_the_cpu(tiny):
    """A driver without a device, as in a container that was not given one: the real provider fails to start."""
    machine = msgspec.structs.replace(session.this_machine(), nvidia=True)

    with pytest.warns(UserWarning, match="device 'auto' is the CPU, although: device 'cuda'") as caught:
        opened = session.open_session(tiny / "network.onnx", machine=machine)

    assert opened.device == "cpu"
    assert len(caught) == 1


@pytest.mark.skipif(HAS_GPU or not HAS_CUDA_PROVIDER, reason="needs onnxruntime-gpu on a machine without a GPU")
def test_a_missing_cuda_library_is_named_with_the_command_that_brings_it():
    """In a process that has not loaded the nvidia wheels, as where onnxruntime-gpu alone is installed."""
    code = "from runtime.engine import session; print(session._why_not('cuda', session.this_machine()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)

    assert "the library 'libcu" in done.stdout
    assert "pip install 'onnxruntime-gpu[cuda,cudnn]'" in done.stdout


def test_a_graph_that_is_on_the_wrong_provider_is_no_success(tiny):
    """The check itself, given a real session whose nodes are all on the CPU."""
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    on_cpu = onnxruntime.InferenceSession(tiny / "network.onnx", options, providers=["CPUExecutionProvider"])

    with pytest.raises(runtime.DeviceError, match="fell back to the CPU"):
        session._check_placement(on_cpu, tiny, "cuda", session.this_machine())


def test_operators_that_a_provider_gets_wrong_are_refused_before_the_first_input(tiny, monkeypatch):
    """A real session of the graph with a branch, as if its provider were one that cannot be trusted with it."""
    distrusted = msgspec.structs.replace(DEVICES["cpu"], wrong_operators=("If", "Loop"))
    monkeypatch.setitem(DEVICES, "cpu", distrusted)
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    for name in ("network.onnx", "model.onnx"):
        opened = onnxruntime.InferenceSession(tiny / name, options, providers=["CPUExecutionProvider"])
        refused = (
            pytest.raises(runtime.DeviceError, match=r"model\.onnx' has If, Loop, with which .* computes wrong results")
            if name == "model.onnx"
            else contextlib.nullcontext()
        )
        with refused:
            session._check_placement(opened, tiny / name, "cpu", session.this_machine())


@pytest.mark.parametrize("batch", [1, 3])
def test_bound_inputs_and_outputs_give_the_same_answers(tiny, photos, batch):
    """The way that devices run, on the one device that is always there."""
    plain, bound = session.open_session(tiny / "network.onnx"), session.open_session(tiny / "network.onnx")
    bound._bound = True
    pixels = np.random.default_rng(0).integers(0, 256, (batch, 32, 32, 3), np.uint8)

    assert np.array_equal(
        plain.run({"pixels": pixels})["probabilities"], bound.run({"pixels": pixels})["probabilities"]
    )


@pytest.mark.parametrize(("name", "batches"), [("network.onnx", [1, 3]), ("model.onnx", [])])
def test_warming_up_runs_every_batch_and_leaves_unknown_lengths_alone(tiny, monkeypatch, name, batches):
    opened = session.open_session(tiny / name, device="cpu")
    run, ran = opened.run, []
    monkeypatch.setattr(opened, "run", lambda arrays: ran.append(len(run(arrays)["probabilities"])))

    opened.warm_up([3, 1, 3])

    assert ran == batches


@pytest.mark.skipif(HAS_GPU, reason="this machine has a GPU, so 'auto' takes it")
def test_auto_without_a_gpu_is_the_cpu(tiny):
    assert runtime.load(tiny).device == "cpu"


@pytest.mark.gpu
@pytest.mark.skipif(not HAS_GPU, reason="needs a CUDA device")
def test_cuda_gives_the_golden_answers(tiny):
    from runtime.verify import verify

    verification = verify(tiny, device="cuda")

    assert verification.device == "cuda"
    assert verification.passed, verification


@pytest.mark.parametrize("device", ["gpu", "cuda:x", "cpu:1", ""])
def test_an_unknown_device_is_named(tiny, device):
    with pytest.raises(runtime.DeviceError, match=r"expected 'auto', 'cpu', 'cuda', .*'cuda:N'"):
        runtime.load(tiny, device=device)


@pytest.mark.parametrize(
    ("quota", "expected"), [("max 100000", 4), ("150000 100000", 2), ("10000 100000", 1), ("?", 4)]
)
def test_a_containers_quota_bounds_the_threads(tmp_path, monkeypatch, quota, expected):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    (tmp_path / "cpu.max").write_text(quota + "\n")
    monkeypatch.setattr(cores, "_CGROUPS", tmp_path)
    monkeypatch.setattr(cores.os, "sched_getaffinity", lambda _: {0, 1, 2, 3})

    assert cores.usable_cores() == expected


def test_the_smallest_quota_above_the_process_counts(tmp_path, monkeypatch):
    """A service of four cores in a slice of two; memory likewise."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    inner = tmp_path / "slice" / "service"
    inner.mkdir(parents=True)
    (inner / "cpu.max").write_text("400000 100000")
    (inner.parent / "cpu.max").write_text("200000 100000")
    (inner / "memory.max").write_text("max")
    (inner.parent / "memory.max").write_text("5000")
    (inner.parent / "memory.current").write_text("2000")
    (tmp_path / "own").write_text("0::/slice/service\n")
    monkeypatch.setattr(cores, "_CGROUPS", tmp_path)
    monkeypatch.setattr(cores, "_OWN_CGROUP", tmp_path / "own")
    monkeypatch.setattr(cores.os, "sched_getaffinity", lambda _: set(range(8)))

    assert cores.usable_cores() == 2
    assert cores.memory_bytes() == 3000


def write_version_1(folder, *, limit, used, cached, shared):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memory.limit_in_bytes").write_text(f"{limit}\n")
    (folder / "memory.usage_in_bytes").write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"cache 1\ntotal_cache {cached}\ntotal_shmem {shared}\n")


def test_the_smallest_quota_of_nested_groups_of_version_1_counts(tmp_path, monkeypatch):
    inner = tmp_path / "pod" / "container"
    inner.mkdir(parents=True)
    for folder, quota in ((tmp_path, -1), (inner.parent, 200_000), (inner, 600_000)):
        (folder / "cpu.cfs_quota_us").write_text(f"{quota}\n")
        (folder / "cpu.cfs_period_us").write_text("100000\n")
    (tmp_path / "own").write_text("5:memory:/other\n7:cpu,cpuacct:/pod/container\n0::/\n")
    monkeypatch.setattr(cores, "_CGROUPS", tmp_path / "none")
    monkeypatch.setattr(cores, "_CGROUP_V1_CPU", tmp_path)
    monkeypatch.setattr(cores, "_OWN_CGROUP", tmp_path / "own")
    monkeypatch.setattr(cores.os, "sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)

    assert cores.usable_cores() == 2


@pytest.mark.parametrize(
    ("value", "expected"), [("1", 1), ("3,1", 3), (" 2 ", 2), ("64", 4), ("0", 4), ("", 4), ("x", 4), ("-1", 4)]
)
def test_the_threads_that_the_environment_allows_are_a_limit(tmp_path, monkeypatch, value, expected):
    monkeypatch.setattr(cores, "_CGROUPS", tmp_path)
    monkeypatch.setattr(cores, "_CGROUP_V1_CPU", tmp_path)
    monkeypatch.setattr(cores.os, "sched_getaffinity", lambda _: {0, 1, 2, 3})
    monkeypatch.setenv("OMP_NUM_THREADS", value)

    assert cores.usable_cores() == expected


def test_memory_is_that_of_the_tightest_group_of_version_1_without_what_it_caches(tmp_path, monkeypatch):
    """Nested groups, as of a container's process: the outer one is tighter. Shared memory cannot be dropped."""
    write_version_1(tmp_path, limit=1 << 62, used=0, cached=0, shared=0)
    write_version_1(tmp_path / "pod", limit=6000, used=5000, cached=2500, shared=500)
    write_version_1(tmp_path / "pod" / "container", limit=9000, used=100, cached=0, shared=0)
    (tmp_path / "own").write_text("7:cpu,cpuacct:/other\n5:memory:/pod/container\n")
    monkeypatch.setattr(cores, "_CGROUPS", tmp_path / "none")
    monkeypatch.setattr(cores, "_CGROUP_V1_MEMORY", tmp_path)
    monkeypatch.setattr(cores, "_OWN_CGROUP", tmp_path / "own")

    assert cores.memory_bytes() == 3000


def test_cached_files_are_no_used_memory_of_a_group_of_version_2(tmp_path, monkeypatch):
    (tmp_path / "memory.max").write_text("6000\n")
    (tmp_path / "memory.current").write_text("5500\n")
    (tmp_path / "memory.stat").write_text("anon 1000\nfile 4500\nshmem 500\n")
    monkeypatch.setattr(cores, "_CGROUPS", tmp_path)
    monkeypatch.setattr(cores, "_OWN_CGROUP", tmp_path / "own")

    assert cores.memory_bytes() == 4500
