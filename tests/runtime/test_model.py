"""From a photo to a label, in every form that a caller has the photo, one or many."""

import asyncio
import io
import threading
from concurrent.futures import ThreadPoolExecutor

import msgspec
import numpy as np
import pytest
from PIL import Image

import runtime
from runtime.engine import session


@pytest.fixture(scope="module")
def model(tiny) -> runtime.Model:
    return runtime.load(tiny)


def test_every_photo_gets_its_label(model, photos):
    results = model.predict(list(photos.values()))

    assert [result.label for result in results] == list(photos)


def test_path_bytes_image_and_array_give_the_same_answer(model, photos, tmp_path):
    path = photos["rocket"]
    image = Image.open(path).convert("RGB")
    answers = [model.predict(source) for source in (path, str(path), path.read_bytes(), image, np.asarray(image))]
    np.save(tmp_path / "x.npy", np.asarray(image))

    assert model.predict(tmp_path / "x.npy").probability == answers[0].probability
    assert {answer.label for answer in answers} == {"rocket"}
    assert len({answer.probability for answer in answers}) == 1
    assert [answer.input for answer in answers] == [str(path), str(path), "#0", "#0", "#0"]


def test_a_prediction_is_one_row(model, photos):
    row = model.predict(photos["cat"], top_k=2).to_dict()

    assert list(row) == ["input", "label", "index", "probability", "top"]
    assert row["input"] == str(photos["cat"])
    assert (row["label"], row["index"]) == ("cat", 0)
    assert row["top"][0] == {"label": "cat", "index": 0, "probability": row["probability"]}
    assert len(row["top"]) == 2
    assert row["top"][0]["probability"] > row["top"][1]["probability"] > 0
    assert msgspec.json.decode(msgspec.json.encode(row)) == row


def test_probabilities_sum_to_one(model, photos):
    top = model.predict(photos["cat"], top_k=99).top

    assert len(top) == 4
    assert sum(scored.probability for scored in top) == pytest.approx(1.0, abs=1e-6)


def test_below_the_threshold_the_label_is_unknown(model, photos):
    best = model.predict(photos["cat"]).probability
    at, above = (model.predict(photos["cat"], threshold=threshold) for threshold in (best, best + 1e-6))

    assert (at.label, at.index) == ("cat", 0)
    assert (above.label, above.index, above.probability) == ("unknown", -1, best)
    assert above.top[0].label == "cat"


def test_one_bad_photo_costs_only_its_own_place(model, photos):
    good = photos["cat"]
    results = model.predict([good, b"garbage", good, "missing.jpg"] * 5)

    assert [isinstance(result, runtime.Failure) for result in results] == [False, True, False, True] * 5
    assert {result.probability for result in results[::2]} == {results[0].probability}
    assert results[1].to_dict() == {"input": "#1", "error": results[1].error}
    assert results[3].input == "missing.jpg"
    with pytest.raises(runtime.InputError, match=r"missing\.jpg': no such file"):
        _ = results[3].label


def test_a_single_bad_photo_raises(model):
    with pytest.raises(runtime.InputError, match="not an image"):
        model.predict(b"garbage")


def test_nothing_in_nothing_out(model):
    assert model.predict([]) == []


@pytest.mark.parametrize("options", [{"top_k": 0}, {"threshold": 1.5}, {"threshold": float("nan")}])
def test_options_are_checked(model, photos, options):
    with pytest.raises(runtime.InputError, match=next(iter(options))):
        model.predict(photos["cat"], **options)


@pytest.mark.parametrize("batch", [1, 2, 3, 7])
def test_both_graphs_take_any_batch_and_agree_with_predict(model, photos, batch):
    image = np.asarray(Image.open(photos["coffee"]).convert("RGB"))
    expected = model.predict(image).probability

    whole = model.run({"image": np.stack([image] * batch)})["probabilities"]
    network = model.run({"pixels": np.stack([model.prepare(image)] * batch)})["probabilities"]

    assert whole.shape == network.shape == (batch, 4)
    assert whole[:, 1] == pytest.approx(expected, abs=1e-2)
    assert network[:, 1] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("arrays", "reason"),
    [
        ({"picture": np.zeros((1, 32, 32, 3), np.uint8)}, "expected 'pixels', got 'picture'"),
        ({}, "expected 'pixels', got none"),
        ({"pixels": np.zeros((1, 32, 32, 3), np.float32)}, r"expected uint8 \[batch, 32, 32, 3\], got float32"),
        ({"pixels": np.zeros((1, 33, 32, 3), np.uint8)}, r"got uint8 \[1, 33, 32, 3\]"),
        ({"pixels": np.zeros((0, 32, 32, 3), np.uint8)}, r"got uint8 \[0, 32, 32, 3\]"),
        ({"image": np.zeros((32, 32, 3), np.uint8)}, r"expected uint8 \[batch, height, width, 3\]"),
    ],
)
def test_arrays_are_checked_before_onnxruntime_sees_them(model, arrays, reason):
    with pytest.raises(runtime.InputError, match=reason):
        model.run(arrays)


def test_many_threads_get_their_own_answers(model, photos):
    sources = [photos[label] for label in photos] * 10
    expected = [model.predict(source).to_dict() for source in sources]

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda source: model.predict(source).to_dict(), sources))

    assert answers == expected


@pytest.mark.parametrize("plan", ["latency", "throughput"])
@pytest.mark.parametrize("batch", [1, 3])
def test_every_plan_gives_the_same_answers_in_order(tiny, model, photos, plan, batch):
    sources = [*photos.values(), b"garbage"] * 5
    expected = [model.predict([source])[0] for source in sources]

    with runtime.load(tiny, plan=plan, workers=3, batch=batch) as planned:
        answers = planned.predict(sources)

    assert [answer.input for answer in answers] == [
        str(s) if s != b"garbage" else f"#{i}" for i, s in enumerate(sources)
    ]
    for answer, wanted in zip(answers, expected, strict=True):
        if isinstance(wanted, runtime.Failure):
            assert isinstance(answer, runtime.Failure)
        else:
            assert answer.label == wanted.label
            assert answer.probability == pytest.approx(wanted.probability, abs=1e-6)


@pytest.mark.parametrize(("threads", "sessions"), [(None, [(3, True), (1, False)]), (2, [(2, False)])])
def test_a_call_that_is_alone_has_all_cores_and_calls_together_one_each(tiny, photos, monkeypatch, threads, sessions):
    """Unless a number of threads was asked for."""
    opened = []

    def record(graph, **options):
        opened.append((options["threads"], options["spin"]))
        return session.open_session(graph, **options)

    monkeypatch.setattr("runtime.engine.executor.open_session", record)
    monkeypatch.setattr("runtime.engine.executor.usable_cores", lambda: 3)
    with runtime.load(tiny, device="cpu", threads=threads) as model:
        alone = model.predict(photos["cat"])
        assert opened == sessions[:1]

        together, decode = threading.Barrier(2), model.decode

        def decode_together(*source, **subject):
            together.wait(timeout=20)
            return decode(*source, **subject)

        monkeypatch.setattr(model, "decode", decode_together)
        answers = model.predict([photos["cat"], photos["cat"]])
        assert opened == sessions
    assert [one.to_dict() for one in answers] == [alone.to_dict()] * 2


def test_a_stream_of_inputs_is_taken_as_it_is_needed(model, photos):
    taken = []

    def endless():
        while True:
            taken.append(photos["cat"])
            yield f"photo {len(taken)}", photos["cat"]

    results = model.predict_each(endless())

    assert [next(results).input for _ in range(5)] == [f"photo {number}" for number in range(1, 6)]
    assert len(taken) < 20
    results.close()


def test_async_variants_leave_the_event_loop_free(model, photos):
    async def both():
        one = asyncio.create_task(model.predict_async(photos["cat"]))
        many = asyncio.create_task(model.predict_async([photos["rocket"], b"garbage"]))
        arrays = model.run_async({"pixels": np.zeros((2, 32, 32, 3), np.uint8)})
        with pytest.raises(runtime.InputError, match="not an image"):
            await model.predict_async(b"garbage")
        return await one, await many, await arrays

    one, many, arrays = asyncio.run(both())

    assert one == model.predict(photos["cat"])
    assert [type(result) for result in many] == [runtime.Prediction, runtime.Failure]
    assert arrays["probabilities"].shape == (2, 4)


def test_a_closed_model_says_so_and_leaves_no_threads(tiny, photos):
    before = threading.active_count()
    with runtime.load(tiny, workers=3) as closing:
        closing.predict(list(photos.values()))
        assert threading.active_count() > before
    closing.close()

    assert threading.active_count() == before
    for use in (lambda: closing.predict(photos["cat"]), lambda: closing.predict([photos["cat"]] * 2)):
        with pytest.raises(runtime.ModelError, match="closed"):
            use()


def test_an_artifact_that_changes_underneath_is_noticed(copy):
    changed = runtime.load(copy)
    changed.check_unchanged()
    data = (copy / "weights.bin").read_bytes()
    (copy / "weights.bin").write_bytes(data[:-1] + bytes([data[-1] ^ 1]))

    with pytest.raises(runtime.ArtifactError, match=r"weights\.bin': changed while in use"):
        changed.check_unchanged()


def test_photos_that_ask_for_a_rotation_are_counted_and_warned_about_once(tiny, photos):
    exif = Image.Exif()
    exif[0x0112] = 6
    stream = io.BytesIO()
    Image.open(photos["cat"]).save(stream, "JPEG", exif=exif)
    model = runtime.load(tiny)

    with pytest.warns(UserWarning, match="export it with --exif") as caught:
        model.predict([stream.getvalue()] * 3)

    assert len(caught) == 1
    assert model.warning_counts["rotated"] == 3


def test_the_pixel_limit_is_the_callers(tiny, photos):
    with pytest.raises(runtime.InputError, match=r"expected at most 0\.01 megapixels, got 225 x 150"):
        runtime.load(tiny, max_pixels=10_000).predict(photos["cat"])


def test_where_batches_are_filled_up_a_session_sees_one_number_of_inputs(tiny, photos, monkeypatch):
    """As on accelerators, which plan anew for every other number; here on the CPU, told to."""
    with runtime.load(tiny, device="cpu", batch=4) as model:
        executor = model._executor
        monkeypatch.setattr(executor, "_fills", True)
        prepared = [model.prepare(path) for path in photos.values()]
        alone = [model.run(model.stack([pixels]))["probabilities"][0] for pixels in prepared]
        seen, run = [], executor.run
        monkeypatch.setattr(executor, "run", lambda arrays: (seen.append(arrays["pixels"].shape[0]), run(arrays))[1])
        for count in (1, 3, 4):
            scores = model.score(prepared[:count])
            assert len(scores) == count
            for score, expected in zip(scores, alone, strict=False):
                assert score == pytest.approx(expected, abs=1e-6)

    assert seen == [4, 4, 4]


def test_only_the_number_of_inputs_varies_where_every_other_length_is_known(tiny):
    assert session.open_session(tiny / "network.onnx").only_batch_varies
    assert not session.open_session(tiny / "model.onnx").only_batch_varies


def test_photos_of_other_sizes_than_were_compared_are_counted_and_warned_about_once(copy, edit_manifest, photos):
    compared = {"height": {"lowest": 10, "highest": 149}, "batch": {"lowest": 1, "highest": 2}}
    edit_manifest(copy, lambda manifest: manifest.update(compared=compared))
    model = runtime.load(copy, batch=8)

    with pytest.warns(
        UserWarning, match="'height' outside what was compared .*: expected 10 to 149, got 150"
    ) as caught:
        results = model.predict([photos["cat"]] * 3)

    assert len(caught) == 1
    assert len({result.label for result in results}) == 1
    assert model.warning_counts == {"uncompared": 3}
    assert model.plan.batch == 2


def test_a_larger_batch_than_was_compared_runs_in_parts(copy, edit_manifest, photos):
    compared = {"batch": {"lowest": 1, "highest": 2}}
    edit_manifest(copy, lambda manifest: manifest.update(compared=compared))
    model = runtime.load(copy)
    prepared = [model.prepare(Image.open(photos["cat"]).rotate(angle)) for angle in (0, 90, 180, 270, 45)]
    sizes = []
    run = model._executor.run
    model._executor.run = lambda arrays: (sizes.append(len(arrays["pixels"])), run(arrays))[1]

    (together,) = model.run(model.stack(prepared)).values()

    alone = [next(iter(model.run(model.stack([one])).values()))[0] for one in prepared]
    assert sizes[:3] == [2, 2, 1]
    np.testing.assert_allclose(together, alone, atol=1e-6)


def test_a_manifest_without_what_was_compared_promises_nothing_about_lengths(copy, edit_manifest):
    edit_manifest(copy, lambda manifest: manifest.pop("compared"))

    model = runtime.load(copy)

    assert model.manifest.compared == {}
    assert model.manifest.largest_batch is None
