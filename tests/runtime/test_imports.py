"""A deployment pays for what it uses: importing the runtime, or asking for help, loads nothing heavy."""

import subprocess
import sys

import pytest

FORBIDDEN = {"torch", "torchvision", "onnx", "transformers", "exporter", "timm", "scipy", "pandas"}
FORBIDDEN |= {"starlette", "uvicorn", "uvloop", "grpc", "google", "prometheus_client", "python_multipart"}
FORBIDDEN |= {"ray", "pyarrow"}
# Of the standard library: what only servers and addresses need, 20 ms of every start.
FOR_SERVERS = {"http", "asyncio"}


def modules_after(code: str) -> set[str]:
    """Return the top-level modules that are loaded after running ``code`` in a fresh interpreter."""
    code += "\nimport sys; print(*sorted({name.partition('.')[0] for name in sys.modules}), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    return set(done.stderr.splitlines()[-1].split())


def test_import_runtime_loads_no_framework_and_no_command_line():
    assert not modules_after("import runtime") & (FORBIDDEN | {"typer", "rich", "onnxruntime", "numpy"})


def test_import_truecopy_and_its_names_of_the_runtime_load_no_torch():
    heavy = FORBIDDEN | {"typer", "rich", "onnxruntime", "numpy"}
    assert not modules_after("import truecopy; dir(truecopy); truecopy.InputError; truecopy.__version__") & heavy
    assert not modules_after("import truecopy; truecopy.load; truecopy.Prediction") & (FORBIDDEN | {"typer", "rich"})


def test_loading_and_predicting_loads_no_framework_and_no_command_line(tiny, photos):
    code = f"import runtime; runtime.load({str(tiny)!r}).predict({str(photos['cat'])!r})"

    assert not modules_after(code) & (FORBIDDEN | FOR_SERVERS | {"typer", "rich"})


@pytest.mark.parametrize("arguments", ["['--help']", "['export', '--help']", "['predict', '--help']"])
def test_help_loads_neither_torch_nor_onnxruntime(arguments):
    code = f"import sys; sys.argv[1:] = {arguments}\nfrom runtime.cli.main import main\n"
    code += "try: main()\nexcept SystemExit: pass"

    assert not modules_after(code) & ((FORBIDDEN - {"exporter"}) | {"onnxruntime", "numpy"})


def test_export_without_torch_says_what_to_install(tmp_path):
    """A runtime installation has the command, and not what it needs."""
    code = (
        "import sys, importlib.util as util\n"
        "find = util.find_spec\n"
        "util.find_spec = lambda name, *rest: None if name == 'torch' else find(name, *rest)\n"
        "sys.argv[1:] = ['export', 'model.pth', '--arch', 'resnet18']\n"
        "from runtime.cli.main import main\nmain()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)

    assert done.returncode == 1
    assert "pip install 'truecopy[export,cpu]'" in done.stderr
