"""Bearer tokens, request IDs, trace contexts, TLS; the access log and the metrics."""

import asyncio
import json
import os
import ssl
import subprocess
import urllib.request
from pathlib import Path

import grpc
import httpx
import pytest
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from runtime.errors import InputError
from runtime.server.access_log import AccessLog
from runtime.server.auth import BearerAuth, check_key_pair, check_pem_file, read_token
from runtime.server.context import new_context
from runtime.server.errors import TokenError
from runtime.server.grpc.messages import message_class
from runtime.server.http.app import HttpApp
from runtime.server.http.endpoints import build_endpoints
from runtime.server.limits import Limits
from runtime.server.service import Service

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.mark.parametrize("authorization", ["", "secret", "Bearer", "Bearer wrong", "Basic secret", "Bearer sécret"])
def test_only_the_token_is_accepted(authorization):
    auth = BearerAuth("secret")
    auth.check("Bearer secret")
    auth.check("bearer  secret ")
    with pytest.raises(TokenError):
        auth.check(authorization)


def test_a_request_id_that_would_break_a_log_line_is_replaced():
    for bad in ("a\nb", "x" * 129, "a b", "é"):
        assert new_context(request_id=bad, traceparent="", deadline_s=1).request_id != bad
    for bad in ("00-" + "0" * 32 + "-b7ad6b7169203331-01", TRACE.upper(), "ff" + TRACE[2:], "x"):
        assert new_context(request_id="", traceparent=bad, deadline_s=1).traceparent == ""


def call(address, method, request, credentials=None, metadata=()):
    channel = grpc.secure_channel(address, credentials) if credentials else grpc.insecure_channel(address)
    with channel:
        send = channel.unary_unary(
            f"/inference.GRPCInferenceService/{method}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=message_class(f"{method}Response").FromString,
        )
        return send(request, timeout=20, metadata=metadata)


def list_services(address, metadata=()):
    """Return the names of a server's services, which reflection lists."""
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    with grpc.insecure_channel(address) as channel:
        reflect = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo
        (response,) = reflect(iter([request]), timeout=20, metadata=metadata)
    return [service.name for service in response.list_services_response.service]


def test_a_token_is_required_everywhere_but_for_health_and_the_page(start, tiny, tmp_path, cat):
    token = tmp_path / "token"
    token.write_text("s3cret\n")
    with start(tiny, "--token-file", token) as server:
        for path in ("/v2", "/v2/models/tiny", "/metrics", "/openapi.json", "/v2/models/stats"):
            assert server.get(path).status == 401
            assert server.get(path, Authorization="Bearer s3cret").status == 200
        for path in ("/", "/docs", "/page/page.js", "/v2/health/live", "/v2/health/ready"):
            assert server.get(path).status == 200
        refused = server.post("/predict/tiny", cat)
        assert (refused.status, refused.headers["www-authenticate"]) == (401, "Bearer")
        assert "s3cret" not in refused.body.decode()
        metadata = message_class("ModelMetadataRequest")(name="tiny")
        with pytest.raises(grpc.RpcError) as caught:
            call(server.grpc, "ModelMetadata", metadata)
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        assert (
            call(server.grpc, "ModelMetadata", metadata, metadata=[("authorization", "Bearer s3cret")]).name == "tiny"
        )
        assert call(server.grpc, "ServerLive", message_class("ServerLiveRequest")()).live
        with pytest.raises(grpc.RpcError) as caught:
            list_services(server.grpc)
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        assert "inference.GRPCInferenceService" in list_services(
            server.grpc, metadata=[("authorization", "Bearer s3cret")]
        )


def test_every_path_but_those_of_health_and_the_page_asks_for_the_token():
    """Of all endpoints that there are, not of a list of them here."""
    service = Service([], limits=Limits(), workers=1)
    app = HttpApp(service, auth=BearerAuth("s3cret"), log=AccessLog("none"))
    public = {"/", "/docs", "/page/{file}", "/ping", "/v2/health/live", "/v2/health/ready"}

    async def statuses():
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://server") as client:
            return {
                endpoint.path: (await client.request(endpoint.method, endpoint.path)).status_code
                for endpoint in build_endpoints(service, with_token=True)
            }

    try:
        refused = {path: status == 401 for path, status in asyncio.run(statuses()).items()}
    finally:
        service.close()
    assert {path for path, is_refused in refused.items() if not is_refused} == public
    assert {"/invocations", "/v1/models/{model}:predict"} < refused.keys()


def test_an_empty_token_file_is_an_error(start, tiny, tmp_path):
    (tmp_path / "token").write_text("\n")
    with pytest.raises(AssertionError, match="empty"), start(tiny, "--token-file", tmp_path / "token"):
        pass


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A self-signed certificate for 127.0.0.1, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    chain, key = folder / "chain.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "2", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    try:
        subprocess.run([*command, "-keyout", str(key), "-out", str(chain)], check=True, capture_output=True, timeout=60)
    except FileNotFoundError:
        pytest.skip("openssl is not installed")
    return chain, key


def test_files_that_are_no_pair_say_what_is_wrong(certificate, tmp_path):
    chain, key = certificate
    other, locked, text = (tmp_path / name for name in ("other.pem", "locked.pem", "text.pem"))
    new = ["openssl", "genpkey", "-algorithm", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    for command in (
        [*new, "-out", str(other)],
        ["openssl", "pkey", "-in", str(key), "-aes256", "-passout", "pass:x", "-out", str(locked)],
    ):
        subprocess.run(command, check=True, capture_output=True, timeout=60)
    text.write_text("no certificate")

    check_key_pair(chain, key)
    for first, second, problem in (
        (chain, other, "do not belong together. Pass the key of the first certificate"),
        (chain, locked, "has a password, which a server cannot ask for. Write the key without one"),
        (text, key, "not a certificate chain and its key as PEM"),
        (chain, text, "not a certificate chain and its key as PEM"),
        (key, chain, "not a certificate chain and its key as PEM"),
        (chain, tmp_path / "none.pem", "cannot be read: No such file or directory"),
    ):
        with pytest.raises(InputError, match=problem):
            check_key_pair(first, second)


def test_tls_by_certificate_files(start, tiny, certificate):
    chain, key = certificate
    with start(tiny, "--tls-cert", chain, "--tls-key", key) as server:
        assert server.url.startswith("https://")
        trust = ssl.create_default_context(cafile=str(chain))
        with urllib.request.urlopen(f"{server.url}/v2/health/ready", context=trust, timeout=20) as response:  # noqa: S310
            assert json.load(response) == {"ready": True}
        credentials = grpc.ssl_channel_credentials(chain.read_bytes())
        assert call(server.grpc, "ServerReady", message_class("ServerReadyRequest")(), credentials).ready


def test_the_log_has_one_line_per_request(server, cat):
    response = server.post("/predict/tiny", cat, X_Request_Id="log-1", traceparent=TRACE)
    row = server.line_of("log-1")

    assert response.headers["x-request-id"] == "log-1"
    assert response.headers["traceparent"] == TRACE
    assert row["trace_id"] == "0af7651916cd43dd8448eb211c80319c"
    assert (row["path"], row["status"], row["front"]) == ("/predict/tiny", 200, "http")
    assert {"queue_ms", "decode_ms", "geometry_ms", "network_ms", "time", "ms"} <= row.keys()


def test_metrics_count_what_happened(start, tiny, cat):
    with start(tiny) as server:
        for _ in range(3):
            server.post("/predict/tiny", cat)
        server.post("/predict/tiny", b"garbage")
        server.post("/predict/nope", cat)
        text = server.get("/metrics").body.decode()

    lines = dict(line.rsplit(" ", 1) for line in text.splitlines() if line and not line.startswith("#"))
    labels = '{model="tiny",version="1"}'
    assert lines[f"nv_inference_request_success{labels}"] == "3"
    assert lines[f"nv_inference_request_failure{labels}"] == "1"
    assert lines[f"nv_inference_count{labels}"] == "3"
    assert int(lines[f"nv_inference_compute_infer_duration_us{labels}"]) > 0
    assert lines['truecopy_network_seconds_count{model="tiny"}'] == "3.0"
    assert lines['truecopy_batch_size_bucket{le="1.0",model="tiny"}'] == "3.0"
    assert lines['truecopy_rejected_total{reason="NotFoundError"}'] == "1.0"
    assert float(lines["process_resident_memory_bytes"]) > 1e7


def test_prometheus_reads_the_page(server):
    from prometheus_client.parser import text_string_to_metric_families

    families = {family.name for family in text_string_to_metric_families(server.get("/metrics").body.decode())}

    assert {"nv_inference_request_success", "truecopy_queue_seconds", "truecopy_rejected"} <= families


@pytest.mark.parametrize(
    ("data", "reason"),
    [(None, "cannot be read"), (b"\xff", "expected UTF-8"), (b" \n", "empty"), (bytes(2**21), "large")],
)
def test_a_token_file_that_is_none_is_refused(tmp_path, data, reason):
    path = tmp_path / "token"
    if data is not None:
        path.write_bytes(data)

    with pytest.raises(InputError, match=reason):
        read_token(path)


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="needs the device")
def test_a_device_that_never_ends_is_neither_a_token_nor_a_certificate():
    with pytest.raises(InputError, match="too large"):
        read_token(Path("/dev/zero"))
    with pytest.raises(InputError, match="--tls-key '/dev/zero': no such file"):
        check_pem_file(Path("/dev/zero"), "--tls-key")


def test_a_token_comes_out_of_a_pipe():
    """As a shell has it: --token-file <(pass show token)."""
    reader, writer = os.pipe()
    os.write(writer, b"secret\n")
    os.close(writer)

    assert read_token(Path(f"/dev/fd/{reader}")) == "secret"
