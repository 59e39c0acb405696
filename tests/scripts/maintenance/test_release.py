"""What keeps a version from being released."""

import io
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

from maintenance.release import Section, check_contents, faults_of, newest_section

ROOT = Path(__file__).parents[3]
VERSION = "1.2.3"


@pytest.fixture
def wheel(tmp_path):
    path = tmp_path / "truecopy-1.2.3-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for package in ("truecopy", "exporter", "runtime"):
            archive.writestr(f"{package}/py.typed", "")
        archive.writestr("truecopy-1.2.3.dist-info/METADATA", "Metadata-Version: 2.4\nName: truecopy\nVersion: 1.2.3\n")
    return path


@pytest.fixture
def sdist(tmp_path):
    path = tmp_path / "truecopy-1.2.3.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for name in ("pyproject.toml", "LICENSE", "README.md", "CHANGELOG.md"):
            archive.addfile(tarfile.TarInfo(f"truecopy-1.2.3/{name}"), io.BytesIO())
    return path


def test_the_changelog_begins_with_the_version_of_the_package():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert newest_section((ROOT / "CHANGELOG.md").read_text()).version == version


@pytest.mark.parametrize(
    ("section", "tag", "changed", "fault"),
    [
        (Section(version="1.2.2", date="2026-01-02"), None, "", "newest section is 1.2.2"),
        (Section(version=VERSION, date="unreleased"), None, "", "no day: got 'unreleased'"),
        (Section(version=VERSION, date="2026-01-02"), "v1.2", "", "expected 'v1.2.3'"),
        (Section(version=VERSION, date="2026-01-02"), "v1.2.3", " M README.md\n?? new.py\n", "README.md, new.py"),
        (Section(version=VERSION, date="2026-01-02"), "v1.2.3", '?? "a b.py"\n M c.py\n', '"a b.py", c.py.'),
    ],
)
def test_what_does_not_fit_together_is_named(section, tag, changed, fault):
    (found,) = faults_of(version=VERSION, section=section, tag=tag, changed=changed)
    assert fault in found


def test_a_clean_checkout_with_its_tag_and_section_can_be_released():
    section = Section(version=VERSION, date="2026-01-02")
    assert faults_of(version=VERSION, section=section, tag="v1.2.3", changed="") == []


def test_a_changelog_without_sections_is_refused():
    with pytest.raises(ValueError, match="no section"):
        newest_section("# Changelog\n")


def test_whole_distributions_have_no_faults(wheel, sdist):
    assert check_contents(wheel, sdist, VERSION) == []


def test_a_package_too_many_another_version_and_a_missing_file_are_named(wheel, sdist, tmp_path):
    with zipfile.ZipFile(wheel, "a") as archive:
        archive.writestr("tests/conftest.py", "")
    with tarfile.open(sdist, "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("truecopy-1.2.3/README.md"), io.BytesIO())
    faults = " ".join(check_contents(wheel, sdist, VERSION))
    assert "got ['exporter', 'runtime', 'tests', 'truecopy', 'truecopy-1.2.3.dist-info']" in faults
    assert "lacks 'LICENSE'" in faults
    assert "lacks 'pyproject.toml'" in faults
