"""Files of Python as modules: networks, transforms and examples, as a user's own file is loaded."""

import importlib.util
from pathlib import Path
from types import ModuleType

EXAMPLES = Path(__file__).parents[2] / "examples"


def load_file(path: Path) -> ModuleType:
    """Return the file ``path`` as a module, executed anew."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def load_example(name: str) -> ModuleType:
    """Return the example ``name`` as a module, executed anew."""
    return load_file(EXAMPLES / f"{name}.py")
