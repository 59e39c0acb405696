"""Kubernetes resources against KServe's SDK models: `FILE...`, prints ok.

Every object is made as the class of the SDK, which refuses what is missing or of the wrong type; a field that
the class does not know is refused here.
"""

import re
import sys
from pathlib import Path

import kserve
import yaml
from kubernetes import client

MODELS = {
    ("serving.kserve.io/v1alpha1", "ServingRuntime"): "V1alpha1ServingRuntime",
    ("serving.kserve.io/v1beta1", "InferenceService"): "V1beta1InferenceService",
}

API = client.ApiClient()


def build(kind, value, path):
    """Return ``value`` as the SDK has it; ``kind`` is how the SDK names its type."""
    if (inner := re.fullmatch(r"list\[(.+)\]", kind)) is not None:
        return [build(inner[1], item, f"{path}[{number}]") for number, item in enumerate(value)]
    if (inner := re.fullmatch(r"dict\(str, (.+)\)", kind)) is not None:
        return {key: build(inner[1], item, f"{path}.{key}") for key, item in value.items()}
    model = getattr(kserve, kind, None) or getattr(client, kind, None)
    if model is None:
        plain = {"str": str, "int": int, "bool": bool, "float": float, "object": object}[kind]
        assert isinstance(value, plain), f"{path}: expected {kind}, got {value!r}"
        return value
    if hasattr(model, "from_dict"):  # Kubernetes' own, which reads whole trees
        resource = model.from_dict(value)
        serialized = API.sanitize_for_serialization(resource)
        assert serialized == value, f"{path}: {kind} has {serialized}, not {value}"
        return resource
    attributes = {key: attribute for attribute, key in model.attribute_map.items()}
    unknown = value.keys() - attributes.keys()
    assert not unknown, f"{path}: {kind} has no field {sorted(unknown)}"
    return model(
        **{
            attributes[key]: build(model.openapi_types[attributes[key]], item, f"{path}.{key}")
            for key, item in value.items()
        }
    )


for file in sys.argv[1:]:
    resource = yaml.safe_load(Path(file).read_text(encoding="utf-8"))
    build(MODELS[resource["apiVersion"], resource["kind"]], resource, Path(file).name)
print("ok")
