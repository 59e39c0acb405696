"""What a parity report says of its artifact, its checkpoint and its command."""

import json

from exporter.cli.origin import describe_origin


def test_an_artifact_is_named_with_its_checkpoint_and_the_callers_date(tiny, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")

    origin = dict(describe_origin(tiny, ["truecopy", "parity", "my model"]))

    source = json.loads((tiny / "truecopy.json").read_text())["source"]
    assert origin["architecture"] == source["architecture"]
    assert origin["checkpoint SHA-256"] == source["checkpoint_sha256"]
    assert origin["date"] == "2023-11-14T22:13:20+00:00"
    assert origin["command"] == "truecopy parity 'my model'"


def test_what_is_no_artifact_has_its_folder_alone_and_no_date_is_made_up(tmp_path, monkeypatch):
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)

    assert [name for name, _ in describe_origin(tmp_path, ["truecopy"])] == ["artifact", "command"]
