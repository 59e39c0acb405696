"""Providers that come as plugins, in packages of their own."""

import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import onnxruntime
import pytest

import runtime
from runtime.engine import plugins
from runtime.engine.session import open_session
from runtime.verify import verify

PLUGIN = "onnxruntime_ep_openvino"


@pytest.fixture(scope="module")
def openvino() -> None:
    """Skip where the plugin is not installed, or does not support this processor."""
    if find_spec(PLUGIN) is None:
        pytest.skip("OpenVINO was not run: needs onnxruntime-ep-openvino")
    try:
        plugins.plugin_devices("openvino", onnxruntime)
    except runtime.DeviceError as error:
        pytest.skip(f"OpenVINO was not run: {error}")


@pytest.mark.usefixtures("openvino")
def test_openvino_gives_the_golden_answers(tiny):
    """On the device in every node, or the session would not have opened."""
    verification = verify(tiny, device="openvino")

    assert verification.device == "openvino"
    assert verification.passed, verification


@pytest.mark.usefixtures("openvino")
@pytest.mark.parametrize("batch", [1, 3, 7])
def test_openvino_computes_in_full_precision_whatever_the_batch(tiny, batch):
    pixels = np.random.default_rng(0).integers(0, 256, (batch, 32, 32, 3), np.uint8)
    on_cpu, on_openvino = (
        open_session(tiny / "network.onnx", device=device).run({"pixels": pixels})["probabilities"]
        for device in ("cpu", "openvino")
    )

    assert np.abs(on_cpu - on_openvino).max() < 1e-6


@pytest.mark.usefixtures("openvino")
def test_geometry_that_openvino_gets_wrong_is_refused(tiny):
    with pytest.raises(runtime.DeviceError, match=r"'.*model\.onnx' has If, with which .*Pass --device cpu\."):
        open_session(tiny / "model.onnx", device="openvino")


def test_a_plugin_that_does_not_load_is_named_with_its_remedy(tiny, tmp_path):
    """A damaged installation, in a process of its own: a library that is none, given to the real onnxruntime."""
    folder = tmp_path / PLUGIN
    folder.mkdir()
    (folder / "library.so").write_bytes(b"no library")
    (folder / "__init__.py").write_text(f"def get_library_path():\n    return {str(folder / 'library.so')!r}\n")
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import runtime\n"
        f"try: runtime.load({str(tiny)!r}, device='openvino')\n"
        "except runtime.DeviceError as error: print(error)"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)

    assert done.stdout.startswith("device 'openvino': its plugin does not load: "), done.stdout
    assert "library.so" in done.stdout
    assert done.stdout.endswith("pip install --force-reinstall 'onnxruntime-ep-openvino', or pass --device cpu.\n")
