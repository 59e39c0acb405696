"""A job's rows: every input once and in order, whatever ended the run before."""

import csv
import json
import os
import resource
import shlex
import signal
import struct
import subprocess
import time
from pathlib import Path

import msgspec
import pytest
from support.commands import TRUECOPY

import runtime
from runtime.jobs.engines import LocalEngine, Stop
from runtime.jobs.job import Job, describe_job
from runtime.jobs.journal import Ended, Journal, read_rows
from runtime.jobs.writers import check_writable, write_results

COMMAND = [*TRUECOPY, "predict"]


@pytest.fixture
def folder(tmp_path, photos) -> Path:
    """Six hundred photos, every hundredth of them damaged."""
    folder = tmp_path / "photos"
    folder.mkdir()
    sources = list(photos.values())
    for number in range(600):
        path = folder / f"{number:04}.jpg"
        if number % 100 == 50:
            path.write_bytes(b"damaged")
        else:
            path.symlink_to(sources[number % len(sources)])
    return folder


def start(tiny, folder, *options, limit_bytes=None) -> subprocess.Popen[str]:
    def limit() -> None:
        if limit_bytes:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))

    return subprocess.Popen(
        [*COMMAND, str(tiny), str(folder), *map(str, options)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=limit,
    )


def finish(process) -> tuple[int, str]:
    _, errors = process.communicate(timeout=60)
    return process.returncode, errors


def wait_for_rows(process, path: Path, count: int) -> None:
    deadline = time.monotonic() + 60
    while not path.exists() or path.read_bytes().count(b"\n") < count:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)


def expected_names(folder: Path) -> list[str]:
    return [f"{folder}/{number:04}.jpg" for number in range(600)]


def check_rows(rows: list[dict], folder: Path) -> None:
    assert [row["input"] for row in rows] == expected_names(folder)
    labels = ["cat", "coffee", "rocket", "astronaut"]
    for number, row in enumerate(rows):
        if number % 100 == 50:
            assert row.get("error")
            assert not row.get("label")
        else:
            assert row["label"] == labels[number % 4]


@pytest.mark.slow
def test_a_job_killed_again_and_again_loses_and_doubles_no_row(tiny, folder, tmp_path):
    out = tmp_path / "rows.csv"
    partial = tmp_path / "rows.csv.partial"
    for rows in (5, 150, 400):
        process = start(tiny, folder, "--out", out, "--resume", "--workers", 2)
        wait_for_rows(process, partial, rows)
        process.kill()
        process.communicate(timeout=60)
        assert not out.exists()

    code, errors = finish(start(tiny, folder, "--out", out, "--resume"))

    assert code == 1, errors
    assert "error: 6 of 600 inputs failed. Their rows say why." in errors
    with out.open(newline="") as stream:
        check_rows(list(csv.DictReader(stream)), folder)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["photos", "rows.csv"]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_job_finishes_what_is_in_work_and_says_how_to_go_on(tiny, folder, tmp_path, number):
    out = tmp_path / "rows.jsonl"
    process = start(tiny, folder, "--out", out, "--workers", 2, "--allow-errors")
    wait_for_rows(process, tmp_path / "rows.jsonl.partial", 20)
    process.send_signal(number)
    code, errors = finish(process)

    assert code == 128 + number
    assert not out.exists()
    done = list(read_rows(tmp_path / "rows.jsonl.partial"))
    assert [row["input"] for row in done] == expected_names(folder)[: len(done)]
    assert f"stopped. {len(done)} rows are in" in errors
    command = shlex.split(errors.partition("Continue with: truecopy predict ")[2].strip())
    again = subprocess.run([*COMMAND, *command], capture_output=True, text=True, check=False, timeout=60)
    assert again.returncode == 0, again.stderr
    assert f"{600 - len(done)} of them now" in again.stderr
    check_rows([json.loads(line) for line in out.read_text().splitlines()], folder)


@pytest.mark.slow
def test_a_full_disk_leaves_whole_rows_and_the_job_can_go_on(tiny, folder, tmp_path):
    """A limit on the size of files is what a full disk is to a process: a write that does not fit."""
    out = tmp_path / "rows.jsonl"
    code, errors = finish(start(tiny, folder, "--out", out, limit_bytes=20_000))

    assert code == 1
    partial = tmp_path / "rows.jsonl.partial"
    assert f"error: '{partial}': " in errors
    assert "--resume" in errors
    data = partial.read_bytes()
    assert 18_000 < len(data) <= 20_000
    assert data.endswith(b"}\n")

    code, errors = finish(start(tiny, folder, "--out", out, "--resume", "--allow-errors"))
    assert code == 0, errors
    check_rows([json.loads(line) for line in out.read_text().splitlines()], folder)


@pytest.fixture
def model(tiny):
    with runtime.load(tiny, workers=2) as model:
        yield model


def run(model, artifact, named, out, *, resume=False, force=False, stop=None, top_k=5):
    job = describe_job(artifact, ("photos",), column=None, options={"top_k": top_k})
    inputs = iter(named)
    with Journal(out, job, resume=resume, force=force) as journal:
        engine = LocalEngine(model, top_k=top_k, threshold=0.0)
        work = Job(engine=engine, journal=journal, stop=stop or Stop(), format_name=out.suffix[1:])
        return work.run(inputs, work.skip_done(inputs), on_row=lambda: None)


@pytest.fixture
def named(photos):
    return [(f"{number}", path) for number, path in enumerate([*photos.values()] * 5)]


def stop_after(named, count, stop):
    for number, item in enumerate(named):
        if number == count:
            stop.ask()
        yield item


def unfinished(model, tiny, named, out) -> Path:
    stop = Stop()
    summary = run(model, tiny, stop_after(named, 8, stop), out, stop=stop)
    assert not summary.finished
    assert 8 <= summary.rows < len(named)
    return out.with_name(out.name + ".partial")


@pytest.mark.parametrize("tail", [b'{"input": "9", "la', b'{"input": "9"', b"\0\0\0\0\n", b"\n", b'{"label": "x"}\n'])
def test_a_torn_row_is_written_anew(model, tiny, named, tmp_path, tail):
    out = tmp_path / "rows.jsonl"
    partial = unfinished(model, tiny, named, out)
    with partial.open("ab") as stream:
        stream.write(tail)

    summary = run(model, tiny, named, out, resume=True)

    assert summary.finished
    assert [row["input"] for row in read_rows(out)] == [name for name, _ in named]
    assert out.read_bytes().count(b"\n") == len(named)


def test_a_job_that_ended_between_its_last_steps_is_finished_by_resuming(model, tiny, named, tmp_path):
    """Killed after the result was in its place and before its journal was removed."""
    out = tmp_path / "rows.jsonl"
    partial = unfinished(model, tiny, named, out)
    kept = {path: path.read_bytes() for path in (partial, partial.with_name(partial.name + ".json"))}
    run(model, tiny, named, out, resume=True)
    rows = out.read_bytes()
    for path, data in kept.items():
        path.write_bytes(data if path.suffix == ".json" else rows)

    assert run(model, tiny, named, out, resume=True).finished
    assert out.read_bytes() == rows
    assert list(tmp_path.iterdir()) == [out]


def test_resuming_with_nothing_there_begins(model, tiny, named, tmp_path):
    """Killed before its first row."""
    assert run(model, tiny, named, tmp_path / "rows.jsonl", resume=True).rows == len(named)


def test_changed_inputs_cannot_be_resumed(model, tiny, named, tmp_path):
    out = tmp_path / "rows.jsonl"
    unfinished(model, tiny, named, out)

    with pytest.raises(runtime.InputError, match="the inputs have changed: expected '3' as number 4, got '4'"):
        run(model, tiny, [*named[:3], *named[4:]], out, resume=True)
    with pytest.raises(runtime.InputError, match="got no more inputs"):
        run(model, tiny, named[:3], out, resume=True)
    with pytest.raises(runtime.InputError, match=r"another job's rows: options was \{'top_k': 5\}"):
        run(model, tiny, named, out, resume=True, top_k=1)


def test_results_and_unfinished_jobs_are_not_overwritten_unasked(model, tiny, named, tmp_path):
    out = tmp_path / "rows.jsonl"
    unfinished(model, tiny, named, out)
    with pytest.raises(runtime.InputError, match="Continue it with --resume, or start again with --force"):
        run(model, tiny, named, out)
    run(model, tiny, named, out, force=True)
    with pytest.raises(runtime.InputError, match="already exists"):
        run(model, tiny, named, out, resume=True)
    assert run(model, tiny, named[:3], out, force=True).rows == 3
    assert len(list(read_rows(out))) == 3


def test_two_jobs_do_not_write_one_file(model, tiny, named, tmp_path):
    job = describe_job(tiny, (), column=None, options={})
    with (
        Journal(tmp_path / "rows.jsonl", job, resume=False, force=False),
        pytest.raises(runtime.InputError, match="in use"),
    ):
        Journal(tmp_path / "rows.jsonl", job, resume=True, force=False)


def test_a_job_that_runs_is_not_offered_to_be_resumed(model, tiny, named, tmp_path):
    out = tmp_path / "rows.jsonl"
    with (
        Journal(out, describe_job(tiny, ("photos",), column=None, options={}), resume=False, force=False),
        pytest.raises(runtime.InputError, match="in use: another job is writing it"),
    ):
        run(model, tiny, named, out)


def test_names_that_are_not_utf8_can_be_resumed(tiny, tmp_path):
    name = os.fsdecode(b"caf\xe9.jpg")
    description = describe_job(tiny, (name,), column=name, options={"overlays": name})

    for resume in (False, True):
        with Journal(tmp_path / "rows.jsonl", description, resume=resume, force=False) as journal:
            journal.append({"input": "x"})


@pytest.mark.parametrize("path", ["/dev/null", "pipe.jsonl"])
def test_a_device_or_a_pipe_is_not_replaced(tmp_path, monkeypatch, path):
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe.jsonl")

    with pytest.raises(runtime.InputError, match=r"not a file: .* Write to stdout: --out -"):
        check_writable(Path(path), "jsonl")


def test_rows_of_an_artifact_that_changed_underneath_are_dropped(copy, named, tmp_path):
    def change_after(count):
        for number, item in enumerate(named):
            if number == count:
                weights = copy / "weights.bin"
                weights.write_bytes(weights.read_bytes())
                os.utime(weights, ns=(1, 1))
            yield item

    out = tmp_path / "rows.jsonl"
    with (
        runtime.load(copy, workers=2) as model,
        pytest.raises(runtime.ArtifactError, match="changed while in use"),
    ):
        run(model, copy, change_after(8), out)
    assert list(read_rows(tmp_path / "rows.jsonl.partial")) == []


ROWS = [
    {"input": "a", "label": "x, y", "probability": 0.5, "top": [{"label": "x"}]},
    {"input": "b", "error": 'it "failed"\nbadly'},
    {"input": "c", "values": {"price": 2, "size": None}},
]


@pytest.fixture
def journal(tmp_path) -> Path:
    path = tmp_path / "journal"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


def test_csv_has_a_column_a_value_and_error_last(journal, tmp_path):
    write_results("csv", journal, tmp_path / "rows.csv")

    with (tmp_path / "rows.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert list(rows[0]) == ["input", "label", "probability", "top", "values.price", "values.size", "error"]
    assert rows[0]["top"] == '[{"label":"x"}]'
    assert rows[1]["error"] == 'it "failed"\nbadly'
    assert rows[2]["values.price"] == "2"


def test_parquet_has_the_types_that_all_rows_share(journal, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    write_results("parquet", journal, tmp_path / "rows.parquet")

    table = parquet.read_table(tmp_path / "rows.parquet")
    assert table.column_names[0] == "input"
    assert table.column_names[-1] == "error"
    rows = table.to_pylist()
    assert rows[0]["top"] == [{"label": "x"}]
    assert rows[0]["error"] is None
    assert rows[1]["error"] == 'it "failed"\nbadly'
    assert rows[2]["values"] == {"price": 2, "size": None}


def test_a_result_that_cannot_be_written_leaves_none(journal, tmp_path):
    (tmp_path / "rows.csv").mkdir()

    with pytest.raises(OSError, match="directory"):
        write_results("csv", journal, tmp_path / "rows.csv")
    assert not list((tmp_path / "rows.csv").iterdir())
    assert not (tmp_path / "rows.csv.new").exists()
    assert len(list(read_rows(journal))) == 3


@pytest.mark.parametrize("step", ["path", "_job_path"])
def test_a_job_killed_while_it_cleans_up_is_finished_by_resuming(model, tiny, named, tmp_path, monkeypatch, step):
    """Whichever of the journal's files was the next to go."""
    out = tmp_path / "rows.jsonl"
    unlink = Path.unlink

    def kill(path, **options):
        if path.name == {"path": "rows.jsonl.partial", "_job_path": "rows.jsonl.partial.json"}[step]:
            raise KeyboardInterrupt
        unlink(path, **options)

    monkeypatch.setattr(Path, "unlink", kill)
    with pytest.raises(KeyboardInterrupt):
        run(model, tiny, named, out)
    monkeypatch.undo()
    rows = out.read_bytes()

    summary = run(model, tiny, named, out, resume=True)

    assert summary.finished
    assert (summary.rows, summary.failed) == (len(named), 0)
    assert out.read_bytes() == rows
    assert list(tmp_path.iterdir()) == [out]


def test_a_result_that_is_gone_is_made_again(model, tiny, named, tmp_path):
    out = tmp_path / "rows.jsonl"
    job = describe_job(tiny, ("photos",), column=None, options={"top_k": 5})
    with Journal(out, job, resume=False, force=False) as journal:
        journal.finish(Ended(rows=7, failed=0))
    ended = {"job": job, "ended": {"rows": 7, "failed": 0}}
    (tmp_path / "rows.jsonl.partial.json").write_bytes(msgspec.json.encode(ended))

    assert run(model, tiny, named, out, resume=True).rows == len(named)


def test_a_photo_of_thousands_of_broken_tags_writes_one_row_and_no_more(tiny, photos, tmp_path):
    """Pillow has a warning for each."""
    tags = b"".join(struct.pack("<HHII", 1000 + number, 7, 60_000, 0) for number in range(5000))
    exif = b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", 5000) + tags + bytes(4)
    photo = Path(photos["cat"]).read_bytes()
    start_of_image, rest = photo[:2], photo[2:]
    marker = b"\xff\xe1" + struct.pack(">H", len(exif) + 2)
    (tmp_path / "photo.jpg").write_bytes(start_of_image + marker + exif + rest)
    process = start(tiny, tmp_path / "photo.jpg", "--format", "jsonl")
    output, errors = process.communicate(timeout=60)

    assert json.loads(output)["label"] == "cat"
    assert len(errors.splitlines()) <= 2
