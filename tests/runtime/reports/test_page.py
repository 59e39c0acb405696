"""The page: well formed, alone in the world, and saying what was found to someone who was not there."""

import io
import json
import re
from html.parser import HTMLParser
from itertools import pairwise

import msgspec
import pytest
from rich.console import Console

from runtime.evidence import evidence_to_json
from runtime.reports import Image, Picture, Score, compare_with_baseline, unfinished
from runtime.reports.charts import LogScale, draw_histogram
from runtime.reports.page import to_page
from runtime.reports.table import to_table

VOID = {"meta", "img", "br"}


class Reader(HTMLParser):
    """Reads a page as a browser would: what is in it, and whether every element is closed."""

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.text, self.links = [], [], "", []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in {"src", "href", "xlink:href"}]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.text += data


def read(outcome):
    data = to_page(outcome).decode()
    reader = Reader()
    reader.feed(data)
    reader.close()
    assert not reader.open
    assert "script" not in reader.tags
    assert all(link.startswith("data:image/png;base64,") for link in reader.links)
    assert "url(" not in data
    assert "@import" not in data
    assert not re.search(r"https?://", data)
    return reader


def test_a_pass_says_what_was_compared_and_how_close_it_is(passed, outcome_of):
    text = read(outcome_of(passed)).text

    assert "'mine.v2' is a true copy of its PyTorch model" in text
    assert "On 4 inputs" in text
    assert "1.5 times the noise floor" in text
    assert "noise floor is 1.0e-06 for 'logits'" in text
    for said in ("CUDA: this machine has no such device", "2.14.1", "Near ties", "no batch was run", "tall, wide"):
        assert said in text


def test_a_pass_says_where_other_forms_ran_on_fewer_inputs(passed, outcome_of):
    fewer = [
        msgspec.structs.replace(row, inputs=1, planned=1)
        if (row.path, row.stage) == ("model.onnx", "end to end")
        else row
        for row in passed.rows
    ]
    text = read(outcome_of(msgspec.structs.replace(passed, rows=tuple(fewer)))).text

    assert "On 4 inputs, every way to run it gave what the original gives" in read(outcome_of(passed)).text
    assert "On 4 inputs, the artifact as it is served gave what the original gives" in text
    assert "every other way to run it did so on 2 or more of them" in text


def test_what_was_compared_whole_and_what_is_not_proven_stand_in_the_page_and_below_the_table(passed, outcome_of):
    stale = msgspec.structs.replace(passed.whole[0], fault="value", finding="the weights: 'line.weight' differs")
    evidence = msgspec.structs.replace(passed, whole=(*passed.whole, stale))

    page = to_page(outcome_of(evidence)).decode()
    console = Console(width=200, file=io.StringIO())
    console.print(to_table(evidence))
    table = console.file.getvalue()

    for text in ("What was compared whole", "&#x27;line.weight&#x27; differs", "failed: value", "What is not proven"):
        assert text in page
    assert "compared whole: model.onnx: weights (14); labels.txt: labels (4)" in table
    assert "not proven: CUDA: this machine has no such device" in table
    assert json.loads(evidence_to_json(evidence))["not_proven"] == ["CUDA: this machine has no such device"]


def test_the_page_says_what_was_checked_and_how(passed, outcome_of):
    origin = (("architecture", "resnet18"), ("command", "truecopy parity 'my <model>'"))

    text = read(outcome_of(passed, origin=origin)).text

    for said in ("What was checked, and how", "resnet18", "truecopy parity 'my <model>'"):
        assert said in text
    assert "What was checked, and how" not in read(outcome_of(passed)).text


def test_a_failure_names_the_stage_what_it_does_and_where_to_look(failed, outcome_of):
    text = read(outcome_of(failed)).text

    assert "'mine.v2' is not a true copy" in text
    assert "The first stage at fault: geometry." in text
    assert "rounding of the long side" in text
    assert "failed: label" in text
    assert "prepared <pixels> & 'others'" in text, "as text: no element"


def test_inconclusive_is_no_pass(inconclusive, outcome_of):
    text = read(outcome_of(inconclusive)).text

    assert "The check of 'mine.v2' is inconclusive" in text
    assert "true copy of" not in text
    read(outcome_of(unfinished("mine", "'labels.txt': damaged.", max_ratio=10.0, tools={})))


def test_drift_is_told_with_both_figures_and_the_versions(passed, outcome_of):
    rows = (*passed.rows[:2], msgspec.structs.replace(passed.rows[2], difference=8e-6), *passed.rows[3:])
    now = msgspec.structs.replace(passed, rows=rows, tools={"torch": "2.15.0"})
    text = read(outcome_of(compare_with_baseline(now, passed, "old.json"))).text

    assert "'mine.v2' differs more than at its baseline" in text
    assert "is now 8 times the noise floor, and was 1.5" in text
    assert "torch2.14.12.15.0" in text
    assert "8 x noise, was 1.5" in text


def test_pictures_are_in_the_page_itself(failed, outcome_of):
    picture = Picture(
        title="model.onnx, geometry",
        caption="white is 37 gray levels",
        images=(Image(label="original", png=b"\x89PNG one"), Image(label="difference", png=b"\x89PNG two")),
        scores=(Score(label="<cat>", expected=0.75, got=0.25),),
    )
    reader = read(outcome_of(failed, pictures=(picture,)))

    assert reader.links == ["data:image/png;base64,iVBORyBvbmU=", "data:image/png;base64,iVBORyB0d28="]
    assert "<cat>" in reader.text
    assert "0.7500 / 0.2500" in reader.text


@pytest.mark.parametrize("verdict", ["passed", "failed"])
def test_every_path_and_stage_has_a_bar_that_says_its_figure(verdict, outcome_of, request):
    evidence = request.getfixturevalue(verdict)
    page = to_page(outcome_of(evidence)).decode()

    labels = re.findall(r'class="track"[^>]*aria-label="([^"]*)"', page)
    assert len(labels) == 6
    assert ("geometry: 37 gray levels on 25.0%" in labels) == (verdict == "failed")


def test_bars_are_logarithmic_and_a_fault_is_never_invisible():
    scale = LogScale([0.5, 5000.0, float("inf")], 10.0)

    widths = [scale.position(ratio) for ratio in (0.01, 0.1, 1.0, 10.0, 100.0, 1000.0, 10000.0)]
    steps = [after - before for before, after in pairwise(widths)]
    assert widths[0] == 0.0
    assert widths[-1] == pytest.approx(100.0)
    assert max(steps) == pytest.approx(min(steps))
    assert 'width="100.00%" height="12" rx="2" class="bad"' in scale.bar(None, kind="bad", title="error")
    assert 'class="bad"' in scale.bar(float("inf"), kind="bad", title="infinite")
    assert 'class="good"' not in scale.bar(0.0, kind="good", title="equal")


def test_histograms_show_single_values_and_mark_what_is_too_much():
    chart = draw_histogram((1_000_000, 0, 0, 0, 5, 0, 0, 0, 1, 0, 0, 0, 0, 1), 10.0, "network")

    assert chart.count("<rect") == 4
    assert chart.count('class="bad"') == 2
    assert "10 to 30 times the noise floor: 1 of 1,000,007 values" in chart
    assert "more than 100k times the noise floor" in chart
    assert "1k</text>" not in chart, "a decade per column leaves room for every second number"


def test_the_labels_of_small_columns_fit_their_width():
    chart = draw_histogram((900, 0, 83, 0, 10, 0, 7, 0, 0, 0, 0, 0, 0, 0), 10.0, "network")

    assert re.findall(r">([^<>]*%)</text>", chart) == ["90%", "8%", "1%", "&lt;1%"]
