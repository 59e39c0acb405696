"""What is wrong on a command line says what to write instead."""

import pytest
from typer.testing import CliRunner

from runtime.cli.main import build_app


def refused(*arguments: str) -> str:
    done = CliRunner().invoke(build_app({arguments[0]}), list(arguments), env={"COLUMNS": "200"})
    assert done.exit_code == 2
    return done.stderr


@pytest.mark.parametrize("number", ["nan", "inf", "-inf"])
@pytest.mark.parametrize(
    ("command", "option"),
    [("predict", "--max-megapixels"), ("serve", "--deadline-s"), ("serve", "--max-body-mb"), ("bench", "--seconds")],
)
def test_a_number_that_is_not_finite_is_refused(command, option, number):
    assert f"Invalid value for '{option}'" in refused(command, "artifact", "input", option, number)


@pytest.mark.parametrize(
    ("arguments", "advice"),
    [
        (("predict", "a", "b", "--output", "x"), "The rows go to --out FILE, label maps as pictures to --overlays"),
        (("predict", "a", "b", "--gpu"), "Write --device cuda."),
        (("serve", "a", "--port", "80"), "Write --http-port and --grpc-port."),
        (("predict", "a", "b", "--overlay", "x"), "--overlays"),
    ],
)
def test_an_option_of_other_tools_is_named_as_it_is_here(arguments, advice):
    assert advice in refused(*arguments)


def test_a_file_whose_name_begins_with_a_dash_says_how_to_write_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "-1.jpg").write_bytes(b"")

    assert "write './-1.jpg'" in refused("predict", "artifact", "-1.jpg")
