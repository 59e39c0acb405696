"""Reference of the environment variables; the list is compared with the source."""

import ast
import re
from pathlib import Path

from maintenance.reference.markdown import code, to_table

ROOT = Path(__file__).parents[3]
_PACKAGES = ("truecopy", "runtime", "exporter", "kernels/src")

_ABOUT = """# Environment variables

## Read

{read}
## Set, unless you set them

{set}
"""

_READ = {
    "TRUECOPY_TOKEN": "The bearer token of `truecopy serve`, where there is no `--token-file`.",
    "OMP_NUM_THREADS": "The most threads that the runtime uses, where the process may use more cores.",
    "CI": "`true` or `1`: `truecopy parity` takes no proof from its cache, unless `--cache` asks for it.",
    "XDG_CACHE_HOME": "That cache is in `truecopy` below it, by default below `~/.cache`. Relative paths are ignored.",
    "SOURCE_DATE_EPOCH": "The date of an HTML report, in seconds since 1970: equal reports get equal bytes.",
    "GITHUB_ACTIONS": "`true`: `truecopy parity --github` writes annotations.",
    "GITHUB_STEP_SUMMARY": "The file that `--github` appends the summary of the job to.",
    "MALLOC_MMAP_THRESHOLD_": "Where it is set, `truecopy serve` leaves glibc's limits for large blocks alone.",
    "MALLOC_TRIM_THRESHOLD_": "As `MALLOC_MMAP_THRESHOLD_`.",
    "GLIBC_TUNABLES": "As `MALLOC_MMAP_THRESHOLD_`.",
    "COLUMNS": "The width of tables where the output is not a terminal; 120 by default.",
}
_SET = {
    "ORT_DISABLE_TELEMETRY": "`1`: onnxruntime sends nothing.",
    "HF_HUB_DISABLE_TELEMETRY": "`1`: Hugging Face's libraries send nothing.",
    "OMP_WAIT_POLICY": "`PASSIVE`: waiting threads of PyTorch sleep, and do not take the cores from onnxruntime.",
    "NVIDIA_TF32_OVERRIDE": "`0` with `--device tensorrt`, unless `--tf32` allows it.",
    "RAY_*": "Ray without usage statistics and progress bars, and with a short time to find its cluster.",
}


def environment() -> str:
    """Return the page. Raises LookupError where it and the source do not have the same variables."""
    listed = {*_READ, *_SET}
    used = {"RAY_*" if name.startswith("RAY_") else name for name in _used()}
    if used != listed:
        raise LookupError(f"the list differs from the source: {sorted(used ^ listed)}")
    tables = {
        name: to_table(["variable", ""], [[code(variable), text] for variable, text in rows.items()])
        for name, rows in (("read", _READ), ("set", _SET))
    }
    return _ABOUT.format(**tables)


def _used() -> set[str]:
    """Return the variables in the source: what is asked of the environment, and NAMES_LIKE_THIS in such modules."""
    found = set()
    for package in _PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            source = path.read_text(encoding="utf-8")
            if "environ" not in source:
                continue
            for node in ast.walk(ast.parse(source)):
                if isinstance(node, ast.Constant) and re.fullmatch(r"[A-Z]+(_\w+)+", str(node.value)):
                    found.add(str(node.value))
                if isinstance(node, ast.Call | ast.Compare | ast.Subscript):
                    asked = re.match(
                        r"os\.environ(?:\.\w+\(|\[)'(\w+)'|'(\w+)' (?:not )?in os\.environ", ast.unparse(node)
                    )
                    found |= {name for name in asked.groups() if name} if asked else set()
    return found
