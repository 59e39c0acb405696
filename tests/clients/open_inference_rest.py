"""open-inference-openapi, the client that is generated from the protocol's own OpenAPI document."""

import base64
import sys
from pathlib import Path

from open_inference.openapi import InferenceRequest, RequestInput
from open_inference.openapi.client import OpenInferenceClient
from open_inference.openapi.core.api_error import ApiError

url, _grpc, model, image = sys.argv[1:]
photo = base64.b64encode(Path(image).read_bytes()).decode()
client = OpenInferenceClient(base_url=url)
client.check_server_liveness()
client.check_server_readiness()
client.check_model_readiness(model)
client.check_model_version_readiness(model, "1")
assert client.read_server_metadata().name == "truecopy"
assert client.read_model_metadata(model).name == model
assert client.read_model_version_metadata(model, "1").versions == ["1"]
request = InferenceRequest(id="o-1", inputs=[RequestInput(name="image", shape=[1], datatype="BYTES", data=[photo])])
for response in (client.model_infer(model, request=request), client.model_version_infer(model, "1", request=request)):
    assert response.id == "o-1"
    assert abs(sum(dict(response.outputs[0].data)["__root__"]) - 1) < 1e-3
try:
    client.read_model_metadata("nope")
except ApiError as error:
    assert error.status_code == 404
else:
    raise AssertionError("an unknown model was found")
print("ok")
