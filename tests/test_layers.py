"""The order of layers inside each package, read from the source: imports go down, and in no circle."""

import ast
import re
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# Lowest first. A part imports parts of lower layers alone, besides itself; those of one layer do not know each other.
LAYERS = {
    "exporter": (
        ("errors",),
        ("options",),
        ("object_path", "bundle"),
        ("checkpoint",),
        ("architectures", "progress"),
        ("conversion", "inspection"),
        ("outputs",),
        ("parity",),
        ("inputs",),
        ("assemble", "localize", "recipe_from_artifact"),
        ("backends",),
        ("precision",),
        ("workflow", "calibration"),
        ("eager",),
        ("recheck",),
        ("cli",),
        ("__main__",),
    ),
    "runtime": (
        ("errors", "version"),
        ("manifest", "engine", "console"),
        ("geometry", "outputs", "evidence"),
        ("artifact", "results"),
        ("inputs", "reports"),
        ("model",),
        ("verify", "bench", "jobs"),
        ("server", "evaluation", "doctor"),
        ("deploy",),
        ("cli",),
    ),
}
MOST_ENTRIES = {"exporter": 25, "runtime": 23, "truecopy": 3}


def modules_of(package: str) -> dict[str, Path]:
    """Return the modules of a package by dotted name."""
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for path in (ROOT / package).rglob("*.py")
    }


def imports_of(name: str, path: Path, modules: dict[str, Path]) -> set[str]:
    """Return the modules of the same package that a module imports, wherever in its text it does so."""
    imported: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                imported.add(inner if inner in modules else node.module)
        elif isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
    return (imported & modules.keys()) - {name}


@pytest.mark.parametrize("package", LAYERS)
def test_imports_go_down_the_layers(package):
    modules = modules_of(package)
    level = {part: number for number, layer in enumerate(LAYERS[package]) for part in layer}
    parts = {name: name.split(".")[1] for name in modules if "." in name}
    offenders = [
        (name, imported)
        for name, part in parts.items()
        for imported in imports_of(name, modules[name], modules)
        if imported in parts and parts[imported] != part and level[parts[imported]] >= level[part]
    ]
    assert not offenders


@pytest.mark.parametrize("package", LAYERS)
def test_every_part_has_a_layer(package):
    listed = [part for layer in LAYERS[package] for part in layer]
    assert sorted(listed) == sorted({name.split(".")[1] for name in modules_of(package) if "." in name})


@pytest.mark.parametrize("package", LAYERS)
def test_no_modules_import_each_other_in_a_circle(package):
    """Imports under TYPE_CHECKING and inside functions count: they are as confusing to read."""
    modules = modules_of(package)
    graph = {name: imports_of(name, path, modules) for name, path in modules.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


@pytest.mark.parametrize("package", MOST_ENTRIES)
def test_the_top_of_a_package_fits_on_a_screen(package):
    entries = [path.name for path in (ROOT / package).iterdir() if path.name != "__pycache__"]
    assert len(entries) <= MOST_ENTRIES[package], sorted(entries)


def test_every_module_that_is_named_in_a_string_exists():
    """Tables of what is imported at first use name it as 'module:attribute', which no type checker follows."""
    modules = {**modules_of("exporter"), **modules_of("runtime"), **modules_of("truecopy")}
    named = re.compile(r"[\"']((?:exporter|runtime)(?:\.\w+)+):(\w+)[\"']")
    references = [
        (path, *match.groups())
        for path in [*modules.values(), ROOT / "pyproject.toml"]
        for match in named.finditer(path.read_text(encoding="utf-8"))
    ]
    assert len(references) > 12
    missing = [
        (str(path.relative_to(ROOT)), module, attribute)
        for path, module, attribute in references
        if module not in modules
        or not re.search(rf"^(?:async )?(?:def |class )?{attribute}\b", modules[module].read_text(), re.M)
    ]
    assert not missing
