"""'truecopy deploy container': no engine runs here, so its Dockerfile's own steps do, as a user that is not root."""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml
from packaging.markers import default_environment
from packaging.tags import Tag, compatible_tags, cpython_tags
from support.deploying import deploy
from support.dockerfile import Build, StepError
from support.triton_server import CLIENT_PYTHON, ask

import runtime
from runtime.deploy.container.lock import direct_requirements, read_lock
from runtime.deploy.container.settings import GRPC_PORT, HTTP_PORT, USER_ID

# Of a machine with glibc 2.28.
PLATFORMS = ["manylinux_2_28_aarch64", "manylinux_2_27_aarch64", "manylinux_2_17_aarch64", "manylinux2014_aarch64"]
BASE = f"python:3.12-slim@sha256:{'0' * 64}"


@pytest.fixture(scope="module")
def written(tiny, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("deploy") / "out"
    assert deploy("container", tiny, "--out", out).returncode == 0
    return out


@pytest.fixture(scope="module")
def image(written) -> Iterator[Build]:
    """The image's files and settings, after every step of the Dockerfile; nobody may write to it any more."""
    with tempfile.TemporaryDirectory() as scratch:  # where every user may look, which pytest's folders are not
        folder = Path(scratch)
        folder.chmod(0o755)
        build = Build(context=written, root=folder / "root", arguments={"BASE": BASE}).run()
        for path in [build.root, *build.root.rglob("*")]:
            if not path.is_symlink():
                path.chmod(path.stat().st_mode & ~0o222)
        yield build
        for path in build.root.rglob("*"):
            if path.is_dir() and not path.is_symlink():
                path.chmod(0o755)


def as_user(user: str) -> list[str]:
    """Return what runs a program as the image's user: the tests' own one if it is not root.

    It may read everything, as Python itself may lie in somebody's home, and write only what any user may.
    """
    if os.geteuid() != 0:
        return []
    if shutil.which("setpriv") is None:
        pytest.skip("root needs setpriv (Debian: util-linux) to run a program as another user")
    number, _, group = user.partition(":")
    reading = ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
    return ["setpriv", "--reuid", number, "--regid", group, "--clear-groups", *reading]


def tree(root: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.lstat().st_mtime_ns, path.lstat().st_size) for path in root.rglob("*")}


@contextlib.contextmanager
def running(image: Build, log: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield the address of the image's entry point, run as its user, and the ports by the image's own."""
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(2)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        ports = {
            str(port): str(probe.getsockname()[1]) for port, probe in zip((HTTP_PORT, GRPC_PORT), probes, strict=True)
        }
    here = {**ports, "0.0.0.0": "127.0.0.1"}  # noqa: S104 - replaced, not bound
    assert set(here) <= set(image.command)
    command = [*as_user(image.user), *image.entrypoint, *(here.get(word, word) for word in image.command)]
    with log.open("w") as stream:
        process = subprocess.Popen(command, env=image.environment, cwd="/", stdout=stream, stderr=stream)
    try:
        until = time.monotonic() + 60
        while run_health(image, ports) != 0:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < until, log.read_text()
            time.sleep(0.2)
        if os.geteuid() == 0:
            assert f"Uid:\t{USER_ID}\t" in Path(f"/proc/{process.pid}/status").read_text()
        yield f"http://127.0.0.1:{ports[str(HTTP_PORT)]}", ports
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(timeout=60)


def run_health(image: Build, ports: dict[str, str]) -> int:
    words = [word.replace(f":{HTTP_PORT}/", f":{ports[str(HTTP_PORT)]}/") for word in image.health]
    command = [*as_user(image.user), *words]
    done = subprocess.run(command, env=image.environment, capture_output=True, check=False, timeout=60)
    return done.returncode


@pytest.mark.slow
def test_its_steps_run_and_its_entry_point_serves_as_nobody_in_particular_without_writing(
    image, tiny, photos, tmp_path
):
    assert len(image.ran) == 6
    assert image.user == f"{USER_ID}:{USER_ID}"
    packages = {path.name.partition("-")[0].lower() for path in image.root.glob("truecopy/lib/*/site-packages/*")}
    assert {"runtime", "onnxruntime", "numpy"} <= packages
    assert not packages & {"torch", "torchvision", "onnx", "pip", "ray"}
    assert not (image.root / "build").exists()
    before = tree(image.root)
    touch = subprocess.run(
        [*as_user(image.user), "touch", image.root / "artifact" / "new"], check=False, capture_output=True, timeout=60
    )
    assert touch.returncode != 0
    with running(image, tmp_path / "log") as (address, ports):
        assert run_health(image, ports) == 0
        body = httpx.post(f"{address}/predict/tiny", content=photos["cat"].read_bytes(), timeout=30).json()
        with runtime.load(tiny) as model:
            expected = model.predict(photos["cat"]).to_dict()
        assert {**body["predictions"][0], "input": ""} == {**expected, "input": ""}
    assert run_health(image, ports) != 0
    assert tree(image.root) == before


def test_a_base_without_a_digest_is_not_built_on(written, tmp_path):
    with pytest.raises(StepError, match="not pinned: expected IMAGE@sha256:DIGEST"):
        Build(context=written, root=tmp_path / "root", arguments={"BASE": "python:3.12-slim"}).run()


def test_the_lock_has_all_that_is_required_for_every_python_and_machine():
    lock = read_lock()
    everywhere = lock.locked_for.environments
    assert len(everywhere) == 6
    for extras in ([], *([extra] for extra in lock.pylock.extras)):
        packages = {package.name: package for package in lock.select(extras)}
        assert packages
        for package in packages.values():
            assert set(package.requires) <= packages.keys(), package
            for python, machine in package.environments or everywhere:
                assert any(fits(wheel, python, machine) for wheel in package.wheels), (package.name, python, machine)
    every = lock.select(lock.pylock.extras)
    assert {package.name for package in every} == {package.name for package in lock.pylock.packages}
    assert all(re.fullmatch("[0-9a-f]{64}", digest) for package in every for digest in package.wheels.values())
    assert not {package.name for package in every} & {"torch", "onnx", "ray"}
    assert "tokenizers" not in {package.name for package in lock.select(["cpu", "serve"])}


def test_the_lock_is_a_standard_file_that_a_standard_reader_installs_from():
    """PEP 751: for one environment and one set of extras, its own reader selects what an image there gets."""
    lock = read_lock()
    lock.pylock.validate()
    variables = {"python_version": "3.12", "python_full_version": "3.12.0", "platform_machine": "aarch64"}
    environment = {**default_environment(), **variables, "sys_platform": "linux"}
    tags = [Tag("cp312", "cp312", "manylinux_2_28_aarch64"), *cpython_tags((3, 12), ["cp312"], PLATFORMS)]
    tags += compatible_tags((3, 12), "cp312", PLATFORMS)

    selected = lock.pylock.select(environment=environment, tags=tags, extras=["cpu", "serve"])

    ours = [
        package
        for package in lock.select(["cpu", "serve"])
        if not package.environments or ("3.12", "aarch64") in package.environments
    ]
    chosen = {package.name: wheel for package, wheel in selected}
    assert chosen.keys() == {package.name for package in ours}
    assert all(package.wheels[chosen[package.name].filename] for package in ours)
    assert all(wheel.url.startswith("https://files.pythonhosted.org/") for wheel in chosen.values())


def fits(wheel: str, python: str, machine: str) -> bool:
    tag, abi, platform = wheel.removesuffix(".whl").split("-")[-3:]
    of_python = f"cp{python.replace('.', '')}" in tag or "py3" in tag or abi == "abi3"
    return of_python and (platform == "any" or machine in platform)


def test_the_lock_is_of_what_the_project_asks_for_in_the_versions_that_the_tests_ran_with():
    """Otherwise run scripts/lock."""
    root, lock = Path(__file__).parents[4], read_lock()
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    base = {re.match(r"[\w.-]+", text)[0] for text in project["dependencies"]}
    for extra in lock.pylock.extras:
        names = base | {re.match(r"[\w.-]+", text)[0] for text in project["optional-dependencies"][extra]}
        assert sorted(names) == direct_requirements([extra])
        assert {package.name for package in lock.select([extra])} >= names
    pinned = dict(line.split("==") for line in (root / "constraints.txt").read_text().split() if "==" in line)
    locked = {package.name: str(package.version) for package in lock.pylock.packages}
    assert {name: version for name, version in locked.items() if name in pinned}.items() <= pinned.items()


def test_a_lock_without_its_reader_names_the_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "packaging.pylock", None)
    with pytest.raises(runtime.InputError, match=r"needs 'packaging' 26 .* Run: pip install 'truecopy\[deploy\]'"):
        read_lock()


def test_the_bill_of_materials_lists_the_lock_and_every_file_and_is_the_same_each_time(written, tiny, tmp_path):
    bill = json.loads((written / "sbom.json").read_text())
    listed = {component["name"]: component for component in bill["components"]}
    required = set(re.findall(r"^([\w.-]+)==", (written / "requirements.lock").read_text(), re.MULTILINE))
    assert required | {"truecopy", "tiny"} == set(listed)
    files = {part["name"]: part["hashes"][0]["content"] for part in listed["tiny"]["components"]}
    with runtime.load(tiny) as model:
        assert files == {name: file.sha256 for name, file in model.manifest.files.items()}
    refs = {component["bom-ref"] for component in bill["components"]} | {"image"}
    named = {ref for entry in bill["dependencies"] for ref in (entry["ref"], *entry["dependsOn"])}
    assert named == refs
    assert deploy("container", tiny, "--out", tmp_path / "again").returncode == 0
    for path in written.rglob("*"):
        if path.is_file():
            assert path.read_bytes() == (tmp_path / "again" / path.relative_to(written)).read_bytes(), path


@pytest.mark.skipif(not CLIENT_PYTHON.exists(), reason="run 'scripts/setup clients' for CycloneDX' own schema")
def test_the_bill_of_materials_is_cyclonedx_own(written):
    assert ask("bill_of_materials", written / "sbom.json") == "ok\n"


def test_compose_runs_it_as_the_image_says_read_only_and_on_this_machine_alone(written):
    (service,) = yaml.safe_load((written / "compose.yaml").read_text())["services"].values()
    assert service["user"] == f"{USER_ID}:{USER_ID}"
    assert service["read_only"] is True
    assert service["ports"] == [f"127.0.0.1:{port}:{port}" for port in (HTTP_PORT, GRPC_PORT)]
    assert "BASE" in service["build"]["args"]


def test_the_wheel_is_this_truecopy(written):
    (wheel,) = written.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        assert archive.testzip() is None
        assert archive.read("runtime/verify.py") == Path(runtime.__file__).with_name("verify.py").read_bytes()
        assert not [name for name in archive.namelist() if "__pycache__" in name]
