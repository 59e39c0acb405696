"""Reference of the server: HTTP, gRPC and metrics, from what it registers."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from maintenance.reference.markdown import code, to_prose, to_table
from maintenance.reference.schemas import types
from runtime.server.http.openapi import build_openapi
from runtime.server.jobs import STAGES
from runtime.server.metrics import Metrics
from runtime.server.served_model import load_verified
from runtime.server.statistics import Statistics

ROOT = Path(__file__).parents[3]
ARTIFACT = ROOT / "tests" / "data" / "tiny"
PROTO = ROOT / "runtime" / "server" / "grpc" / "open_inference.proto"

_HTTP = """# HTTP

`truecopy serve ARTIFACT` listens on `http://127.0.0.1:8000`. This page is made from the server's own `/openapi.json`,
which has the exact shapes of your models; `/docs` shows it. An error of any path is `{"error": "<one sentence>"}`.
[Errors](errors.md) has the statuses.

"""
_GRPC = """# gRPC

`truecopy serve` listens on port 8001 as well, with the Open Inference Protocol (V2), `grpc.health.v1.Health` and
server reflection. The messages are those of KServe and Triton, so their clients work. [Errors](errors.md) has the
statuses.

"""
_METRICS = """# Metrics

`GET /metrics` has them in Prometheus' text format. Those that begin with `nv_` have the names and units of Triton's.
Histograms have `_bucket`, `_sum` and `_count`, counters of truecopy's own end in `_total`.

"""


def http() -> str:
    """Return the page of the HTTP API, for a model of images."""
    model = load_verified(ARTIFACT, name="{model}", device="cpu", cores=1, max_pixels=64_000_000)
    document = build_openapi({"{model}": model}, with_token=False)
    rows = [
        [f"`{method.upper()} {path}`", operation["summary"], _bodies(operation), ", ".join(operation["responses"])]
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    options = [
        [code(each["name"]), each["in"], each["schema"]["type"], each.get("description", "")]
        for path in document["paths"].values()
        for operation in path.values()
        for each in operation.get("parameters", ())
    ]
    parts = [
        _HTTP,
        to_table(["request", "", "body", "statuses"], sorted(rows, key=lambda row: row[0].split("/")[1:])),
        "\n`/invocations` is there where the server has one model.\n",
    ]
    if options:
        parts.append("\n## Parameters\n\n" + to_table(["name", "in", "type", ""], dict.fromkeys(map(tuple, options))))
    statuses = {
        status: response["description"]
        for path in document["paths"].values()
        for operation in path.values()
        for status, response in operation["responses"].items()
    }
    parts.append("\n## Statuses\n\n" + to_table(["status", ""], sorted([k, v] for k, v in statuses.items())))
    parts.append("\n## Schemas\n\n" + types(document["components"]["schemas"], level=3))
    return "".join(parts)


def _bodies(operation: Mapping[str, Any]) -> str:
    return ", ".join(code(kind) for kind in operation.get("requestBody", {}).get("content", {}))


def grpc() -> str:
    """Return the page of the gRPC service."""
    source = PROTO.read_text(encoding="utf-8")
    calls = re.findall(r"rpc (\w+)\((stream )?(\w+)\) returns \((stream )?(\w+)\)", source)
    rows = [
        [code(name), f"{sends}{code(request)}", f"{gets}{code(response)}"]
        for name, sends, request, gets, response in calls
    ]
    assert rows
    table = to_table(["call of inference.GRPCInferenceService", "request", "response"], rows)
    start = source.index("syntax =")
    return f"{_GRPC}{table}\n## Messages\n\n```proto\n{source[start:].rstrip()}\n```\n"


def metrics() -> str:
    """Return the page of the metrics, with the labels that they get when each has been counted once."""
    counted = Metrics()
    counted.add_job("model", dict.fromkeys(STAGES, 0.0), batch_size=1)
    counted.add_request("http", "200", 0.0)
    counted.add_rejection("InputError")
    counted.add_reload("model", "swapped")
    rows = []
    for family in text_string_to_metric_families(counted.to_text({"model": Statistics()}, waiting=0).decode()):
        labels = {name: None for sample in family.samples for name in sample.labels if name != "le"}
        total = "_total" if family.type == "counter" and not family.name.startswith("nv_") else ""
        if family.type == "gauge" and family.name.endswith("_created"):
            continue
        rows.append(
            [code(family.name + total), family.type, ", ".join(map(code, labels)), to_prose(family.documentation)]
        )
    return _METRICS + to_table(["metric", "type", "labels", ""], rows)
