"""What a release publishes: built from a clean checkout, checked, and installed where nothing else is."""

import argparse
import email
import hashlib
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = {"truecopy", "exporter", "runtime"}
# A section of the changelog: its version, and the day it was released.
_SECTION = re.compile(r"^## \[(?P<version>[^]]+)\] - (?P<date>.+)$", re.MULTILINE)
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")


@dataclass(frozen=True, kw_only=True)
class Section:
    """The newest section of the changelog."""

    version: str
    date: str


def newest_section(changelog: str) -> Section:
    """Return the first section of a changelog. Raises ValueError where it has none."""
    found = _SECTION.search(changelog)
    if found is None:
        raise ValueError("CHANGELOG.md: no section. Begin one with '## [VERSION] - YYYY-MM-DD'.")
    return Section(version=found["version"], date=found["date"])


def faults_of(*, version: str, section: Section, tag: str | None, changed: str) -> list[str]:
    """Return what keeps ``version`` from being tagged, as sentences; ``changed`` is what git says is not committed."""
    faults = []
    if section.version != version:
        faults.append(f"CHANGELOG.md: its newest section is {section.version}, and pyproject.toml has {version}.")
    if not _DAY.fullmatch(section.date):
        faults.append(f"CHANGELOG.md: section {section.version} has no day: got '{section.date}', expected YYYY-MM-DD.")
    if tag is not None and tag != f"v{version}":
        faults.append(f"tag '{tag}': expected 'v{version}', the version of pyproject.toml.")
    if changed:
        faults.append(
            f"the checkout has changes that are not committed: {', '.join(line[3:] for line in changed.splitlines())}."
        )
    return faults


def check_contents(wheel: Path, sdist: Path, version: str) -> list[str]:
    """Return what is wrong with the two files, as sentences."""
    faults = []
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        tops = {name.split("/")[0] for name in names}
        expected = {*PACKAGES, f"truecopy-{version}.dist-info"}
        if tops != expected:
            faults.append(f"{wheel.name}: expected {sorted(expected)} at its top, got {sorted(tops)}.")
        faults += [
            f"{wheel.name}: '{package}' has no py.typed." for package in PACKAGES if f"{package}/py.typed" not in names
        ]
        metadata = email.message_from_bytes(archive.read(f"truecopy-{version}.dist-info/METADATA"))
        if metadata["Version"] != version:
            faults.append(f"{wheel.name}: its metadata has version {metadata['Version']}.")
    with tarfile.open(sdist) as archive:
        files = {member.name.partition("/")[2] for member in archive.getmembers()}
    faults += [
        f"{sdist.name}: lacks '{name}'."
        for name in ("pyproject.toml", "LICENSE", "README.md", "CHANGELOG.md")
        if name not in files
    ]
    return faults


def build(out: Path) -> tuple[Path, Path]:
    """Return the wheel and the source distribution, built into the empty folder ``out``."""
    shutil.rmtree(out, ignore_errors=True)
    _run(sys.executable, "-m", "build", "--outdir", str(out), str(ROOT))
    (wheel,) = out.glob("*.whl")
    (sdist,) = out.glob("*.tar.gz")
    return wheel, sdist


def _run(*command: str) -> None:
    print("$", *command, flush=True)
    subprocess.run(command, check=True, cwd=ROOT)


def _version() -> str:
    return str(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"])


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/release", description=__doc__)
    parser.add_argument("--dry-run", action="store_true", help="name what keeps it from being tagged, and go on")
    parser.add_argument("--tag", metavar="TAG", help="the tag that is released: v and the version")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "release", metavar="DIR")
    options = parser.parse_args()
    if options.dry_run == (options.tag is not None):
        parser.error("expected either --dry-run or --tag TAG")
    version = _version()
    changed = subprocess.run(
        ["/usr/bin/env", "git", "status", "--porcelain"], check=True, cwd=ROOT, capture_output=True, text=True
    ).stdout
    faults = faults_of(
        version=version,
        section=newest_section((ROOT / "CHANGELOG.md").read_text()),
        tag=options.tag,
        changed=changed,
    )
    if faults and not options.dry_run:
        sys.exit("\n".join(f"scripts/release: {fault}" for fault in faults))
    wheel, sdist = build(options.out.resolve())
    _run(sys.executable, "-m", "twine", "check", "--strict", str(wheel), str(sdist))
    wrong = check_contents(wheel, sdist, version)
    if wrong:
        sys.exit("\n".join(f"scripts/release: {fault}" for fault in wrong))
    # In a fresh environment, without PyTorch.
    _run("scripts/test-wheel", str(wheel))
    print(f"\ntruecopy {version} would be published as")
    for file in (wheel, sdist):
        print(
            f"  {file.name}  {file.stat().st_size / 1e6:.2f} MB  sha256 {hashlib.sha256(file.read_bytes()).hexdigest()}"
        )
    for fault in faults:
        print(f"before it can be tagged: {fault}")


if __name__ == "__main__":
    main()
