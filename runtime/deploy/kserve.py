"""KServe: a ServingRuntime around 'truecopy serve', and its InferenceService."""

import re
from pathlib import Path

import msgspec

from runtime.artifact.open import open_artifact
from runtime.deploy.container.settings import (
    GRPC_PORT,
    HTTP_PORT,
    LIVE_PATH,
    METRICS_PATH,
    READY_PATH,
    USER_ID,
    estimate_mib,
    serve_arguments,
)
from runtime.deploy.deployment import Deployment
from runtime.manifest import FULL_PRECISION

_RUNTIME = """\
# How KServe runs 'truecopy serve'. Written by 'truecopy deploy kserve'; edit any number here.
apiVersion: serving.kserve.io/v1alpha1
kind: ServingRuntime
metadata:
  name: {name}-truecopy
spec:
  annotations:
    prometheus.io/scrape: "true"
    prometheus.io/port: "{http_port}"
    prometheus.io/path: {metrics}
  supportedModelFormats:
  - name: truecopy
    version: "1"
    autoSelect: false
  protocolVersions:
  - v2
  - grpc-v2
  containers:
  - name: kserve-container
    image: REGISTRY/truecopy:TAG  # fill in: 'truecopy deploy container' writes one
    command:
    - truecopy
    args: {arguments}
    env:
    - name: HOME
      value: /tmp
    - name: ORT_DISABLE_TELEMETRY
      value: "1"
    ports:
    - name: http
      containerPort: {http_port}
      protocol: TCP
    - name: grpc
      containerPort: {grpc_port}
      protocol: TCP
    # The server is ready once the artifact is verified and loaded: within 5 minutes.
    startupProbe:
      httpGet:
        path: {ready}
        port: {http_port}
      periodSeconds: 5
      failureThreshold: 60
    readinessProbe:
      httpGet:
        path: {ready}
        port: {http_port}
      periodSeconds: 5
      timeoutSeconds: 5
    livenessProbe:
      httpGet:
        path: {live}
        port: {http_port}
      periodSeconds: 10
      timeoutSeconds: 10
      failureThreshold: 6
    # Memory is an estimate from the size of the artifact's files, not a measurement: monitor the first pods.
    resources:
      requests:
        cpu: "1"
        memory: {request_mib}Mi
      limits:
        cpu: "2"
        memory: {limit_mib}Mi
    securityContext:
      runAsNonRoot: true
      runAsUser: {user}
      runAsGroup: {user}
      readOnlyRootFilesystem: true
      allowPrivilegeEscalation: false
      capabilities:
        drop:
        - ALL
      seccompProfile:
        type: RuntimeDefault
    volumeMounts:
    - name: scratch
      mountPath: /tmp
  volumes:
  - name: scratch
    emptyDir: {{}}
"""

_SERVICE = """\
# The service itself. Written by 'truecopy deploy kserve'; edit any number here.
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata:
  name: {name}
  annotations:
    # Two ports, HTTP and gRPC, need a plain Deployment: Knative forwards one.
    serving.kserve.io/deploymentMode: RawDeployment
spec:
  predictor:
    minReplicas: 1
    maxReplicas: 8
    model:
      runtime: {name}-truecopy
      modelFormat:
        name: truecopy
        version: "1"
      protocolVersion: v2
      storageUri: pvc://models/{name}  # fill in: where a copy of the artifact's folder is
"""


def build_kserve(artifact: Path, out: Path, precision: str = FULL_PRECISION) -> Deployment:
    """Return ``runtime.yaml`` and ``service.yaml`` for an artifact; every file of it is checked first."""
    opened = open_artifact(artifact)
    request_mib = estimate_mib(opened)
    name = to_kubernetes_name(opened.manifest.name)
    runtime = _RUNTIME.format(
        name=name,
        arguments=msgspec.json.encode(serve_arguments("{{.Name}}=/mnt/models", precision)).decode(),
        user=USER_ID,
        http_port=HTTP_PORT,
        grpc_port=GRPC_PORT,
        ready=READY_PATH,
        live=LIVE_PATH,
        metrics=METRICS_PATH,
        request_mib=request_mib,
        limit_mib=2 * request_mib,
    )
    return Deployment(
        files={"runtime.yaml": runtime, "service.yaml": _SERVICE.format(name=name)},
        next_steps=f"  edit 'image' in {out}/runtime.yaml and 'storageUri' in {out}/service.yaml\n"
        f"  kubectl apply -f {out}",
    )


def to_kubernetes_name(name: str) -> str:
    """Return ``name`` as Kubernetes accepts it: lower case, digits and hyphens, a letter first, at most 40 characters.

    KServe appends to it for the objects that it creates, whose limit is 63.
    """
    plain = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    if not plain or not plain[0].isalpha():
        plain = f"model-{plain}"
    return plain[:40].strip("-")
