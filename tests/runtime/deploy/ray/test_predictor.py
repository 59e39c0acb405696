"""The callable for Ray Data: columns in, columns out; called here as Ray calls it, and once by Ray itself."""

import pickle
import subprocess
import sys

import numpy as np
import pytest

import runtime
from runtime.errors import ArtifactError, InputError

pytest.importorskip("ray", reason="the extra 'ray' is not installed")

from runtime.deploy.artifact_copies import artifact_digest
from runtime.deploy.ray import Predictor


@pytest.fixture
def predictor(tiny):
    return Predictor(tiny, workers=1)


def test_every_column_stays_and_an_input_without_an_answer_has_an_error(predictor, photos):
    cat = photos["cat"].read_bytes()
    batch = {"bytes": np.array([cat, b"damaged", cat], dtype=object), "number": np.arange(3)}

    columns = Predictor(predictor._artifact, column="bytes", workers=1)(batch)

    assert list(columns) == ["bytes", "number", "label", "index", "probability", "top", "error"]
    assert columns["number"].tolist() == [0, 1, 2]
    assert columns["label"].tolist() == ["cat", None, "cat"]
    assert "#2" in columns["error"][1]
    assert columns["error"][0] is None
    assert columns["top"][0][0]["label"] == "cat"


def test_arrays_of_pixels_are_inputs(predictor, tiny, photos):
    from PIL import Image

    pixels = np.stack([np.asarray(Image.open(photos[name]).convert("RGB").resize((64, 48))) for name in photos])
    with runtime.load(tiny) as model:
        expected = [model.predict(one).probability for one in pixels]

    assert predictor({"image": pixels})["probability"].tolist() == expected


def test_a_column_that_is_there_already_is_not_overwritten(predictor, photos):
    batch = {"path": np.array([str(photos["cat"])], dtype=object), "label": np.array(["dog"], dtype=object)}

    with pytest.raises(InputError, match="column 'label': already exists in the batch"):
        predictor(batch)
    columns = Predictor(predictor._artifact, prefix="predicted_", workers=1)(batch)
    assert (columns["label"][0], columns["predicted_label"][0]) == ("dog", "cat")


def test_it_is_pickled_without_its_model(predictor, photos):
    batch = {"path": [str(photos["cat"])]}
    first = predictor(batch)

    again = pickle.loads(pickle.dumps(predictor))  # noqa: S301
    assert again(batch)["probability"].tolist() == first["probability"].tolist()


def test_another_version_of_the_artifact_is_refused(tiny):
    assert Predictor(tiny, sha256=artifact_digest(tiny), workers=1).model
    with pytest.raises(ArtifactError, match=f"another version of the artifact: .* SHA-256 {'0' * 64}, got "):
        Predictor(tiny, sha256="0" * 64, workers=1).model  # noqa: B018


def test_an_artifact_behind_a_url_is_fetched_once_and_verified(tiny, copy, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    url = f"file://{copy}"

    assert Predictor(url, workers=1).model.manifest.name == "tiny"
    (folder,) = (path for path in tmp_path.glob("truecopy-artifacts-*/*") if path.is_dir())
    assert folder.name == artifact_digest(tiny)
    (copy / "weights.bin").unlink()  # the copy that was fetched is used again
    assert Predictor(url, workers=1).model


def test_a_damaged_file_behind_a_url_leaves_no_copy(copy, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with (copy / "weights.bin").open("r+b") as stream:
        stream.write(b"damaged!")

    with pytest.raises(ArtifactError, match="damaged"):
        Predictor(f"file://{copy}", workers=1).model  # noqa: B018
    assert not [path for path in tmp_path.glob("truecopy-artifacts-*/*") if path.is_dir()]


@pytest.mark.slow
def test_ray_data_runs_it_with_as_many_workers_as_its_actor_has_cores(tiny, photos):
    program = f"""
from runtime.deploy.ray.cluster import open_cluster
from runtime.deploy.ray.predictor import Predictor

class Counted(Predictor):
    def __call__(self, batch):
        plan = self.model.plan
        return {{**super().__call__(batch), "plan": [f"{{plan.workers}}x{{plan.threads}}"] * len(batch["path"])}}

with open_cluster(None, cores=3) as ray:
    dataset = ray.data.from_items([{{"path": path}} for path in {[str(path) for path in photos.values()]}])
    rows = dataset.map_batches(Counted, fn_constructor_kwargs={{"artifact": {str(tiny)!r}}}, num_cpus=2).take_all()
print(sorted((row["label"], row["plan"], row["error"]) for row in rows))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=120)

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == str([(label, "2x1", None) for label in sorted(photos)])
