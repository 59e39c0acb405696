"""The server's OpenAPI document, with the names, shapes and labels of the models that it serves."""

from collections.abc import Mapping
from typing import Any

from runtime.server.open_inference.requests import output_specs
from runtime.server.open_inference.tensors import TensorSpec
from runtime.server.payloads import encoded_inputs, input_specs, kind_of, schema_of, task_of
from runtime.server.served_model import ServedModel
from runtime.server.version import server_version

Json = dict[str, Any]

# Enough labels to show what they are; a document with thousands of them opens slowly.
_EXAMPLE_LABELS = 5

_ERRORS = {
    "400": "The request is wrong; the message says what was expected.",
    "401": "The bearer token is missing or wrong.",
    "404": "There is no such model or version.",
    "413": "The body or the number of inputs is above the limit.",
    "415": "The content type or encoding is not taken.",
    "429": "The queue is full: try again after the seconds in Retry-After.",
    "503": "The server is starting or stopping.",
    "504": "The deadline passed before the answer was ready.",
}

_ERROR: Json = {
    "type": "object",
    "required": ["error"],
    "properties": {"error": {"type": "string"}},
}

_SCORED: Json = {
    "type": "object",
    "required": ["label", "index", "probability"],
    "properties": {
        "label": {"type": "string"},
        "index": {"type": "integer", "minimum": 0},
        "probability": {"type": "number"},
    },
}

_PREDICTION: Json = {
    "type": "object",
    "required": ["input", "label", "index", "probability", "top"],
    "properties": {
        "input": {"type": "string"},
        "label": {"type": "string", "description": "The best class, or 'unknown' below the threshold."},
        "index": {"type": "integer", "minimum": -1},
        "probability": {"type": "number"},
        "top": {"type": "array", "items": {"$ref": "#/components/schemas/ScoredLabel"}},
    },
}

# What other tasks than classify answer; their rows have fields of their own.
_ROW: Json = {"type": "object", "required": ["input"], "properties": {"input": {"type": "string"}}}

_FAILURE: Json = {
    "type": "object",
    "required": ["input", "error"],
    "properties": {"input": {"type": "string"}, "error": {"type": "string"}},
}

_STATISTICS: Json = {
    "type": "object",
    "required": ["model_stats"],
    "properties": {"model_stats": {"type": "array", "items": {"type": "object"}}},
}


def build_openapi(models: Mapping[str, ServedModel], *, with_token: bool) -> Json:
    """Return the document: one set of paths a model, and those of the server."""
    paths: Json = {
        "/v2": {"get": _operation("Server metadata", "Open Inference Protocol", _object("name", "version"))},
        "/v2/health/live": {"get": _operation("Is the process alive?", "Health", _flag("live"), public=True)},
        "/v2/health/ready": {
            "get": _operation(
                "Does it take requests?", "Health", _flag("ready"), public=True, also={"503": _flag("ready")}
            )
        },
        "/v2/models/stats": {"get": _operation("Statistics of all models", "Open Inference Protocol", _STATISTICS)},
        "/metrics": {"get": _operation("For Prometheus", "Operators", {"type": "string"}, media="text/plain")},
    }
    for name, loaded in models.items():
        paths |= _paths_of(name, loaded)
    document: Json = {
        "openapi": "3.1.0",
        "info": {"title": "truecopy", "version": server_version(), "description": "Models served by truecopy."},
        "paths": paths,
        "components": {
            "schemas": {"Error": _ERROR, "ScoredLabel": _SCORED, "Prediction": _PREDICTION, "Failure": _FAILURE}
        },
    }
    if with_token:
        document["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{"token": []}]
    return document


def _paths_of(name: str, loaded: ServedModel) -> Json:
    task = task_of(loaded.manifest)
    row = {"$ref": "#/components/schemas/Prediction"} if task == "classify" else _ROW
    rows = {"anyOf": [row, {"$ref": "#/components/schemas/Failure"}]}
    predictions = {
        "type": "object",
        "required": ["model", "predictions"],
        "properties": {"model": {"const": name}, "predictions": {"type": "array", "minItems": 1, "items": rows}},
    }
    one = schema_of(loaded.manifest)
    kind = kind_of(loaded.manifest)
    options: Json = {
        "top_k": {"type": "integer", "minimum": 1, "default": 5},
        "threshold": {"type": "number", "minimum": 0, "maximum": 1, "default": 0},
    }
    body: Json = {
        "application/json": {
            "schema": {
                "oneOf": [
                    {
                        "type": "object",
                        "required": [field],
                        "additionalProperties": False,
                        "properties": {field: value, **options},
                    }
                    for field, value in (("input", one), ("inputs", {"type": "array", "minItems": 1, "items": one}))
                ]
            }
        },
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["file"],
                "properties": {"file": {"type": "string", "format": "binary"}},
            }
        },
    }
    for media in {"image": ("image/*", "application/octet-stream"), "text": ("text/plain",)}.get(kind, ()):
        body[media] = {"schema": {"type": "string", "format": "binary"}}
    labels = ", ".join(f"'{label}'" for label in loaded.narrow.labels[:_EXAMPLE_LABELS])
    count = len(loaded.narrow.labels)
    predict = _operation(
        f"Predict with '{name}': {task} of {kind}",
        "Predict",
        predictions,
        description=f"{count} labels: {labels}{', ...' if count > _EXAMPLE_LABELS else ''}." if count else "",
        also=_errors(),
    )
    predict["requestBody"] = {"required": True, "content": body}
    predict["parameters"] = [{"name": field, "in": "query", "schema": schema} for field, schema in options.items()]
    infer = _operation(
        f"Run '{name}' on tensors", "Open Inference Protocol", _infer_answer(name, loaded), also=_errors()
    )
    infer["requestBody"] = {"required": True, "content": {"application/json": {"schema": _infer_request(loaded)}}}
    metadata = _operation(f"Metadata of '{name}'", "Open Inference Protocol", _object("name", "platform"))
    statistics = _operation(f"Statistics of '{name}'", "Open Inference Protocol", _STATISTICS)
    ready = _operation(f"Is '{name}' ready?", "Open Inference Protocol", _flag("ready"), also={"503": _flag("ready")})
    return {
        f"/predict/{name}": {"post": predict},
        f"/v2/models/{name}": {"get": metadata},
        f"/v2/models/{name}/ready": {"get": ready},
        f"/v2/models/{name}/stats": {"get": statistics},
        f"/v2/models/{name}/infer": {"post": infer},
    }


def _infer_request(loaded: ServedModel) -> Json:
    specs = input_specs(loaded.manifest)
    encoded = {"type": "array", "minItems": 1, "items": {"type": "string", "contentEncoding": "base64"}}
    tensors = [_tensor(spec, {"type": "array"}) for spec in specs]
    tensors += [
        _tensor(TensorSpec(name=name, datatype="BYTES", shape=(-1,)), encoded)
        for name in sorted(encoded_inputs(loaded.manifest))
    ]
    return {
        "type": "object",
        "required": ["inputs"],
        "properties": {
            "id": {"type": "string"},
            "inputs": {
                "type": "array",
                "minItems": len(specs),
                "maxItems": len(specs),
                "items": {"oneOf": tensors},
            },
            "outputs": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["name"],
                    "properties": {
                        "name": {"enum": [output.name for output in output_specs(loaded.manifest)]},
                        "parameters": {
                            "type": "object",
                            "properties": {
                                "binary_data": {"type": "boolean"},
                                "classification": {"type": "integer", "minimum": 0},
                            },
                        },
                    },
                },
            },
            "parameters": {
                "type": "object",
                "properties": {
                    "binary_data_output": {"type": "boolean"},
                    "timeout": {"type": "integer", "minimum": 0, "description": "In microseconds."},
                },
            },
        },
    }


def _infer_answer(name: str, loaded: ServedModel) -> Json:
    return {
        "type": "object",
        "required": ["model_name", "model_version", "outputs"],
        "properties": {
            "model_name": {"const": name},
            "model_version": {"type": "string"},
            "id": {"type": "string"},
            "outputs": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["name", "datatype", "shape"],
                    "properties": {
                        "name": {"enum": [output.name for output in output_specs(loaded.manifest)]},
                        "datatype": {"type": "string"},
                        "shape": {"type": "array", "items": {"type": "integer"}},
                        "data": {"type": "array"},
                    },
                },
            },
        },
    }


def _tensor(spec: TensorSpec, data: Json) -> Json:
    lengths = [{"type": "integer", "minimum": 1} if length == -1 else {"const": length} for length in spec.shape]
    return {
        "type": "object",
        "required": ["name", "datatype", "shape", "data"],
        "properties": {
            "name": {"const": spec.name},
            "datatype": {"const": spec.datatype},
            "shape": {"type": "array", "prefixItems": lengths, "minItems": len(lengths), "maxItems": len(lengths)},
            "data": data,
            "parameters": {"type": "object"},
        },
    }


def _operation(
    summary: str,
    tag: str,
    schema: Json,
    *,
    media: str = "application/json",
    description: str = "",
    public: bool = False,
    also: Json | None = None,
) -> Json:
    operation: Json = {
        "summary": summary,
        "tags": [tag],
        "responses": {
            "200": {"description": "The answer.", "content": {media: {"schema": schema}}},
            **{
                status: entry
                if "description" in entry
                else {"description": "Not now.", "content": {"application/json": {"schema": entry}}}
                for status, entry in (also or {}).items()
            },
        },
    }
    if description:
        operation["description"] = description
    if public:
        operation["security"] = []
    else:
        operation["responses"].setdefault("401", _errors()["401"])
    return operation


def _errors() -> Json:
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    return {status: {"description": text, "content": content} for status, text in _ERRORS.items()}


def _object(*names: str) -> Json:
    return {"type": "object", "required": list(names), "properties": {name: {"type": "string"} for name in names}}


def _flag(name: str) -> Json:
    return {"type": "object", "required": [name], "properties": {name: {"type": "boolean"}}}
