"""The doctor says what is missing, and is wrong about nothing that is there."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import runtime
from runtime.doctor import diagnose, probe_model
from runtime.engine.session import open_session
from runtime.geometry import native
from runtime.inputs.image import jpeg

HAS_GPU = Path("/dev/nvidiactl").exists()


def findings(*arguments, **options):
    return {finding.subject: finding for finding in diagnose(*arguments, **options).findings}


def test_the_probe_is_a_graph_that_computes():
    values = np.array([[1, 2], [3, 4]], np.float32)

    assert np.array_equal(open_session(probe_model()).run({"x": values})["y"], values @ values)


def test_here_the_cpu_is_usable_and_all_is_well(tiny):
    found = findings(tiny)

    assert found["device cpu"].verdict == "good"
    assert "equal to the eager model's" in found[str(tiny)].detail
    assert "by affinity and CPU quota" in found["cores"].detail
    assert "GB available" in found["memory"].detail
    assert diagnose(tiny).healthy


def test_it_names_the_decoder_and_the_kernel_in_use_and_why_not_the_fast_ones(monkeypatch):
    kernel, decoder = native.find_kernel(), jpeg.find_jpeg_decoder()
    here = findings()
    assert here["resize and crop"].verdict == ("good" if kernel.module else "note")
    assert (f"native kernel {kernel.version}" if kernel.module else kernel.reason) in here["resize and crop"].detail
    assert here["JPEG decoder"].verdict == ("good" if kernel.module and decoder.decode else "note")

    monkeypatch.setattr(native, "_kernel", native.Kernel(reason="version 9 failed its self-check: other pixels"))
    monkeypatch.setattr(jpeg, "_decoder", jpeg.JpegDecoder(decode=lambda *_: None))
    failed = findings()
    assert failed["resize and crop"].verdict == "note"
    assert "truecopy-kernels: version 9 failed its self-check: other pixels" in failed["resize and crop"].detail
    assert "not used without the native kernel" in failed["JPEG decoder"].detail

    monkeypatch.setattr(native, "_kernel", native.Kernel(module=native, version="9", path="avx2"))
    monkeypatch.setattr(jpeg, "_decoder", jpeg.JpegDecoder(reason="simplejpeg: not installed: pip"))
    missing = findings()
    assert missing["resize and crop"].detail == "native kernel 9 (avx2)"
    assert "slower. simplejpeg: not installed: pip" in missing["JPEG decoder"].detail


@pytest.mark.skipif(HAS_GPU, reason="this machine has a GPU, on which CUDA may well work")
def test_a_device_that_cannot_be_used_is_a_note_unless_it_is_asked_for(tiny):
    noted, asked = findings(), findings(device="cuda")

    assert noted["device cuda"].verdict == "note"
    assert any(remedy in noted["device cuda"].detail for remedy in ("pip install", "NVIDIA driver"))
    assert asked["device cuda"].verdict == "bad"
    assert findings(tiny, device="cuda")[str(tiny)].verdict == "bad"


def test_a_damaged_artifact_is_found(copy):
    with (copy / "weights.bin").open("r+b") as stream:
        stream.write(b"\xff")

    assert "damaged" in findings(copy)[str(copy)].detail
    assert not diagnose(copy).healthy


def test_an_artifact_that_needs_more_memory_than_there_is_is_found(tiny, monkeypatch):
    monkeypatch.setattr("runtime.doctor.memory_bytes", lambda: 50 * 2**20)

    bad = [finding.detail for finding in diagnose(tiny).findings if finding.verdict == "bad"]

    assert len(bad) == 1
    assert "needs about 0.15 GB of memory, 0.05 GB are available" in bad[0]


def test_a_device_that_is_none_is_an_error():
    with pytest.raises(runtime.DeviceError, match="unknown"):
        diagnose(device="gpu")


def test_the_command_exits_by_what_it_found(tiny, copy):
    command = [sys.executable, "-m", "truecopy", "doctor"]
    (copy / "labels.txt").unlink()

    good = subprocess.run([*command, str(tiny), "--json"], capture_output=True, text=True, check=False, timeout=60)
    bad = subprocess.run([*command, str(copy)], capture_output=True, text=True, check=False, timeout=60)

    assert good.returncode == 0, good.stderr
    assert {"subject", "verdict", "detail"} == set(json.loads(good.stdout)["findings"][0])
    assert bad.returncode == 1
    assert "missing" in bad.stdout
    assert bad.stderr.startswith("error: ")
