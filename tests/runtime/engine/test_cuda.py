"""On a real CUDA device: everything runs there, in the arithmetic that was asked for, or nothing does."""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from support.serving import serving

import runtime
from runtime.doctor import diagnose
from runtime.engine.devices import DeviceOptions
from runtime.engine.session import open_session
from runtime.verify import verify

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not Path("/dev/nvidiactl").exists(), reason="needs a CUDA device"),
]

GRAPHS = Path(__file__).parents[2] / "data" / "graphs"

# TF32 rounds factors to 10 bits of mantissa, 5e-4 of their size; float32 to 23, 6e-8.
STRICT, ROUNDED = 1e-5, 1e-4


@pytest.fixture(scope="module")
def sums(tmp_path_factory):
    """Inputs of a product of matrices and of a convolution, long sums both, and the answers in float64."""
    folder, generator = tmp_path_factory.mktemp("sums"), np.random.default_rng(0)
    x, w = (generator.standard_normal((512, 512), np.float32) for _ in range(2))
    np.savez(folder / "matmul.npz", x=x, w=w, y=x.astype(np.float64) @ w)
    x = generator.standard_normal((4, 64, 24, 24), np.float32)
    w = generator.standard_normal((64, 64, 3, 3), np.float32)
    windows = np.lib.stride_tricks.sliding_window_view(x.astype(np.float64), (3, 3), axis=(2, 3))
    np.savez(folder / "conv.npz", x=x, w=w, y=np.einsum("bchwij,ocij->bohw", windows, w, optimize=True))
    return folder


CODE = """
import json, sys
import numpy as np
from pathlib import Path
from runtime.engine.devices import DeviceOptions
from runtime.engine.session import open_session

graphs, sums, *modes = sys.argv[1:]
errors = []
sessions = [
    (name, open_session(Path(graphs, f"{name}.onnx"), device="cuda", options=DeviceOptions(tf32=mode == "tf32")))
    for mode in modes for name in ("matmul", "conv")
]
for name, session in sessions:
    case = np.load(Path(sums, f"{name}.npz"))
    difference = session.run({"x": case["x"], "w": case["w"]})["y"] - case["y"]
    errors.append(float(np.sqrt((difference**2).mean() / (case["y"] ** 2).mean())))
print(json.dumps(errors))
"""


@pytest.mark.parametrize("modes", [["strict"], ["tf32"], ["tf32", "strict"], ["strict", "tf32"]])
def test_each_session_has_the_arithmetic_it_was_asked_for(sums, modes):
    """Whatever the process ran before: libraries read their settings once, at their first use."""
    done = subprocess.run(
        [sys.executable, "-c", CODE, GRAPHS, sums, *modes], capture_output=True, text=True, check=False, timeout=120
    )

    assert done.returncode == 0, done.stderr
    errors = json.loads(done.stdout)
    for mode, *pair in zip(modes, errors[::2], errors[1::2], strict=True):
        for error in pair:
            assert error < STRICT if mode == "strict" else error > ROUNDED, (modes, errors)


def test_golden_answers(tiny):
    verification = verify(tiny, device="cuda")

    assert verification.device == "cuda"
    assert verification.passed, verification


def test_auto_is_cuda(tiny):
    with runtime.load(tiny) as model:
        assert model.device == "cuda"


def test_a_node_that_cuda_does_not_take_is_named_and_does_not_run_on_the_cpu():
    with pytest.raises(runtime.DeviceError, match=r"partly on the CPU: CUDAExecutionProvider does not take Det\. Pass"):
        open_session(GRAPHS / "det.onnx", device="cuda")


def test_what_is_computed_of_shapes_may_be_on_the_cpu():
    """As in torchvision's swin_v2_t: a multiplication that onnxruntime keeps there, and CUDA would have, too."""
    x, w = np.ones((2, 3), np.float32), np.eye(3, dtype=np.float32)

    assert np.array_equal(open_session(GRAPHS / "shapes.onnx", device="cuda").run({"x": x, "w": w})["y"], x + 6)


def test_a_device_that_is_not_there_is_named(tiny, capfd):
    with pytest.raises(runtime.DeviceError, match="device 'cuda:7': ") as caught:
        runtime.load(tiny, device="cuda:7")

    assert "expected a number below 1" in str(caught.value)
    assert "nvidia-smi" in str(caught.value)
    assert capfd.readouterr() == ("", ""), "the error says it all"


def test_more_than_its_memory_is_an_error_of_the_input_and_the_next_runs():
    session = open_session(GRAPHS / "conv.onnx", device="cuda", options=DeviceOptions(memory_limit_bytes=64 * 2**20))
    w = np.ones((8, 3, 3, 3), np.float32)
    few, many = ({"x": np.ones((count, 3, 256, 256), np.float32), "w": w} for count in (1, 256))
    expected = session.run(few)["y"]

    with pytest.raises(runtime.InputError, match="or fewer at once"):
        session.run(many)

    assert np.array_equal(session.run(few)["y"], expected)


def test_labels_of_photos_one_by_one_in_batches_and_from_many_threads(tiny, photos):
    paths = list(photos.values())
    with runtime.load(tiny, device="cuda") as lone, runtime.load(tiny, device="cuda", plan="throughput") as many:
        expected = list(photos) * 10
        assert [lone.predict(path).label for path in paths] == list(photos)
        assert [result.label for result in many.predict(paths * 10)] == expected
        with ThreadPoolExecutor(8) as pool:
            assert [result.label for result in pool.map(lone.predict, paths * 10)] == expected
        alone = {path: lone.predict(path).probability for path in paths}
        for path, result in zip(paths * 10, many.predict(paths * 10), strict=True):
            assert result.probability == pytest.approx(alone[path], abs=1e-5)


def test_the_graph_that_resizes_says_why_it_is_for_the_cpu(tiny, photos):
    with (
        runtime.load(tiny, device="cuda") as model,
        pytest.raises(runtime.DeviceError, match="its resize needs the CPU provider"),
    ):
        model.run({"image": np.zeros((1, 64, 64, 3), np.uint8)})


def test_the_doctor_finds_it(tiny):
    found = {finding.subject: finding.detail for finding in diagnose(tiny, device="cuda").findings}

    assert found["device cuda"] == "usable: CUDAExecutionProvider"
    assert "golden inputs on cuda: equal" in found[str(tiny)]


def test_served_answers_are_the_models(tiny, photos):
    with runtime.load(tiny, device="cuda") as model, serving(tiny, "--device", "cuda") as server:
        for path in photos.values():
            answer = server.post("/predict/tiny", path.read_bytes(), content_type="image/jpeg")
            assert answer.status == 200, answer.body
            (found,) = answer.json["predictions"]
            assert found["label"] == model.predict(path).label
            assert found["probability"] == pytest.approx(model.predict(path).probability, abs=1e-5)
