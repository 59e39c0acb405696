"""Parsing of requests: which bodies another thread takes."""

import asyncio
import threading

import pytest
from starlette.requests import Request

from runtime.server.http.requests import parse_predict
from runtime.server.limits import Limits
from runtime.server.served_model import ServedModel, load_verified
from runtime.server.service import Service


@pytest.fixture(scope="module")
def served(tiny) -> ServedModel:
    return load_verified(tiny, name="tiny", device="cpu", cores=1, max_pixels=1_000_000)


@pytest.mark.parametrize(("content_type", "waits"), [("image/jpeg", False), ("application/json", True)])
def test_a_photo_does_not_wait_for_the_parsing_of_another_body(served, content_type, waits):
    """A photo is an input as it is; only what is parsed leaves the event loop."""
    service = Service([served], limits=Limits(), workers=1)
    release = threading.Event()

    async def parse() -> None:
        request = Request(
            {"type": "http", "headers": [(b"content-type", content_type.encode())], "query_string": b"top_k=3"}
        )
        occupied = asyncio.create_task(service.convert(1_000_000, release.wait))
        await asyncio.sleep(0)
        body = b'{"input": "' + b"A" * 100_000 + b'"}'
        with service.reserve_body() as reservation:
            parsing = asyncio.create_task(parse_predict(request, body, served, service, reservation))
            await asyncio.wait([parsing], timeout=0.2)
            assert parsing.done() is not waits
            release.set()
            parsed = await parsing
        assert (len(parsed.sources), parsed.top_k) == (1, 3)
        await occupied

    try:
        asyncio.run(parse())
    finally:
        release.set()
        service.close()
