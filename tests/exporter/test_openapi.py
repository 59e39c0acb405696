"""Responses of every task, and the requests for them, against the server's own OpenAPI document."""

import base64
import json
from copy import deepcopy

import pytest
from jsonschema import Draft202012Validator, ValidationError
from oip_table.target import Request
from support.kinds import NAMES, kinds_in
from support.serving import DATA, serving

PHOTO = base64.b64encode((DATA / "cat.jpg").read_bytes()).decode()
INPUTS = {
    "rows": {"age": 30.5, "rooms": 2, "city": "Oslo"},
    "text": "it is good",
    "left": "it is good",
    "pair": ["good", "very good"],
    "tokens": [4, 5, 6],
    "segment": PHOTO,
    "multilabel": PHOTO,
    "binary": PHOTO,
    "regress": PHOTO,
    "raw": {"x": [0.5] * 5, "weight": [1.0, 2.0, 3.0]},
}
BAD = {"rows": {"age": "x"}, "raw": {}, "tokens": [99], "pair": ["one"]}
RESULTS = {
    "rows": "Estimate",
    "text": "Prediction",
    "left": "Prediction",
    "pair": "LabelSet",
    "tokens": "TokenSequence",
    "segment": "Segmentation",
    "multilabel": "LabelSet",
    "binary": "Prediction",
    "regress": "Estimate",
    "raw": "Outputs",
}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kinds")
    artifacts = {name: kind.export().artifact for name, kind in kinds_in(folder).items()}
    with serving(*(f"{name}={path}" for name, path in artifacts.items()), "--grpc-port", -1) as running:
        yield running


@pytest.fixture(scope="module")
def document(server):
    return server.get("/openapi.json").json


def operation(document, path):
    return document["paths"][path]["post"]


def validator_of(document, schema):
    """Return a validator of a schema, whose references are those of the document."""
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator({**schema, "components": document["components"]})


def response_validator(document, path, status="200"):
    content = operation(document, path)["responses"][status]["content"]
    return validator_of(document, content["application/json"]["schema"])


def predict(server, name, body):
    return server.post(f"/predict/{name}", json.dumps(body).encode(), Content_Type="application/json")


def test_every_kind_is_tested():
    assert INPUTS.keys() == RESULTS.keys() == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_responses_are_as_the_document_says(server, document, name):
    path = f"/predict/{name}"
    single = predict(server, name, {"input": INPUTS[name]})
    several = predict(server, name, {"inputs": [INPUTS[name], BAD.get(name, " ")]})

    validator = response_validator(document, path)
    schemas = document["components"]["schemas"]
    for response in (single, several):
        assert response.status == 200, response.body
        validator.validate(response.json)
    result, failure = several.json["predictions"]
    assert result.keys() <= schemas[RESULTS[name]]["properties"].keys()
    assert set(schemas[RESULTS[name]]["required"]) <= result.keys()
    assert failure.keys() == schemas["Failure"]["properties"].keys()
    refused = predict(server, name, {"input": BAD.get(name, " ")})
    assert refused.status == 400
    response_validator(document, path, "400").validate(refused.json)


@pytest.mark.parametrize("name", NAMES)
def test_a_result_without_a_required_field_is_not_valid(server, document, name):
    validator = response_validator(document, f"/predict/{name}")
    response = predict(server, name, {"input": INPUTS[name]}).json
    required = document["components"]["schemas"][RESULTS[name]]["required"]
    assert set(required) > {"input"}
    for field in required:
        damaged = deepcopy(response)
        del damaged["predictions"][0][field]
        with pytest.raises(ValidationError):
            validator.validate(damaged)


@pytest.mark.parametrize("name", NAMES)
def test_requests_are_as_the_document_says(document, name):
    content = operation(document, f"/predict/{name}")["requestBody"]["content"]
    validator = validator_of(document, content["application/json"]["schema"])

    validator.validate({"input": INPUTS[name], "top_k": 2})
    validator.validate({"inputs": [INPUTS[name]] * 2, "threshold": 0.5})
    with pytest.raises(ValidationError):
        validator.validate({"input": INPUTS[name], "inputs": [INPUTS[name]]})
    with pytest.raises(ValidationError):
        validator.validate({"input": INPUTS[name], "unknown": 1})


def test_tensors_are_as_the_document_says(server, document):
    tensors = [
        {"name": "x", "datatype": "FP32", "shape": [1, 5], "data": [0.5] * 5},
        {"name": "weight", "datatype": "FP32", "shape": [1, 3], "data": [1.0, 2.0, 3.0]},
    ]
    path = "/v2/models/raw/infer"
    schema = operation(document, path)["requestBody"]["content"]["application/json"]["schema"]
    validator_of(document, schema).validate({"inputs": tensors})
    response = server.send(Request(method="POST", path=path, body=json.dumps({"inputs": tensors}).encode()))

    assert response.status == 200, response.body
    validator = response_validator(document, path)
    validator.validate(response.json)
    with pytest.raises(ValidationError):
        validator.validate({**response.json, "outputs": [{"name": "unknown", "datatype": "FP32", "shape": [1]}]})
