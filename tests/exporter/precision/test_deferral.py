"""int8+fp32: rows that are too close to call run again in fp32, alone, in batches and in the server."""

import asyncio
import json
import pickle
import re
import runpy
import shutil
import sys
from pathlib import Path
from types import ModuleType

import httpx
import msgspec
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import truecopy
from exporter.precision.deferral import largest_flipped_margin, measure_deferral
from exporter.recheck import _variant_rows
from runtime.artifact.open import open_artifact
from runtime.bench import measure_model
from runtime.cli.main import build_app
from runtime.engine.deferral import DeferralRule
from runtime.errors import ArtifactError, InputError
from runtime.manifest import Deferral, manifest_from_json, struct_to_json
from runtime.outputs.registry import open_interpreter
from runtime.server.access_log import AccessLog
from runtime.server.auth import BearerAuth
from runtime.server.http.app import HttpApp
from runtime.server.limits import Limits
from runtime.server.served_model import load_verified
from runtime.server.service import Service
from runtime.verify import verify

pytestmark = pytest.mark.filterwarnings("ignore:.*no fast int8 instructions")

PAIR = "int8+fp32"


def with_deferral(artifact: Path, folder: Path, **changes: float) -> Path:
    """Copy an artifact with an offered deferral, and with what a test wants different of it."""
    shutil.copytree(artifact, folder)
    path = folder / "truecopy.json"
    manifest = manifest_from_json(path.read_bytes(), subject="")
    full, own = manifest.variants
    changed = msgspec.structs.replace(own.approximation.deferral, **{"speed": 1.15, "flips": 0, **changes})
    own = msgspec.structs.replace(own, approximation=msgspec.structs.replace(own.approximation, deferral=changed))
    path.write_bytes(struct_to_json(msgspec.structs.replace(manifest, variants=(full, own))))
    return folder


@pytest.fixture(scope="session")
def sources(crops: Path) -> list[Path]:
    return sorted(crops.rglob("*.png"))[::3]


@pytest.fixture(scope="session")
def margins(quantized, sources) -> list[float]:
    """The margins of int8 on the photos."""
    with truecopy.load(quantized, precision="int8") as model:
        tops = [result.top for result in model.predict(sources)]
    return [top[0].probability - top[1].probability for top in tops]


@pytest.fixture(scope="session")
def pair(quantized, margins, tmp_path_factory) -> Path:
    """The artifact with a limit that half of the photos are under."""
    limit = float(np.median(margins))
    return with_deferral(quantized, tmp_path_factory.mktemp("pair") / "tiny", limit=limit)


@pytest.fixture(scope="session")
def rows(pair, sources) -> dict[str, list[dict]]:
    """The rows of all photos by precision, one photo at a time."""
    by_precision = {}
    for precision in ("fp32", "int8", PAIR):
        with truecopy.load(pair, precision=precision, device="cpu") as model:
            by_precision[precision] = [model.predict(source).to_dict() for source in sources]
    return by_precision


def test_only_rows_under_the_limit_run_again_and_each_says_in_what(rows, margins):
    limit = float(np.median(margins))
    for row, full, own, margin in zip(rows[PAIR], rows["fp32"], rows["int8"], margins, strict=True):
        assert "precision" not in full
        assert own["precision"] == "int8"
        assert row == ({**full, "precision": "fp32"} if margin < limit else own)
    assert {row["precision"] for row in rows[PAIR]} == {"int8", "fp32"}


def test_batches_defer_the_same_rows(pair, sources, rows):
    with truecopy.load(pair, precision=PAIR, batch=5, threads=1) as model:
        batched = [result.to_dict() for result in model.predict(sources)]
        again = [row["precision"] for row in batched]
        assert model.stats == {"int8": again.count("int8"), "fp32": again.count("fp32")}
        copied = pickle.loads(pickle.dumps(model))  # noqa: S301
    assert again == [row["precision"] for row in rows[PAIR]]
    assert [row["label"] for row in batched] == [row["label"] for row in rows[PAIR]]
    assert copied.precision == PAIR


def test_arrays_of_either_graph_defer_as_well(pair, sources, rows):
    with truecopy.load(pair, precision=PAIR, threads=1) as model:
        for source, row in zip(sources, rows[PAIR], strict=True):
            raw = model.run({"image": np.asarray(Image.open(source).convert("RGB"))[np.newaxis]})
            prepared = model.run(model.stack([model.prepare(source)]))
            for outputs in (raw, prepared):
                assert outputs["probabilities"].max() == pytest.approx(row["probability"], abs=1e-5)


def test_other_precisions_count_nothing(pair, sources):
    with truecopy.load(pair) as model:
        model.predict(sources[0])
        assert model.stats == {}


def test_verify_knows_which_golden_input_runs_in_what(pair, tmp_path, margins):
    verified = verify(pair, precision=PAIR)

    assert verified.passed
    assert verified.precision == PAIR
    assert {"deferral", "network", "model.int8.onnx"} <= {check.name for check in verified.checks}


def test_parity_has_a_case_of_each_precision(pair):
    paths = {row.path for row in _variant_rows(open_artifact(pair))}

    assert paths == {"golden.int8.npz", "golden.int8.npz, int8+fp32"}


def test_a_limit_that_is_not_kept_is_found_by_verify(pair, monkeypatch):
    monkeypatch.setattr(DeferralRule, "applies", lambda self, outputs: self.margins(outputs[self.output]) >= self.limit)

    failed = [check.name for check in verify(pair, precision=PAIR).checks if not check.passed]

    assert "deferral" in failed


def test_thresholds_are_those_that_were_measured(pair, sources):
    with (
        truecopy.load(pair, precision=PAIR) as model,
        pytest.raises(InputError, match=r"threshold: expected none with precision 'int8\+fp32', got 0\.5"),
    ):
        model.predict(sources[0], threshold=0.5)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"speed": 0.0}, "the pair was less than 1.15 times as fast as fp32 alone. Use precision int8 or fp32"),
        ({"flips": 2}, "2 had another label even so"),
    ],
)
def test_a_pair_that_is_not_worth_it_is_refused_with_the_numbers(quantized, tmp_path, changes, problem):
    folder = with_deferral(quantized, tmp_path / "slow", **changes)

    with pytest.raises(ArtifactError, match=rf"precision 'int8\+fp32' is not offered: .* ran again in fp32.*{problem}"):
        truecopy.load(folder, precision=PAIR)
    with pytest.raises(ArtifactError, match=r"it has fp32, int8\. Name"):
        truecopy.load(folder, precision="fp16+fp32")


def test_a_precision_that_is_there_without_a_pair_is_not_offered_again(pair, tmp_path):
    folder = tmp_path / "alone"
    shutil.copytree(pair, folder)
    path = folder / "truecopy.json"
    manifest = manifest_from_json(path.read_bytes(), subject="")
    full, own = manifest.variants
    alone = msgspec.structs.replace(own, approximation=msgspec.structs.replace(own.approximation, deferral=None))
    path.write_bytes(struct_to_json(msgspec.structs.replace(manifest, variants=(full, alone))))

    with pytest.raises(ArtifactError, match=r"no precision 'int8\+fp32' .* it has fp32, int8\. Name one of these\.$"):
        truecopy.load(folder, precision=PAIR)


def test_an_offered_pair_is_among_the_precisions_that_are_named(pair):
    with pytest.raises(ArtifactError, match=r"it has fp32, int8, int8\+fp32\. Name"):
        truecopy.load(pair, precision="bf16")


def test_the_commands_show_it(pair, sources, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    run = CliRunner().invoke
    photos = [str(source) for source in sources]

    table = run(build_app({"predict"}), ["predict", str(pair), *photos, "--precision", PAIR])
    assert "precision" in table.stdout.splitlines()[0]
    out = tmp_path / "rows.csv"
    run(build_app({"predict"}), ["predict", str(pair), *photos, "--precision", PAIR, "--out", str(out)])
    heading, *lines = out.read_text().splitlines()
    assert "precision" in heading.split(",")
    assert len(lines) == len(photos)
    assert "int8+fp32 runs" in run(build_app({"inspect"}), ["inspect", str(pair)]).output


def test_bench_shows_the_share(pair, sources):
    report = measure_model(pair, precision=PAIR, device="cpu", samples=sources, seconds=0.05)

    assert report.deferred is not None
    assert 0.2 < report.deferred < 0.8
    assert measure_model(pair, precision="int8", device="cpu", samples=sources, seconds=0.05).deferred is None


def test_the_server_defers_row_by_row_and_counts(pair, sources, rows):
    model = load_verified(pair, name="", precision=PAIR, device="cpu", cores=2, max_pixels=10**7)
    service = Service([model], limits=Limits(), workers=2)
    service.ready = service.open = True
    app = HttpApp(service, auth=BearerAuth(""), log=AccessLog("json"))

    async def post_all() -> tuple[list[dict], str]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://server") as client:
            posts = [client.post("/predict/tiny", content=source.read_bytes()) for source in sources]
            responses = await asyncio.gather(*posts)
            refused = await client.post("/predict/tiny?threshold=0.5", content=sources[0].read_bytes())
            assert refused.status_code == 400
            return [response.json()["predictions"][0] for response in responses], (await client.get("/metrics")).text

    try:
        got, metrics = asyncio.run(post_all())
    finally:
        service.close()

    assert [(row["label"], row["precision"]) for row in got] == [(row["label"], row["precision"]) for row in rows[PAIR]]
    for precision in ("int8", "fp32"):
        count = sum(row["precision"] == precision for row in got)
        assert f'truecopy_rows_total{{model="tiny",precision="{precision}"}} {count}.0' in metrics


@pytest.mark.parametrize(
    ("engine", "file", "text"),
    [
        ("kserve", "runtime.yaml", '"--precision","int8+fp32"'),
        ("container", "Dockerfile", '"--precision","int8+fp32"'),
        ("ray-serve", "serve.yaml", "    precision: int8+fp32\n"),
        ("triton", "python/tiny/config.pbtxt", 'key: "precision" value { string_value: "int8+fp32" }'),
    ],
)
def test_a_deployment_serves_it(pair, tiny, tmp_path, engine, file, text):
    run = CliRunner().invoke

    written = run(
        build_app({"deploy"}), ["deploy", engine, str(pair), "--out", str(tmp_path / "o"), "--precision", PAIR]
    )
    assert written.exit_code == 0, written.output
    assert text in (tmp_path / "o" / file).read_text()
    assert not (tmp_path / "o" / "onnxruntime").exists()  # a pair is no graph
    lacks = run(
        build_app({"deploy"}), ["deploy", engine, str(tiny), "--out", str(tmp_path / "no"), "--precision", PAIR]
    )
    assert "it has fp32. Name" in str(lacks.exception)


def test_tritons_python_backend_loads_the_precision(pair, sources, tmp_path, monkeypatch):
    CliRunner().invoke(
        build_app({"deploy"}), ["deploy", "triton", str(pair), "--out", str(tmp_path / "o"), "--precision", PAIR]
    )
    repository = tmp_path / "o" / "python" / "tiny"
    written = runpy.run_path(str(repository / "1" / "model.py"))
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", ModuleType("triton_python_backend_utils"))
    found = re.findall(r'key: "(\w+)" value { string_value: "([^"]+)" }', (repository / "config.pbtxt").read_text())
    parameters = {name: {"string_value": value} for name, value in found}
    model = written["TritonPythonModel"]()

    model.initialize(
        {
            "model_config": json.dumps({"parameters": parameters}),
            "model_repository": str(repository),
            "model_version": "1",
            "model_name": "tiny",
        }
    )

    try:
        assert model._model.precision == PAIR
        assert model._model.predict(sources[0]).precision in {"int8", "fp32"}
    finally:
        model.finalize()


def test_triton_has_the_graphs_of_the_variant(pair, tmp_path):
    run = CliRunner().invoke

    run(build_app({"deploy"}), ["deploy", "triton", str(pair), "--out", str(tmp_path / "o"), "--precision", "int8"])

    folder = tmp_path / "o" / "onnxruntime"
    assert sorted(path.name for path in folder.iterdir()) == ["tiny_model_int8", "tiny_network_int8"]
    assert (folder / "tiny_network_int8" / "1" / "weights.int8.bin").exists()


def scores(*rows: tuple[float, float]) -> list[dict[str, np.ndarray]]:
    return [{"probabilities": np.array([[*row, 0.0, 0.0]], np.float32)} for row in rows]


def test_the_limit_is_the_largest_margin_of_a_flip_and_never_nothing(tiny):
    manifest = open_artifact(tiny).manifest
    full = scores((0.9, 0.1), (0.45, 0.55), (0.7, 0.3))

    assert largest_flipped_margin(full, scores((0.9, 0.1), (0.55, 0.45), (0.4, 0.6)), manifest) == pytest.approx(0.2)
    # No label flips: what margins differ by on average is left.
    assert largest_flipped_margin(full, scores((0.9, 0.1), (0.45, 0.55), (0.6, 0.4)), manifest) == pytest.approx(
        0.2 / 3
    )


def test_what_is_measured_of_a_limit_are_the_share_the_flips_and_the_speed(tiny):
    manifest = open_artifact(tiny).manifest
    full = scores((0.9, 0.1), (0.45, 0.55), (0.7, 0.3), (0.9, 0.1))
    own = scores((0.9, 0.1), (0.55, 0.45), (0.35, 0.65), (0.9, 0.1))

    def measure(margin: float, own_s: float) -> Deferral:
        return measure_deferral(full, own, manifest, largest_margin=margin, fp32_s=1.0, own_s=own_s)[0]

    kept = measure(0.1, own_s=0.5)
    assert (kept.limit, kept.deferred, kept.flips) == (pytest.approx(0.15), 1, 1)
    assert not kept.offered
    assert (measure(0.25, own_s=0.3).deferred, measure(0.25, own_s=0.3).flips) == (2, 0)
    assert measure(0.25, own_s=0.3).offered  # 1 / (0.3 + 0.5)
    assert measure(0.25, own_s=0.3).risk == pytest.approx(0.75)
    assert not measure(0.25, own_s=0.4).offered  # 1.11 times as fast


def test_margins_are_those_of_each_task(tiny):
    classify = open_interpreter(open_artifact(tiny).manifest.task)
    assert classify.margins(np.array([[0.5, 0.2, 0.3], [0.1, 0.8, 0.1]])) == pytest.approx([0.2, 0.7])


def test_scores_that_are_no_numbers_run_again():
    rule = DeferralRule(output="scores", limit=0.1, margins=lambda rows: rows[:, 0])
    assert rule.applies({"scores": np.array([[np.nan], [0.2], [0.05]])}).tolist() == [True, False, True]
