"""HTTP endpoints of one service: inference, metadata, health, metrics."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

from starlette.requests import Request
from starlette.responses import Response

from runtime.errors import InputError
from runtime.results import Failure
from runtime.server.context import RequestContext
from runtime.server.errors import NotFoundError, bounded
from runtime.server.http.bodies import read_body
from runtime.server.http.headers import header
from runtime.server.http.openapi import build_openapi
from runtime.server.http.page import PageEndpoints
from runtime.server.http.requests import apply_timeout, parse_infer, parse_predict
from runtime.server.http.responses import encode_infer_response, encode_json, encode_predictions, size_of_results
from runtime.server.metrics import CONTENT_TYPE
from runtime.server.open_inference.requests import EXTENSIONS, model_config, model_metadata
from runtime.server.served_model import ServedModel
from runtime.server.service import Service, size_bytes
from runtime.server.version import MODEL_VERSION
from runtime.version import package_version

Handler = Callable[[Request, RequestContext], Awaitable[Response]]


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """A path with one method; ``public`` ones need no token."""

    path: str
    method: str
    handler: Handler
    public: bool = False


def build_endpoints(service: Service, *, with_token: bool, root_path: str = "") -> list[Endpoint]:
    """Return the endpoints in the order of the router, the most frequent first."""
    inference, metadata, page = _InferenceEndpoints(service), _MetadataEndpoints(service), PageEndpoints()

    async def openapi(_request: Request, _context: RequestContext) -> Response:
        return encode_json(build_openapi(service.models, with_token=with_token, root_path=root_path))

    async def metrics(_request: Request, _context: RequestContext) -> Response:
        return Response(service.text_of_metrics(), headers={"content-type": CONTENT_TYPE})

    def get(path: str, handler: Handler, *, public: bool = False) -> Endpoint:
        return Endpoint(path=path, method="GET", handler=handler, public=public)

    def post(path: str, handler: Handler) -> Endpoint:
        return Endpoint(path=path, method="POST", handler=handler)

    model = "/v2/models/{model}"
    versioned = model + "/versions/{version}"
    return [
        post("/predict/{model}", inference.predict),
        post("/v1/models/{model}:predict", inference.predict),
        post("/v1/models/{model}/versions/{version}:predict", inference.predict),
        post("/invocations", inference.predict),
        post(model + "/infer", inference.infer),
        get("/v2/health/live", metadata.live, public=True),
        get("/v2/health/ready", metadata.ready, public=True),
        get("/ping", metadata.ready, public=True),
        get("/", page.index, public=True),
        get("/docs", page.docs, public=True),
        get("/openapi.json", openapi),
        get("/page/{file}", page.file, public=True),
        get("/metrics", metrics),
        get("/v1/models", metadata.models),
        get("/v1/models/{model}", metadata.model_ready),
        get("/v2", metadata.server),
        get("/v2/models", metadata.models),
        get("/v2/models/stats", metadata.statistics),
        post("/v2/repository/index", metadata.repository_index),
        *[
            get(prefix + suffix, handler)
            for prefix in (model, versioned)
            for suffix, handler in (
                ("", metadata.model),
                ("/ready", metadata.model_ready),
                ("/config", metadata.model_config),
                ("/stats", metadata.statistics),
            )
        ],
        post(versioned + "/infer", inference.infer),
        post("/v1/models/{model}:{verb}", metadata.unknown_verb),
    ]


class _InferenceEndpoints:
    """Predictions, and inference by the Open Inference Protocol."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def predict(self, request: Request, context: RequestContext) -> Response:
        """Return one result per input; an error where the only input cannot be used."""
        service = self._service
        model = _find_model(service, request) if "model" in request.path_params else service.only_model()
        apply_timeout(request, context)
        service.check_admission(context)
        with service.reserve_body() as reservation:
            body = await read_body(request, reservation, service, context)
            parsed = await parse_predict(request, body, model, service, reservation)
            predicting = service.predict(model, parsed.sources, context, top_k=parsed.top_k, threshold=parsed.threshold)
            predictions = await service.cancel_on_disconnect(
                predicting, partial(_wait_for_disconnect, request), context
            )
            context.stage_seconds = dict(predictions.seconds)
            first = predictions.results[0]
            if not parsed.is_list and isinstance(first, Failure):
                raise InputError(first.error)
            accept_encoding = header(request.scope, b"accept-encoding") or ""
            return await service.convert(
                size_of_results(predictions.results), lambda: encode_predictions(predictions, accept_encoding)
            )

    async def infer(self, request: Request, context: RequestContext) -> Response:
        """Return the output tensors of a model."""
        service = self._service
        model = _find_model(service, request)
        apply_timeout(request, context)
        service.check_admission(context)
        with service.reserve_body() as reservation:
            body = await read_body(request, reservation, service, context)
            parsed = await parse_infer(request, body, model, service, reservation)
            inferring = service.infer(parsed, context)
            response, seconds = await service.cancel_on_disconnect(
                inferring, partial(_wait_for_disconnect, request), context
            )
            context.stage_seconds = dict(seconds)
            accept_encoding = header(request.scope, b"accept-encoding") or ""
            return await service.convert(
                size_bytes(response.outputs), lambda: encode_infer_response(response, seconds, accept_encoding)
            )


class _MetadataEndpoints:
    """Health, metadata and statistics of the Open Inference Protocol."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def live(self, _request: Request, _context: RequestContext) -> Response:
        """Return that the process is alive."""
        return encode_json({"live": True})

    async def ready(self, _request: Request, _context: RequestContext) -> Response:
        """Return whether the server accepts requests."""
        return encode_json({"ready": self._service.ready}, self._ready_status())

    async def server(self, _request: Request, _context: RequestContext) -> Response:
        """Return the server's name, version and extensions."""
        return encode_json({"name": "truecopy", "version": package_version(), "extensions": EXTENSIONS})

    async def models(self, _request: Request, _context: RequestContext) -> Response:
        """Return the names of the models."""
        return encode_json({"models": list(self._service.models)})

    async def repository_index(self, _request: Request, _context: RequestContext) -> Response:
        """Return the models with their state, as Triton does."""
        state = "READY" if self._service.ready else "UNAVAILABLE"
        return encode_json(
            [{"name": name, "version": MODEL_VERSION, "state": state, "reason": ""} for name in self._service.models]
        )

    async def model(self, request: Request, _context: RequestContext) -> Response:
        """Return a model's metadata."""
        model = _find_model(self._service, request)
        return encode_json(model_metadata(model.name, model.manifest))

    async def model_ready(self, request: Request, _context: RequestContext) -> Response:
        """Return whether a model accepts requests."""
        model = _find_model(self._service, request)
        return encode_json({"name": model.name, "ready": self._service.ready}, self._ready_status())

    async def unknown_verb(self, request: Request, _context: RequestContext) -> Response:
        """Raise NotFoundError: version 1 of the protocol has verbs that are not served."""
        verb = bounded(request.path_params["verb"], 100)
        raise NotFoundError(f"'{verb}': not served: expected 'predict'. Use '/v1/models/NAME:predict'.")

    async def model_config(self, request: Request, _context: RequestContext) -> Response:
        """Return a model's configuration in Triton's format."""
        model = _find_model(self._service, request)
        return encode_json(model_config(model.name, model.manifest))

    async def statistics(self, request: Request, _context: RequestContext) -> Response:
        """Return the statistics of one model, or of all."""
        statistics = self._service.statistics
        if "model" in request.path_params:
            names = [_find_model(self._service, request).name]
        else:
            names = list(self._service.models)
        return encode_json({"model_stats": [statistics[name].to_dict(name, MODEL_VERSION) for name in names]})

    def _ready_status(self) -> int:
        return 200 if self._service.ready else 503


def _find_model(service: Service, request: Request) -> ServedModel:
    return service.find(request.path_params["model"], request.path_params.get("version", ""))


async def _wait_for_disconnect(request: Request) -> None:
    """Return when the client has closed its connection."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
