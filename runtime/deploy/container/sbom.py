"""CycloneDX 1.6 bill of materials of an image, without its base; equal images have equal ones."""

import hashlib
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from runtime.deploy.container.lock import Package
from runtime.manifest import Manifest

Json = dict[str, Any]


def build_sbom(
    manifest: Manifest,
    *,
    digest: str,
    wheel: str,
    wheel_bytes: bytes,
    packages: Sequence[Package],
    direct: Sequence[str],
) -> str:
    """Return the bill of materials, JSON: truecopy's ``wheel``, the locked packages, the artifact with its files.

    ``digest`` is the SHA-256 of the artifact's manifest, which is the version of the whole; ``direct`` are the names of
    the packages that truecopy requires itself.
    """
    truecopy = f"pkg:pypi/truecopy@{wheel.split('-')[1]}"
    known = {package.name: _purl(package) for package in packages}
    model = f"model:{manifest.name}"
    components: list[Json] = [
        {
            "type": "machine-learning-model",
            "bom-ref": model,
            "name": manifest.name,
            "version": digest,
            "components": _files({name: file.sha256 for name, file in sorted(manifest.files.items())}, model),
        },
        {
            "type": "library",
            "bom-ref": truecopy,
            "name": "truecopy",
            "version": wheel.split("-")[1],
            "purl": truecopy,
            "licenses": [{"expression": "Apache-2.0"}],
            "components": _files({wheel: hashlib.sha256(wheel_bytes).hexdigest()}, truecopy),
        },
        *map(_component, packages),
    ]
    dependencies: list[Json] = [
        {"ref": "image", "dependsOn": [model, truecopy]},
        {"ref": truecopy, "dependsOn": [known[name] for name in direct]},
        *(
            {"ref": known[package.name], "dependsOn": [known[name] for name in package.requires if name in known]}
            for package in packages
        ),
    ]
    body: Json = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": {"type": "container", "bom-ref": "image", "name": manifest.name, "version": digest},
            "properties": [
                {"name": "truecopy:base", "value": "not listed: see the base image's own bill of materials"}
            ],
        },
        "components": components,
        "dependencies": dependencies,
    }
    body["serialNumber"] = f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, msgspec.json.encode(body).decode())}"
    return msgspec.json.format(msgspec.json.encode(body), indent=2).decode() + "\n"


def _component(package: Package) -> Json:
    component: Json = {
        "type": "library",
        "bom-ref": _purl(package),
        "name": package.name,
        "version": package.version,
        "purl": _purl(package),
    }
    if package.license.license_expression:
        component["licenses"] = [{"expression": package.license.license_expression}]
    elif package.license.license:
        component["licenses"] = [{"license": {"name": package.license.license}}]
    return {**component, "components": _files(package.wheels, _purl(package))}


def _files(digests: Mapping[str, str], owner: str) -> list[Json]:
    """Return files as parts of a component; of a locked package's wheels one is installed."""
    return [
        {
            "type": "file",
            "bom-ref": f"{owner}#{name}",
            "name": name,
            "hashes": [{"alg": "SHA-256", "content": digest}],
        }
        for name, digest in digests.items()
    ]


def _purl(package: Package) -> str:
    return f"pkg:pypi/{package.name}@{package.version}"
