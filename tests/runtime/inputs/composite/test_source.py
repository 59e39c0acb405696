"""Parts of an input in the rows of tables: columns of their names, and those of a row in the table's own."""

import base64
import json
from pathlib import Path

import pytest

from runtime.errors import InputError
from runtime.inputs.registry import open_payload, source_format_of
from runtime.manifest import Column, ImageInput, Preprocessing, TabularInput, TensorInput

PREPROCESSING = Preprocessing(geometry=(), arithmetic=(), height=2, width=2, channels=3)
PHOTO = ImageInput(name="photo", mode="RGB", exif=False, preprocessing=PREPROCESSING)
ROW = TabularInput(name="row", columns=(Column(name="age", dtype="float32"), Column(name="city", dtype="string")))
OTHER = TabularInput(name="other", columns=(Column(name="age", dtype="float32"),))
WAVE = TensorInput(name="wave", dtype="float32", shape=("batch", 2))
CELLS = {"age": 3, "city": "Bern"}


def read(specs, row, folder=Path("tables")):
    return source_format_of(specs).rows_in(folder)(row, None, "t.csv#1")[1]


def test_a_path_is_relative_to_the_tables_folder_and_a_row_has_the_tables_columns():
    assert read([PHOTO, ROW], {"photo": "a.jpg", **CELLS}) == {"photo": Path("tables/a.jpg"), "row": CELLS}
    assert read([PHOTO, ROW], {"photo": "/a.jpg", "row": CELLS}) == {"photo": Path("/a.jpg"), "row": CELLS}
    assert read([PHOTO, WAVE], {"photo": b"JPEG", "wave": [1, 2]}) == {"photo": b"JPEG", "wave": [1, 2]}


def test_columns_of_one_name_have_the_name_of_their_part_before_them():
    row = {"row.age": 1, "other.age": 2, "city": "Oslo"}

    assert read([ROW, OTHER], row) == {"row": {"age": 1, "city": "Oslo"}, "other": {"age": 2}}


def test_what_is_no_part_is_left_to_the_decoder_which_names_it():
    assert read([PHOTO, ROW], {"photo": "a.jpg", **CELLS, "note": 1})["note"] == 1


def test_a_cell_that_is_no_part_is_the_error_of_its_row_alone():
    assert isinstance(read([PHOTO, ROW], {"photo": "", **CELLS})["photo"], InputError)
    assert "behind a URL" in str(read([PHOTO, ROW], {"photo": "s3://bucket/a.jpg", **CELLS})["photo"])


def test_the_tensors_of_all_parts_have_names_of_their_own():
    payload = open_payload([PHOTO, ROW, WAVE])

    assert [tensor.name for tensor in payload.tensors()] == ["photo", "row.age", "row.city", "wave"]
    assert payload.encoded_inputs == {"photo"}


def test_a_value_of_a_request_is_never_a_path():
    payload = open_payload([PHOTO, ROW, WAVE])
    encoded = base64.b64encode(b"JPEG").decode()

    assert payload.from_json({"photo": encoded, "row": CELLS, "wave": [1, 2]}, "'#0'")["photo"] == b"JPEG"
    with pytest.raises(InputError, match="part 'photo': not base64"):
        payload.from_json({"photo": "/etc/passwd.jpg", "row": CELLS}, "'#0'")
    with pytest.raises(InputError, match="part 'wave': expected numbers in nested lists"):
        payload.from_json({"wave": "wave.npy"}, "'#0'")
    assert payload.to_json({"photo": b"JPEG", "row": json.dumps(CELLS).encode()}) == {"photo": encoded, "row": CELLS}
