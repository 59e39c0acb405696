"""What the tests of other engines ask with."""

from importlib.util import find_spec

# A deployment of the runtime alone has no server; scripts/test-wheel says so when it leaves these out.
NEEDED = {
    "test_kserve.py": ("httpx", "yaml", "uvicorn"),
    "test_ray_serve.py": ("httpx", "ray"),
    "test_triton.py": ("httpx",),
}

collect_ignore = [name for name, modules in NEEDED.items() if not all(map(find_spec, modules))]
