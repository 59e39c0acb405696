"""'truecopy predict --engine ray' on real clusters of several nodes: the rows of one machine, whatever dies."""

import hashlib
import json
import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from PIL import Image
from support.commands import TRUECOPY
from support.ray_nodes import LOOPBACK, MEGABYTE, NodeBuilder, running_nodes

pytest.importorskip("ray", reason="the extra 'ray' is not installed")
pytestmark = pytest.mark.slow

COMMAND = [*TRUECOPY, "predict"]
PHOTOS = 400


@pytest.fixture(scope="module")
def folder(tmp_path_factory, photos) -> Path:
    """Photos with a damaged one in every hundred."""
    folder = tmp_path_factory.mktemp("photos")
    sources = list(photos.values())
    for number in range(PHOTOS):
        path = folder / f"{number:04}.jpg"
        if number % 100 == 50:
            path.write_bytes(b"damaged")
        else:
            path.symlink_to(sources[number % len(sources)])
    return folder


@pytest.fixture(scope="module")
def single(tiny, folder, tmp_path_factory) -> bytes:
    """The rows of one machine."""
    out = tmp_path_factory.mktemp("single") / "rows.jsonl"
    subprocess.run([*COMMAND, str(tiny), str(folder), "--out", str(out)], check=False, timeout=60, capture_output=True)
    assert out.read_bytes().count(b"\n") == PHOTOS
    return out.read_bytes()


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """The working directory of all of the cluster's processes."""
    return tmp_path_factory.mktemp("cluster")


@pytest.fixture(scope="module")
def cluster(home):
    """Two nodes of one core; the head has none, as its driver works."""
    with running_nodes(home, {"num_cpus": 0}, {}, {}) as nodes:
        yield nodes


def start(tiny, folder, *options, cwd=None) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*COMMAND, str(tiny), str(folder), "--engine", "ray", *map(str, options)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **LOOPBACK},
        cwd=cwd,
    )


def check_refused(process, beginning: str, *parts: str) -> None:
    code, errors = finish(process)
    assert code == 1, errors
    assert errors.startswith(f"error: {beginning}"), errors
    assert all(part in errors for part in parts), errors
    assert errors.count("\n") == 1, errors


def finish(process, timeout_s: float = 120) -> tuple[int, str]:
    try:
        _, errors = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return process.returncode, errors


def wait_for_rows(process, out: Path, count: int) -> None:
    partial = out.with_name(out.name + ".partial")
    deadline = time.monotonic() + 90
    while not partial.exists() or partial.read_bytes().count(b"\n") < count:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_driver_killed_and_a_node_lost_leave_every_row_once(tiny, folder, single, cluster: NodeBuilder, tmp_path):
    """kill -9 of the driver, then a node is lost in the middle of the resumed run."""
    out = tmp_path / "rows.jsonl"
    process = start(tiny, folder, "--address", cluster.address, "--out", out)
    wait_for_rows(process, out, 1)
    process.kill()
    process.communicate(timeout=60)
    rows = (tmp_path / "rows.jsonl.partial").read_bytes().count(b"\n")
    assert 0 < rows < PHOTOS

    process = start(tiny, folder, "--address", cluster.address, "--out", out, "--resume", "--allow-errors")
    wait_for_rows(process, out, rows + 1)
    cluster.kill(2)
    code, errors = finish(process)
    cluster.add()

    assert code == 0, errors
    assert f"{PHOTOS} rows" in errors
    assert out.read_bytes() == single


# In the working directory of whoever opens it: a driver and the nodes may have different things there, as machines do.
ELSEWHERE = "/proc/self/cwd/model"


def test_a_node_with_another_version_of_the_artifact_is_refused(tiny, folder, cluster, home, tmp_path):
    shutil.copytree(tiny, tmp_path / "model")
    shutil.copytree(tiny, home / "model")
    with (home / "model" / "truecopy.json").open("ab") as stream:
        stream.write(b"\n")  # the same model, but not the same bytes

    process = start(ELSEWHERE, folder, "--address", cluster.address, cwd=tmp_path)
    check_refused(process, f"'{ELSEWHERE}' on node '", "another version of the artifact: expected ")
    shutil.rmtree(home / "model")


def test_a_node_without_the_artifact_fetches_it(tiny, folder, single, cluster, tmp_path):
    shutil.copytree(tiny, tmp_path / "model")
    out = tmp_path / "rows.jsonl"
    code, errors = finish(
        start(ELSEWHERE, folder, "--address", cluster.address, "--out", out, "--allow-errors", cwd=tmp_path)
    )

    assert code == 0, errors
    assert out.read_bytes() == single


def test_a_node_that_does_not_see_the_inputs_is_refused(tiny, photos, cluster, tmp_path):
    shutil.copy(photos["cat"], tmp_path / "cat.jpg")

    process = start(tiny, "/proc/self/cwd/cat.jpg", "--address", cluster.address, cwd=tmp_path)
    check_refused(process, "node '127.0.0.1': cannot read '/proc/self/cwd/cat.jpg': every node has to read the inputs")


def test_a_node_without_the_extra_is_refused(tiny, folder, cluster, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "class Missing:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'onnxruntime':\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Missing())\n"
    )
    number = cluster.add(env_vars={"PYTHONPATH": str(tmp_path)})

    process = start(tiny, folder, "--address", cluster.address)
    check_refused(
        process,
        "node '127.0.0.1': truecopy with its extra 'ray' is not installed: No module named 'onnxruntime'. ",
        "pip install 'truecopy[ray,",
    )
    cluster.kill(number)


def test_a_list_on_stdin_is_read(tiny, photos, cluster, tmp_path):
    out = tmp_path / "rows.jsonl"
    names = "".join(f"{path}\n" for path in photos.values())
    command = [*COMMAND, str(tiny), "-", "--engine", "ray", "--address", cluster.address, "--out", str(out)]
    done = subprocess.run(
        command, input=names, text=True, capture_output=True, check=False, timeout=120, env={**os.environ, **LOOPBACK}
    )

    assert done.returncode == 0, done.stderr
    assert [json.loads(line)["input"] for line in out.read_text().splitlines()] == names.split()


def grow(artifact: Path, megabytes: int) -> None:
    """Give an artifact a large file of its own."""
    manifest = json.loads((artifact / "truecopy.json").read_bytes())
    data = os.urandom(megabytes * MEGABYTE)
    (artifact / "large.bin").write_bytes(data)
    manifest["files"]["large.bin"] = {"size_bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (artifact / "truecopy.json").write_text(json.dumps(manifest))


def test_a_full_object_store_is_one_sentence(tiny, folder, tmp_path):
    """An artifact larger than the store, on nodes whose disk may not take what does not fit."""
    shutil.copytree(tiny, tmp_path / "model")
    grow(tmp_path / "model", 120)
    full = {"RAY_local_fs_capacity_threshold": "0.001", "RAY_object_spilling_threshold": "1.0"}
    with running_nodes(tmp_path, {"num_cpus": 0}, {}, **full) as nodes:
        process = start(tmp_path / "model", folder, "--address", nodes.address, "--out", tmp_path / "rows.jsonl")
        check_refused(process, "--engine ray: the object store is full, and so is the disk it spills to, ")


def memory_in_use() -> float:
    """Return the share of this machine's memory that is in use, as Ray counts it."""
    lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    free, total = (int(lines[name].split()[0]) for name in ("MemAvailable", "MemTotal"))
    return 1 - free / total


@pytest.mark.alone
def test_an_actor_out_of_memory_is_one_sentence_and_loses_no_row(tiny, photos, tmp_path, request):
    """A photo of 900 megapixels on a node whose memory ends 12% above what is in use: Ray ends the actor."""
    if "alone" not in request.config.option.markexpr:
        pytest.skip("needs a machine on which nobody else takes memory: run it with -m alone")
    inputs = tmp_path / "photos"
    inputs.mkdir()
    (inputs / "cat.jpg").symlink_to(photos["cat"])
    Image.new("1", (30_000, 30_000)).save(inputs / "huge.png")
    out = tmp_path / "rows.jsonl"
    low = {"RAY_memory_usage_threshold": f"{memory_in_use() + 0.12:.3f}", "RAY_memory_monitor_refresh_ms": "50"}
    with running_nodes(tmp_path, {"num_cpus": 0}, {}, **low) as nodes:
        options = ("--address", nodes.address, "--out", out, "--max-megapixels", 1000)
        code, errors = finish(start(tiny, inputs, *options), 240)

    assert code == 1
    last = errors.splitlines()[-1]
    assert last.startswith("error: --engine ray: a worker ran out of memory: "), errors
    kept = (tmp_path / "rows.jsonl.partial").read_bytes().count(b"\n")
    assert f"{kept} rows are in '{out}.partial'. Continue with: " in errors


def test_a_cluster_that_is_not_there_is_an_error_within_seconds(tiny, folder):
    process = start(tiny, folder, "--address", "127.0.0.1:1")
    check_refused(process, "--address '127.0.0.1:1': no Ray cluster responds: ")


def test_engines_and_addresses_that_make_no_sense_are_refused(tiny, folder):
    code, errors = finish(start(tiny, folder, "--engine", "spark"))
    assert code == 2
    assert "'spark' is not one of 'local', 'ray'" in errors
    check_refused(
        start(tiny, folder, "--engine", "local", "--address", "127.0.0.1:1"), "--address '127.0.0.1:1': no cluster"
    )


def test_on_its_own_it_starts_ray_reads_urls_and_leaves_nothing_behind(tiny, photos, tmp_path):
    inside = tmp_path / "photos" / "more"
    inside.mkdir(parents=True)
    for name, path in photos.items():
        shutil.copy(path, inside / f"{name}.jpg")
    url = f"file://{tmp_path}/photos"
    out = tmp_path / "rows.jsonl"
    before = set(Path("/tmp").glob("truecopy-ray-*"))  # noqa: S108
    plain = subprocess.run([*COMMAND, str(tiny), url, "--format", "jsonl"], capture_output=True, check=True, timeout=60)
    code, errors = finish(start(tiny, url, "--out", out))

    assert code == 0, errors
    assert out.read_bytes() == plain.stdout
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [(row["input"], row["label"]) for row in rows] == [
        (f"{url}/more/{name}.jpg", name) for name in sorted(photos)
    ]
    assert set(Path("/tmp").glob("truecopy-ray-*")) <= before  # noqa: S108
