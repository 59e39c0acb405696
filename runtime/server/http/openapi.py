"""OpenAPI document of a server, with its models' shapes, labels and results."""

import inspect
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np

from runtime.manifest import Manifest
from runtime.outputs.registry import open_interpreter, result_types
from runtime.results import Failure
from runtime.server.open_inference.requests import output_specs
from runtime.server.open_inference.tensors import TensorSpec
from runtime.server.payloads import (
    body_media_types,
    encoded_inputs,
    input_specs,
    kind_of,
    parts_of,
    schema_of,
    table_types,
)
from runtime.server.served_model import ServedModel
from runtime.version import package_version

Json = dict[str, Any]

_JSON = "application/json"
_SCHEMAS = "#/components/schemas/"

# Labels that a model's description lists: enough to recognize them; a document with thousands opens slowly.
_EXAMPLE_LABELS = 5

_MEANINGS = {
    "top_k": "Number of classes to list for each input.",
    "threshold": "Lowest probability of a label; below it, 'unknown'. Default: the artifact's own.",
}

_ERRORS = {
    "400": "The request is wrong; the message says what was expected.",
    "401": "The bearer token is missing or wrong.",
    "404": "There is no such model or version.",
    "413": "The body or the number of inputs is above the limit.",
    "415": "The content type or encoding is not supported.",
    "429": "The queue is full: try again after the seconds in Retry-After.",
    "503": "The server is starting or stopping.",
    "504": "The deadline passed before the response was ready.",
}

_ERROR: Json = {
    "type": "object",
    "required": ["error"],
    "properties": {"error": {"type": "string"}},
}

_STATISTICS: Json = {
    "type": "object",
    "required": ["model_stats"],
    "properties": {"model_stats": {"type": "array", "items": {"type": "object"}}},
}


_MODELS: Json = {
    "type": "object",
    "required": ["models"],
    "properties": {"models": {"type": "array", "items": {"type": "string"}}},
}


def build_openapi(models: Mapping[str, ServedModel], *, with_token: bool, root_path: str = "") -> Json:
    """Return the document: one set of paths per model, and those of the server, behind ``root_path`` at a proxy."""
    paths: Json = {
        "/v2": {"get": _operation("Server metadata", "Open Inference Protocol", _object("name", "version"))},
        "/v2/health/live": {"get": _operation("Is the process alive?", "Health", _flag("live"), public=True)},
        "/v2/health/ready": {
            "get": _operation(
                "Does the server accept requests?", "Health", _flag("ready"), public=True, also={"503": _flag("ready")}
            )
        },
        "/ping": {
            "get": _operation(
                "Does the server accept requests?", "Health", _flag("ready"), public=True, also={"503": _flag("ready")}
            )
        },
        "/v1/models": {"get": _operation("Names of the models", "Predict", _MODELS)},
        "/v2/models/stats": {"get": _operation("Statistics of all models", "Open Inference Protocol", _STATISTICS)},
        "/metrics": {"get": _metrics_operation()},
    }
    for name, model in models.items():
        paths |= _model_paths(name, model)
    document: Json = {
        "openapi": "3.1.0",
        "info": {"title": "truecopy", "version": package_version(), "description": "Models served by truecopy."},
        "paths": paths,
        "components": {"schemas": {"Error": _ERROR, **_result_schemas()}},
    }
    if len(models) == 1:  # '/invocations' names no model
        paths["/invocations"] = {"post": _predict_operation(*next(iter(models.items())))}
    if root_path:
        document["servers"] = [{"url": root_path}]
    if with_token:
        document["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{"token": []}]
    return document


def _result_schemas() -> Json:
    """Return the schemas of the results of all tasks, by name."""

    def schema_of_array(kind: type) -> Json:
        if kind is not np.ndarray:
            raise NotImplementedError(kind)
        return {"type": "array", "description": "Nested lists, one level per dimension."}

    _, schemas = msgspec.json.schema_components(
        [*result_types(), Failure], schema_hook=schema_of_array, ref_template=_SCHEMAS + "{name}"
    )
    for schema in schemas.values():
        schema["description"] = inspect.cleandoc(schema["description"]).replace("``", "`")
        schema["properties"] = {
            field: value for field, value in schema["properties"].items() if not value.get("writeOnly")
        }
        schema["required"] = [field for field in schema["required"] if field in schema["properties"]]
    return schemas


def _model_paths(name: str, model: ServedModel) -> Json:
    metadata = _operation(f"Metadata of '{name}'", "Open Inference Protocol", _object("name", "platform"))
    statistics = _operation(f"Statistics of '{name}'", "Open Inference Protocol", _STATISTICS)
    ready = _operation(f"Is '{name}' ready?", "Open Inference Protocol", _flag("ready"), also={"503": _flag("ready")})
    return {
        f"/predict/{name}": {"post": _predict_operation(name, model)},
        f"/v1/models/{name}:predict": {"post": _predict_operation(name, model)},
        f"/v1/models/{name}": {"get": ready},
        f"/v2/models/{name}": {"get": metadata},
        f"/v2/models/{name}/ready": {"get": ready},
        f"/v2/models/{name}/stats": {"get": statistics},
        f"/v2/models/{name}/infer": {"post": _infer_operation(name, model)},
    }


def _predict_operation(name: str, model: ServedModel) -> Json:
    manifest, labels = model.manifest, model.single_threaded.labels
    result_type = open_interpreter(manifest.task).result_type
    results = {"anyOf": [{"$ref": _SCHEMAS + kind.__name__} for kind in (result_type, Failure)]}
    response = {
        "type": "object",
        "required": ["model", "predictions"],
        "properties": {"model": {"const": name}, "predictions": {"type": "array", "minItems": 1, "items": results}},
    }
    options: Json = {
        "top_k": {"type": "integer", "minimum": 1, "default": 5},
        "threshold": {"type": "number", "minimum": 0, "maximum": 1},
    }
    examples = ", ".join(f"'{label}'" for label in labels[:_EXAMPLE_LABELS])
    more = ", ..." if len(labels) > _EXAMPLE_LABELS else ""
    operation = _operation(
        f"Predict with '{name}' (task {manifest.task.kind}, input {kind_of(manifest)})",
        "Predict",
        response,
        description=f"{len(labels)} labels: {examples}{more}." if labels else "",
        also=_errors(),
    )
    operation["requestBody"] = {"required": True, "content": _predict_content(manifest, options)}
    operation["parameters"] = [
        {"name": field, "in": "query", "description": _MEANINGS[field], "schema": schema}
        for field, schema in options.items()
    ]
    return operation


def _predict_content(manifest: Manifest, options: Json) -> Json:
    """Return the bodies of a prediction by media type."""
    source = schema_of(manifest)
    many = {"type": "array", "minItems": 1, "items": source}
    bodies = [
        {
            "type": "object",
            "required": [field],
            "additionalProperties": False,
            "properties": {field: value, **options},
        }
        for field, value in (("input", source), ("inputs", many), ("instances", many))
    ]
    form = {
        "type": "object",
        "required": list(parts_of(manifest)) or ["file"],
        "properties": {name: {"type": "string", "format": "binary"} for name in parts_of(manifest) or ("file",)},
    }
    content: Json = {_JSON: {"schema": {"oneOf": bodies}}, "multipart/form-data": {"schema": form}}
    for media in (*body_media_types(manifest), *table_types(manifest)):
        content[media] = {"schema": {"type": "string", "format": "binary"}}
    return content


def _infer_operation(name: str, model: ServedModel) -> Json:
    operation = _operation(
        f"Run '{name}' on tensors", "Open Inference Protocol", _infer_response(name, model.manifest), also=_errors()
    )
    schema = _infer_request(model.manifest)
    operation["requestBody"] = {"required": True, "content": {_JSON: {"schema": schema}}}
    return operation


def _infer_request(manifest: Manifest) -> Json:
    specs = input_specs(manifest)
    encoded = {"type": "array", "minItems": 1, "items": {"type": "string", "contentEncoding": "base64"}}
    tensors = [_tensor(spec, {"type": "array"}) for spec in specs]
    tensors += [
        _tensor(TensorSpec(name=name, datatype="BYTES", shape=(-1,)), encoded)
        for name in sorted(encoded_inputs(manifest))
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
                        "name": {"enum": [output.name for output in output_specs(manifest)]},
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
                    "timeout": {"type": "integer", "minimum": 0, "description": "Deadline in microseconds."},
                },
            },
        },
    }


def _infer_response(name: str, manifest: Manifest) -> Json:
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
                        "name": {"enum": [output.name for output in output_specs(manifest)]},
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


def _metrics_operation() -> Json:
    operation = _operation("Metrics for Prometheus", "Operators", {})
    operation["responses"]["200"]["content"] = {"text/plain": {"schema": {"type": "string"}}}
    return operation


def _operation(
    summary: str,
    tag: str,
    schema: Json,
    *,
    description: str = "",
    public: bool = False,
    also: Json | None = None,
) -> Json:
    operation: Json = {
        "summary": summary,
        "tags": [tag],
        "responses": {
            "200": {"description": "The result.", "content": {_JSON: {"schema": schema}}},
            **{
                status: entry
                if "description" in entry
                else {"description": "Not ready.", "content": {_JSON: {"schema": entry}}}
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
    content = {_JSON: {"schema": {"$ref": "#/components/schemas/Error"}}}
    return {status: {"description": text, "content": content} for status, text in _ERRORS.items()}


def _object(*names: str) -> Json:
    return {"type": "object", "required": list(names), "properties": {name: {"type": "string"} for name in names}}


def _flag(name: str) -> Json:
    return {"type": "object", "required": [name], "properties": {name: {"type": "boolean"}}}
