"""A named device is a contract: the session is on it, or there is no session."""

from pathlib import Path

import onnxruntime
import pytest

import runtime
from runtime import cores

HAS_GPU = Path("/dev/nvidiactl").exists()
HAS_CUDA_PROVIDER = "CUDAExecutionProvider" in onnxruntime.get_available_providers()


@pytest.mark.skipif(HAS_GPU, reason="this machine has a GPU, on which CUDA may well work")
def test_cuda_without_a_gpu_is_an_error_and_not_a_slow_success(tiny, capfd):
    """onnxruntime-gpu lists CUDA as available here, and would quietly run on the CPU."""
    expected = "fell back to the CPU" if HAS_CUDA_PROVIDER else r"pip install 'truecopy\[cuda\]'"

    with pytest.raises(runtime.DeviceError, match=expected):
        runtime.load(tiny, device="cuda")
    assert capfd.readouterr().err == "", "the error says it all"


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
    with pytest.raises(runtime.DeviceError, match="expected 'auto', 'cpu', 'cuda' or 'cuda:N'"):
        runtime.load(tiny, device=device)


@pytest.mark.parametrize(
    ("quota", "expected"), [("max 100000", 4), ("150000 100000", 2), ("10000 100000", 1), ("?", 4)]
)
def test_a_containers_quota_bounds_the_threads(tmp_path, monkeypatch, quota, expected):
    (tmp_path / "cpu.max").write_text(quota + "\n")
    monkeypatch.setattr(cores, "_CGROUP_V2", tmp_path / "cpu.max")
    monkeypatch.setattr(cores.os, "sched_getaffinity", lambda _: {0, 1, 2, 3})

    assert cores.usable_cores() == expected
