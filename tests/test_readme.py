"""The commands and the Python of README and docs/, run in order in one folder."""

import contextlib
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from support.serving import serving

from runtime.deploy.kserve import build_kserve

ROOT = Path(__file__).parents[1]
DATA = ROOT / "tests" / "data"
DOCS = ROOT / "docs"
# The pages in the order of the site's navigation: some use what an earlier one has made.
NAVIGATION = [
    page
    for page in re.findall(
        r": ([a-z-]+/[a-z0-9-]+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), flags=re.M
    )
    if (DOCS / page).exists()  # others are made of files beside docs/
]
ALL_PAGES = (ROOT / "README.md", ROOT / "examples" / "README.md", *sorted(DOCS.rglob("*.md")))
# Options of the reference are generated, and those of the benchmarks are a script's.
TEXT = "\n".join(
    page.read_text(encoding="utf-8") for page in ALL_PAGES if page.parent.name not in ("reference", "benchmarks")
)

# Two checkpoints with real signal, as users have them; in a process of its own, as torch may be absent here.
MATERIAL = """
import sys, io, torch, torchvision
from importlib.resources import files
from PIL import Image
sys.path.insert(0, {data!r})
import net, training

names = ["chelsea", "coffee", "rocket", "astronaut"]
folder = files("exporter.parity") / "photos"
photos = [Image.open(io.BytesIO((folder / f"{{name}}.jpg").read_bytes())).convert("RGB") for name in names]
photos[0].save("cat.jpg")
photos[1].save("dog.png")
torch.manual_seed(0)
mine = training.train(net.MyCNN(num_classes=10), photos, net.transform)
torch.save(mine.state_dict(), "mine.pth")
open("names.txt", "w").write("".join(f"name {{i}}\\n" for i in range(10)))

resnet = torchvision.models.resnet18()
images = torch.stack([torchvision.models.ResNet18_Weights.DEFAULT.transforms()(photo) for photo in photos])
for module in resnet.modules():
    if isinstance(module, torch.nn.BatchNorm2d):
        module.momentum = None
with torch.no_grad():
    resnet(torch.cat([images, images.flip(3), images.flip(2)]))
torch.save(resnet.eval().state_dict(), "model.pth")

from pathlib import Path
sys.path.insert(0, ".")
import iris
iris.train(Path("."))
"""

COMMANDS = """
import json, typer
from runtime.cli.main import EXPORTER_COMMANDS, build_app
print(json.dumps(sorted({*typer.main.get_command(build_app()).commands, *EXPORTER_COMMANDS})))
"""

# Options of scripts, and of other people's programs.
OTHER_OPTIONS = {
    *(
        "--fix",
        "--write",
        "--help",
        "--only",
        "--table",
        "--peers",
        "--rounds",
        "--oip-url",
        "--oip-model",
        "--data-binary",
    ),
    *("--build-arg", "--model-repository", "--serve", "--dry-run"),
    *("--tag", "--read-only", "--tmpfs", "--publish", "--gpus"),
}


# A block of a page: its kind, the file that it is to be saved as, and its text.
BLOCK = re.compile(r'^```(console|python|text)(?: title="([^"]+)")?\n(.*?)^```', flags=re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's folder with the files that the commands name."""
    path = tmp_path_factory.mktemp("readme")
    (path / "net.py").write_text((DATA / "net.py").read_text())
    (path / "iris.py").write_text((ROOT / "examples" / "iris.py").read_text())
    run([sys.executable, "-c", MATERIAL.format(data=str(DATA))], path)
    return path


def run(command: list[str], folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=180)
    assert done.returncode == 0, (command, done.stdout, done.stderr)
    return done.stdout


@pytest.mark.slow
def test_every_command_and_every_line_of_python_works(folder):
    done: set[str] = set()
    # Guides tell what to do with the README's artifacts; tutorials begin with files of their own.
    pages = sorted(NAVIGATION, key=lambda page: not page.startswith("guides/"))
    for page in (ROOT / "README.md", *(DOCS / page for page in pages)):
        walk_through(page, folder, done=done)
    assert len(done) >= 20
    assert (folder / "artifacts" / "again" / "truecopy.json").is_file()


def run_command(command: str, folder: Path) -> None:
    program, *arguments = shlex.split(command)
    output = run([str(Path(sys.executable).parent / program), *arguments], folder)
    if arguments[0] == "export":
        assert "proven" in output


def walk_through(page: Path, folder: Path, *, done: set[str]) -> None:
    """Do what a page says, block by block; a command that is done already, on another page, is not run again."""
    with contextlib.ExitStack() as servers:
        address = ""
        for kind, title, block in BLOCK.findall(page.read_text(encoding="utf-8")):
            if title:
                (folder / title).write_text(block, encoding="utf-8")
                continue
            for command in (line.removeprefix("$ ") for line in block.splitlines() if kind == "console"):
                if command.endswith(" &"):
                    _truecopy, _serve, artifact = command.removesuffix(" &").split()
                    address = servers.enter_context(serving(folder / artifact)).url
                elif command not in done:
                    run_command(command, folder)
                    done.add(command)
            if kind == "python":
                run([sys.executable, "-c", block.replace("http://127.0.0.1:8000", address)], folder)


def test_every_page_in_a_folder_is_in_the_navigation():
    assert sorted(str(path.relative_to(DOCS)) for path in DOCS.glob("*/*.md")) == sorted(NAVIGATION)


def test_the_export_script_is_installed_too(folder):
    assert "CHECKPOINT" in run([str(Path(sys.executable).parent / "export"), "--help"], folder)


@pytest.fixture(scope="module")
def help_texts() -> dict[str, str]:
    """The help of each command, by its name."""
    commands = json.loads(run([sys.executable, "-c", COMMANDS], ROOT))
    return {command: run([sys.executable, "-m", "truecopy", command, "--help"], ROOT) for command in commands}


def test_every_option_of_a_command_is_one_of_that_command(help_texts):
    lines = re.sub(r"\\\n\s*", " ", TEXT).splitlines()
    calls = [call for line in lines for call in re.findall(r"truecopy (\w+)( [^`|#]*)", line)]
    calls = [(command, options) for command, options in calls if command in help_texts]
    assert len(calls) > 80
    wrong = [
        (command, option)
        for command, options in calls
        for option in re.findall(r"(?<![\w-])--[a-z][a-z-]+", options)
        if option not in help_texts[command]
    ]
    assert wrong == []


def test_every_option_and_script_that_they_name_exists(help_texts):
    help_text = "".join(help_texts.values())
    help_text += run([sys.executable, "-m", "truecopy", "--help"], ROOT)
    help_text += run([sys.executable, "-m", "capacity", "--help"], ROOT / "scripts")
    options = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", TEXT)) - OTHER_OPTIONS
    assert options
    assert {option for option in options if option not in help_text} == set()
    for script in re.findall(r"scripts/[a-z-]+", TEXT):
        assert (ROOT / script).exists(), script


def test_every_path_of_the_repository_that_they_name_exists():
    named = re.findall(r"`((?:tests|runtime|exporter|kernels|\.github|\.ci)/[\w./-]+)`", TEXT)
    assert len(named) > 40
    # Those of the examples of an extension are to be written.
    assert [path for path in named if not (ROOT / path).exists() and not re.search("point|gamma", path)] == []


def test_every_script_is_in_the_table_of_scripts():
    page = (DOCS / "contributing" / "development.md").read_text(encoding="utf-8")
    scripts = [path for path in (ROOT / "scripts").iterdir() if path.is_file()]
    assert [path.name for path in scripts if f"scripts/{path.name}`" not in page] == []


@pytest.mark.parametrize("page", ALL_PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_between_the_pages_leads_somewhere(page):
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


def test_the_deployment_of_the_docker_page_has_the_ports_probes_and_rights_of_the_files_that_are_written():
    page = (DOCS / "guides" / "docker.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```yaml\n(.*?)^```", page, flags=re.DOTALL | re.MULTILINE)
    deployment = yaml.safe_load(block)
    (shown,) = deployment["spec"]["template"]["spec"]["containers"]
    (written,) = yaml.safe_load(build_kserve(DATA / "tiny", ROOT / "out").files["runtime.yaml"])["spec"]["containers"]

    assert [port["containerPort"] for port in shown["ports"]] == [port["containerPort"] for port in written["ports"]]
    for name in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert {key: written[name].get(key) for key in shown[name]} == shown[name]
    assert {key: written["securityContext"].get(key) for key in shown["securityContext"]} == shown["securityContext"]
    assert shown["volumeMounts"] == written["volumeMounts"]
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert deployment["spec"]["selector"]["matchLabels"] == labels


def test_every_example_is_in_the_table_of_examples():
    listed = re.findall(r"\]\((\w+\.py)\)", (ROOT / "examples" / "README.md").read_text(encoding="utf-8"))
    assert sorted(listed) == sorted(path.name for path in (ROOT / "examples").glob("*.py"))
