"""The truecopy command, run as people run it."""

import json
import os
import re
import shlex
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import get_args

import pytest
from support.commands import truecopy

from runtime.cli.main import Format, main
from runtime.jobs.command import TO_STDOUT
from runtime.jobs.engines import ENGINES
from runtime.jobs.writers import SUFFIXES


def test_the_version_is_that_of_the_package():
    done = truecopy("--version")

    assert (done.returncode, done.stdout) == (0, f"truecopy {version('truecopy')}\n")


@pytest.mark.parametrize(("set_by_user", "expected"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_waiting_threads_sleep_unless_the_user_says_otherwise(monkeypatch, set_by_user, expected):
    monkeypatch.setenv("OMP_WAIT_POLICY", set_by_user or "")
    if set_by_user is None:
        monkeypatch.delenv("OMP_WAIT_POLICY")
    monkeypatch.setattr(sys, "argv", ["truecopy", "--version"])
    with pytest.raises(SystemExit):
        main()
    assert os.environ["OMP_WAIT_POLICY"] == expected


def test_help_has_the_commands_in_panels_the_main_ones_first():
    lines = truecopy("--help").stdout.splitlines()

    # The rows of other lines of a command's help begin with spaces.
    words = [match[1] for line in lines if (match := re.match(r"(?:╭─ |│ )(\w+) ", line))]
    commands = words[words.index("Make") :]
    assert commands == [
        *("Make", "export", "inspect", "parity", "quantize"),
        *("Use", "predict", "serve", "evaluate", "calibrate"),
        *("Check", "verify", "diff", "doctor", "bench"),
        *("Deploy", "deploy"),
    ]


def test_the_list_of_commands_imports_none_of_their_modules():
    code = """
import sys
sys.argv = ["truecopy", "--help"]
from runtime.cli.main import main
try:
    main()
finally:
    print(sorted(name for name in sys.modules if name.startswith(("exporter.", "runtime."))))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)

    assert "Export a checkpoint as an artifact proven equal" in done.stdout
    assert not re.search(r"recipe|manifest|server\.command|cli\.options", done.stdout.splitlines()[-1])


@pytest.mark.parametrize(
    ("words", "expected"), [("truecopy pre", ["predict"]), ("truecopy predict --engine ", ["local", "ray"])]
)
def test_a_shell_completes_commands_and_choices(words, expected):
    """As bash asks, with the words so far and the number of the one to complete."""
    environment = {"_TRUECOPY_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    done = subprocess.run(
        [Path(sys.executable).parent / "truecopy"],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert done.stdout.split() == expected, done.stderr


def test_the_choices_of_predict_are_those_that_the_job_knows():
    help_text = "".join(truecopy("predict", "--help").stdout.split()).replace("│", "")

    # Typer's older versions have other brackets.
    assert any(f"{left}{'|'.join(ENGINES)}{right}" in help_text for left, right in ("<>", "[]"))
    assert set(get_args(Format)) == {*TO_STDOUT, *SUFFIXES.values()}


def test_predict_prints_a_table_for_people(tiny, photos):
    done = truecopy("predict", tiny, photos["cat"].name, photos["rocket"].name, cwd=photos["cat"].parent)

    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["input", "label", "probability", "next"]
    assert lines[1].split()[:2] == ["cat.jpg", "cat"]
    assert lines[2].split()[:2] == ["rocket.jpg", "rocket"]


def test_predict_prints_a_row_a_line_for_machines(tiny, photos):
    done = truecopy("predict", tiny, photos["cat"], photos["rocket"], "--format", "jsonl", "--top-k", 2)

    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["label"] for row in rows] == ["cat", "rocket"]
    assert [len(row["top"]) for row in rows] == [2, 2]


def test_predict_takes_a_folder(tiny, photos):
    done = truecopy("predict", tiny, photos["cat"].parent, "--format", "jsonl", "--threshold", 1)

    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(rows) == 4
    assert {(row["label"], row["index"]) for row in rows} == {("unknown", -1)}


def test_one_bad_photo_keeps_its_row_and_the_exit_status_says_so(tiny, photos, tmp_path):
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"garbage")

    done = truecopy("predict", tiny, bad, photos["cat"], "--format", "jsonl")

    assert done.returncode == 1
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert list(rows[0]) == ["input", "error"]
    assert rows[1]["label"] == "cat"
    assert done.stderr == "error: 1 of 2 inputs failed. Their rows say why.\n"


def test_verify_answers_for_people_and_for_machines(tiny):
    table, machine = truecopy("verify", tiny), truecopy("verify", tiny, "--json")

    assert table.returncode == machine.returncode == 0
    assert "passed: 17 golden inputs on cpu" in table.stdout
    assert json.loads(machine.stdout)["checks"][0] == {
        "name": "prepared",
        "stage": "geometry",
        "output": "",
        "lossy": False,
        "passed": True,
        "worst": 0.0,
        "limit": 0.0,  # the photo is a PNG
        "unit": "gray levels",
    }


def test_verify_fails_with_the_checks_that_do(copy, edit_manifest):
    edit_manifest(copy, lambda manifest: manifest["inputs"][0]["preprocessing"]["geometry"][0].update(size=44))

    done = truecopy("verify", copy)

    assert done.returncode == 1
    assert "failed" in done.stdout
    assert done.stderr.startswith("error: ")


@pytest.mark.parametrize("command", [["predict", "nowhere", "x.jpg"], ["verify", "nowhere"]])
def test_an_error_is_one_line_and_exit_status_1(command):
    done = truecopy(*command)

    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("error: 'nowhere': no such folder: expected an artifact folder. ")
    assert done.stderr.count("\n") == 1


def test_debug_shows_the_traceback():
    assert "Traceback" in truecopy("--debug", "verify", "nowhere").stderr


@pytest.mark.parametrize("command", [["predict"], ["nonsense"], ["verify", "x", "--nonsense"]])
def test_wrong_usage_is_exit_status_2(command):
    assert truecopy(*command).returncode == 2


def test_an_empty_folder_is_named(tiny, tmp_path):
    done = truecopy("predict", tiny, tmp_path)

    assert done.returncode == 1
    assert "no files such as .bmp, .gif, .jfif in this folder" in done.stderr


def test_errors_can_be_accepted_and_a_file_gets_a_row_for_each_input(tiny, photos, tmp_path):
    done = truecopy("predict", tiny, photos["cat"], "no.jpg", "--out", tmp_path / "rows.csv", "--allow-errors")

    assert done.returncode == 0
    assert "2 rows, 2 of them now" in done.stderr
    assert "note: 1 of 2 inputs failed. Their rows say why." in done.stderr
    lines = (tmp_path / "rows.csv").read_text().splitlines()
    assert lines[0] == "input,label,index,probability,top,error"
    assert lines[2].startswith("no.jpg,,,,,'no.jpg': no such file")


def test_names_on_stdin_are_labeled_in_their_order(tiny, photos):
    command = [sys.executable, "-m", "truecopy", "predict", str(tiny), "-"]
    names = "".join(f"{path}\n" for path in photos.values())
    done = subprocess.run(
        [*command, "--format", "jsonl"], input=names, capture_output=True, text=True, check=False, timeout=60
    )

    assert done.returncode == 0, done.stderr
    assert [json.loads(line)["label"] for line in done.stdout.splitlines()] == list(photos)


def in_shell(line: str, **environment: str) -> "subprocess.CompletedProcess[bytes]":
    command = f"{shlex.quote(sys.executable)} -m truecopy {line}"
    return subprocess.run(
        ["/bin/sh", "-c", command], capture_output=True, check=False, timeout=60, env={**os.environ, **environment}
    )


@pytest.mark.parametrize("out", ["--format jsonl", "--out -"])
def test_rows_are_utf8_in_every_locale(tiny, photos, tmp_path, out):
    (tmp_path / "\u732b.jpg").symlink_to(photos["cat"])

    done = in_shell(f"predict {tiny} {tmp_path} {out}", PYTHONIOENCODING="latin-1")

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.decode())["input"] == f"{tmp_path}/\u732b.jpg"
    assert not Path("-").exists()


def test_a_table_in_an_ascii_locale_is_escaped(tiny, photos, tmp_path):
    (tmp_path / "\u732b.jpg").symlink_to(photos["cat"])

    done = in_shell(f"predict {tiny} {tmp_path}", PYTHONIOENCODING="ascii", COLUMNS="300")

    assert done.returncode == 0, done.stderr
    assert b"\\u732b.jpg" in done.stdout


@pytest.mark.parametrize(
    ("redirection", "returncode", "rows", "message"),
    [
        (">&-", 1, 0, b"error: stdout: closed: expected somewhere to print the rows"),
        ("2>&-", 0, 1, b""),
        ("<&-", 0, 1, b""),
        ("- <&-", 1, 0, b"error: stdin: closed: expected one input per line"),
    ],
)
def test_closed_streams_are_no_tracebacks(tiny, photos, redirection, returncode, rows, message):
    done = in_shell(f"predict {tiny} {photos['cat']} --format jsonl {redirection}")

    assert done.returncode == returncode, done.stderr
    assert done.stdout.count(b"\n") == rows
    assert message in done.stderr
    assert b"Traceback" not in done.stderr


def test_what_a_folder_has_besides_photos_is_said(tiny, photos, tmp_path):
    """A named pipe is the error of its row, and not waited for."""
    (tmp_path / "a.jpg").symlink_to(photos["cat"])
    (tmp_path / "b.heic").write_bytes(b"")
    os.mkfifo(tmp_path / "c.jpg")

    done = truecopy("predict", tiny, tmp_path, "--format", "jsonl")

    first, second = map(json.loads, done.stdout.splitlines())
    assert done.returncode == 1
    assert first["label"] == "cat"
    assert "not a file: expected a regular file, got a pipe or device" in second["error"]
    assert f"note: 1 left out. .heic files: 1, such as '{tmp_path}/b.heic'\n" in done.stderr


def test_csv_on_stdout_is_the_file_that_out_writes_and_all_else_is_on_stderr(tiny, photos, tmp_path):
    (tmp_path / "bad.jpg").write_bytes(b"no photo")
    command = ["predict", tiny, tmp_path / "bad.jpg", photos["cat"], "--top-k", 1, "--allow-errors"]

    printed = truecopy(*command, "--out", "-", "--format", "csv")
    truecopy(*command, "--out", tmp_path / "rows.csv")

    assert printed.returncode == 0
    assert printed.stdout.encode() == (tmp_path / "rows.csv").read_bytes().replace(b"\r\n", b"\n")
    assert printed.stdout.splitlines()[0] == "input,label,index,probability,top,error"
    assert printed.stderr == "note: 1 of 2 inputs failed. Their rows say why.\n"
    assert not (tmp_path / "-").exists()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--format", "parquet"], "expected --out with the file to write"),
        (["--resume"], "expected --out with the file of an unfinished job"),
        (["--out", "rows.xlsx"], "no format by its suffix: expected .jsonl, .ndjson, .csv, .parquet, got '.xlsx'"),
        (["--out", "."], "is a folder"),
        (["--force"], "--force: expected --out"),
        (["--column", "photo"], "--column 'photo': no table among the inputs"),
        (["--out", ".", "--format", "csv"], "is a folder"),
    ],
)
def test_outputs_that_cannot_be_are_refused_before_the_work(tiny, photos, options, reason):
    done = truecopy("predict", tiny, photos["cat"], *options)

    assert done.returncode == 1
    assert reason in done.stderr


@pytest.mark.parametrize("option", [("--arch", "resnet18"), ("--trust",), ("--import", ".")])
def test_bench_refuses_what_belongs_to_a_checkpoint_without_one(tiny, option):
    done = truecopy("bench", tiny, *option)

    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {option[0]}: is for --against")


@pytest.mark.parametrize("command", ["predict ARTIFACT cat.jpg", "verify ARTIFACT", "bench ARTIFACT", "doctor"])
def test_without_onnxruntime_a_command_says_which_package_to_install(tiny, command):
    arguments = ["truecopy", *command.replace("ARTIFACT", str(tiny)).split()]
    missing = f"import sys; sys.modules['onnxruntime'] = None; sys.argv = {arguments!r}"
    code = f"{missing}; from runtime.cli.main import main; main()"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)

    assert done.returncode == 1
    assert done.stderr == (
        "error: 'onnxruntime': not installed. Run: pip install 'truecopy[cpu]', or 'truecopy[cuda]' for NVIDIA GPUs.\n"
    )
