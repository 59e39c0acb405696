"""The options of 'truecopy serve': defaults, choices, help."""

import inspect
import re
import subprocess
import sys
from dataclasses import fields
from typing import get_args

import pytest
from typer.testing import CliRunner

from runtime.cli.main import build_app
from runtime.errors import DeviceError
from runtime.server.command import serve
from runtime.server.limits import MIB, Limits
from runtime.server.options import Batching, LogFormat
from runtime.server.settings import Settings


def test_defaults_are_those_of_settings_and_limits():
    defaults = {name: parameter.default for name, parameter in inspect.signature(serve).parameters.items()}
    settings = {field.name: field.default for field in fields(Settings)}
    limits = Limits()

    same = ("host", "http_port", "grpc_port", "device", "batching", "drain_s", "watch", "token_file", "log_format")
    assert {name: defaults[name] for name in same} == {name: settings[name] for name in same}
    assert defaults["max_body_mb"] * MIB == limits.body_bytes
    assert defaults["max_megapixels"] * 1_000_000 == limits.pixels
    assert defaults["max_queue"] == limits.queue
    assert defaults["deadline_s"] == limits.deadline_s
    assert defaults["max_buffered_mb"] * MIB == limits.held_bytes
    assert defaults["max_connections"] == limits.connections


def unwrapped(text):
    """Return text without the frames and line breaks of the terminal."""
    return re.sub(r"[\s│]+", " ", text)


@pytest.fixture(scope="module")
def help_text():
    command = [sys.executable, "-m", "truecopy", "serve", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    return unwrapped(done.stdout)


@pytest.mark.parametrize(("option", "choices"), [("--batching", Batching), ("--log-format", LogFormat)])
def test_help_lists_the_choices(help_text, option, choices):
    assert f"{option} <{'|'.join(get_args(choices))}>" in help_text


def test_help_has_every_limit_in_one_panel_with_its_default(help_text):
    panel = help_text.partition("─ Limits ─")[2].partition("╰")[0]

    assert len(fields(Limits)) == 6
    for option, default in {
        "--max-body-mb": "32",
        "--max-buffered-mb": "256",
        "--max-megapixels": "64",
        "--max-queue": "128",
        "--deadline-s": "30",
        "--max-connections": "2048",
        "--drain-s": "30",
    }.items():
        assert re.search(rf"{option} .*?\[default: {default}(\.0)?[;\]]", panel), option


def test_an_unknown_choice_is_a_usage_error(tiny):
    command = [sys.executable, "-m", "truecopy", "serve", str(tiny), "--batching", "sometimes"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)

    assert done.returncode == 2
    assert "'auto', 'on', 'off'" in unwrapped(done.stderr)


@pytest.mark.parametrize("option", ["--http-port=65536", "--http-port=-1", "--grpc-port=65536", "--grpc-port=-2"])
def test_a_port_that_no_machine_has_is_a_usage_error(option):
    result = CliRunner().invoke(build_app(), ["serve", "nowhere", option])

    assert result.exit_code == 2
    assert f"Invalid value for '{option.partition('=')[0]}'" in unwrapped(result.output)


@pytest.mark.parametrize(
    ("missing", "port", "remedy"),
    [
        ("starlette", "-1", "Run: pip install 'truecopy[serve,cpu]'."),
        ("grpc_health", "0", "Or pass --grpc-port -1, to serve HTTP alone."),
    ],
)
def test_a_library_that_is_missing_is_named_with_its_remedy(tiny, monkeypatch, missing, port, remedy):
    monkeypatch.setitem(sys.modules, missing, None)

    with pytest.raises(DeviceError, match=re.escape(remedy)) as caught:
        serve([str(tiny)], grpc_port=int(port))
    assert str(caught.value).startswith(f"'{missing}': not installed.")


def test_without_grpc_a_server_serves_http_alone(tiny):
    program = (
        "import sys; sys.modules.update(dict.fromkeys(('grpc', 'grpc_health', 'grpc_reflection')));"
        f"sys.argv = ['truecopy', 'serve', {str(tiny)!r}, '--http-port', '0', '--grpc-port', '-1'];"
        "from runtime.cli.main import main; main()"
    )
    with subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        first = process.stderr.readline()
        process.terminate()
        assert process.wait(timeout=30) == 0
    assert first.startswith("serving models='tiny' http=")
