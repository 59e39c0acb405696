"""What a request took is free when it ends, and goes back to the system."""

import asyncio
import gc
import subprocess
import sys
import weakref

import numpy as np
import pytest

from runtime.errors import InputError
from runtime.server.context import new_context
from runtime.server.limits import Limits
from runtime.server.open_inference.requests import InferRequest
from runtime.server.served_model import load_verified
from runtime.server.service import Service


@pytest.fixture
def service(tiny):
    model = load_verified(tiny, name="tiny", device="cpu", cores=1, max_pixels=10_000_000)
    service = Service([model], limits=Limits(), workers=1)
    service.ready = service.open = True
    yield service
    service.close()


def test_a_request_that_fails_is_freed_without_the_garbage_collector(service):
    """Its error once held the frames that held it: several bodies of 31 MB stayed until a collection."""
    pixels = np.zeros((1, 1, 500_000, 3), np.uint8)  # which becomes far larger on its way
    freed = weakref.ref(pixels)
    request = InferRequest(model="tiny", version="", inputs={"image": pixels})
    del pixels

    async def infer(request):
        context = new_context(request_id="", traceparent="", deadline_s=10)
        with pytest.raises(InputError, match="megapixels"):
            await service.infer(request, context)

    gc.collect()
    gc.disable()
    try:
        asyncio.run(infer(request))
        del request
        assert freed() is None
    finally:
        gc.enable()


@pytest.mark.skipif(sys.platform != "linux", reason="glibc")
def test_large_blocks_go_back_to_the_system():
    """By itself glibc keeps 20 MB behind the first byte that is still in use, once a larger block was freed."""
    code = (
        "import os\n"
        "from pathlib import Path\n"
        "from runtime.server.memory import return_large_blocks\n"
        "def resident_mb():\n"
        "    return int(Path('/proc/self/statm').read_text().split()[1]) * os.sysconf('SC_PAGESIZE') >> 20\n"
        "return_large_blocks()\n"
        "del (first := bytearray(30 << 20))[:]\n"
        "first = None\n"
        "before = resident_mb()\n"
        "large = [bytearray(b'x') * (20 << 20) for _ in range(4)]\n"
        "small = [bytes(100_000) for _ in range(10)]\n"
        "del large\n"
        "print(resident_mb() - before)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)

    assert int(done.stdout) < 10


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc gives blocks back when it is asked to")
def test_small_blocks_that_are_free_go_back_to_the_system():
    code = (
        "from runtime.engine.process import resident_bytes\n"
        "from runtime.server.memory import return_free_blocks\n"
        "blocks = [bytes(1000) for _ in range(60_000)]\n"
        "blocks = blocks[::1000]\n"
        "before = resident_bytes()\n"
        "return_free_blocks()\n"
        "print(before - resident_bytes())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)

    assert int(done.stdout) > 30 * 2**20
