"""'truecopy deploy kserve': a ServingRuntime around our own server, and the InferenceService that uses it."""

import re
from pathlib import Path

from runtime.artifact import open_artifact
from runtime.deploy.deployment import Deployment

MIB = 2**20

# Python, onnxruntime and the decoders before any model; onnxruntime's optimized copy of the weights stands beside the
# file's pages. Not measured for each model: the comment in the file says so.
_BASE_MIB = 512
_COPIES_OF_WEIGHTS = 2

_RUNTIME = """\
# How KServe runs 'truecopy serve'. Written by 'truecopy deploy kserve'; every number here is yours to change.
apiVersion: serving.kserve.io/v1alpha1
kind: ServingRuntime
metadata:
  name: {name}-truecopy
spec:
  annotations:
    prometheus.io/scrape: "true"
    prometheus.io/port: "8080"
    prometheus.io/path: /metrics
  supportedModelFormats:
  - name: truecopy
    version: "1"
    autoSelect: false
  protocolVersions:
  - v2
  - grpc-v2
  containers:
  - name: kserve-container
    image: REGISTRY/truecopy:TAG  # yours: an image with truecopy[serve,cpu] in it
    command:
    - truecopy
    args:
    - serve
    - "{{{{.Name}}}}=/mnt/models"
    - --host
    - 0.0.0.0
    - --http-port
    - "8080"
    - --grpc-port
    - "9000"
    - --log-format
    - json
    env:
    - name: HOME
      value: /tmp
    ports:
    - name: http
      containerPort: 8080
      protocol: TCP
    - name: grpc
      containerPort: 9000
      protocol: TCP
    # Ready is when the artifact is verified and loaded: 5 minutes at most.
    startupProbe:
      httpGet:
        path: /v2/health/ready
        port: 8080
      periodSeconds: 5
      failureThreshold: 60
    readinessProbe:
      httpGet:
        path: /v2/health/ready
        port: 8080
      periodSeconds: 5
      timeoutSeconds: 5
    livenessProbe:
      httpGet:
        path: /v2/health/live
        port: 8080
      periodSeconds: 10
      timeoutSeconds: 10
      failureThreshold: 6
    # Memory is an estimate from the size of the artifact's files, not a measurement: watch the first pods.
    resources:
      requests:
        cpu: "1"
        memory: {request_mib}Mi
      limits:
        cpu: "2"
        memory: {limit_mib}Mi
    securityContext:
      runAsNonRoot: true
      runAsUser: 10001
      runAsGroup: 10001
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
# The service itself. Written by 'truecopy deploy kserve'; every number here is yours to change.
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata:
  name: {name}
  annotations:
    # Two ports, HTTP and gRPC, need a plain Deployment: Knative passes on one.
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
      storageUri: pvc://models/{name}  # yours: where a copy of the artifact's folder lies
"""


def build_kserve(artifact: Path, out: Path) -> Deployment:
    """Return ``runtime.yaml`` and ``service.yaml`` for an artifact; every file of it is checked first."""
    opened = open_artifact(artifact)
    for file in opened.manifest.files:
        opened.file(file)
    size_mib = -(-sum(file.size_bytes for file in opened.manifest.files.values()) // MIB)
    request_mib = _BASE_MIB + _COPIES_OF_WEIGHTS * size_mib
    name = to_kubernetes_name(opened.manifest.name)
    return Deployment(
        files={
            "runtime.yaml": _RUNTIME.format(name=name, request_mib=request_mib, limit_mib=2 * request_mib),
            "service.yaml": _SERVICE.format(name=name),
        },
        next_steps=f"  edit 'image' in {out}/runtime.yaml and 'storageUri' in {out}/service.yaml\n"
        f"  kubectl apply -f {out}",
    )


def to_kubernetes_name(name: str) -> str:
    """Return ``name`` as Kubernetes takes it: lower case, digits and hyphens, a letter first, at most 40 characters.

    KServe adds to it for the objects it makes, which have 63.
    """
    plain = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    if not plain or not plain[0].isalpha():
        plain = f"model-{plain}"
    return plain[:40].strip("-")
