"""Damaged and hostile checkpoints and artifacts, each made from a number, so that any of them can be made again."""

import hashlib
import io
import json
import pickle
import random
import shutil
import struct
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

# Values that stand in for others in JSON.
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 7, 2**31, 2**53, 2**63, -(2**63), 2**64, 10**30, 0.5, -0.5, 1e-300, 1e308),
    *("", "a", "../weights.bin", "/etc/passwd", "weights.bin", "a\0b", "x" * 5000, "\ud83d", "batch", "NaN"),
    *([], {}, [[]], [0], [1, 2, 3], ["a"], {"a": 1}, [[1, 1], [1, 1]], [None], [0] * 5000),
)

# Names whose import or call by a pickle would be the file's own code.
CODE = (
    *("os\nsystem", "builtins\neval", "builtins\nexec", "subprocess\nPopen", "pathlib\nPath.touch", "shutil\nrmtree"),
    *("torch\nload", "numpy\nload", "builtins\ngetattr", "importlib\nimport_module", "pickle\nloads"),
)
_DATA = (
    *("collections\nOrderedDict", "torch._utils\n_rebuild_tensor_v2", "torch\nFloatStorage", "torch\nSize"),
    *("types\nSimpleNamespace", "argparse\nNamespace", "torch._utils\n_rebuild_parameter", "numpy\ndtype"),
    *("torch._tensor\n_rebuild_from_type_v2", "builtins\nset", "copyreg\n_reconstructor", "_codecs\nencode"),
)


def damaged(rng: random.Random, data: bytes) -> bytes:
    """Return bytes with damage of one kind: cut, flipped, zeroed, repeated, spliced or grown."""
    if not data:
        return rng.randbytes(8)
    at, length = rng.randrange(len(data)), rng.randrange(1, 200)
    start, end = data[:at], data[at + length :]
    match rng.randrange(7):
        case 0:
            return start
        case 1:
            changed = bytearray(data)
            for _ in range(rng.randrange(1, 12)):
                changed[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
            return bytes(changed)
        case 2:
            return start + bytes(len(data) - len(start) - len(end)) + end
        case 3:
            return start + data[at : at + length] * rng.randrange(2, 30) + end
        case 4:
            return start + rng.randbytes(length) + end
        case 5:
            return start + b"\xff" * length + data[at:]
        case _:
            return data + rng.randbytes(length)


def mutated(rng: random.Random, document: Any) -> tuple[Any, str]:
    """Return JSON with one part of it replaced, removed, renamed, repeated or moved; and what was done."""
    document = json.loads(json.dumps(document))
    parts = list(_parts(document, ()))
    path = rng.choice(parts)
    parent = _at(document, path[:-1])
    key, where = path[-1], "/".join(map(str, path))
    match rng.randrange(5):
        case 0 | 1:
            parent[key] = rng.choice(VALUES)
            return document, f"{where} = {str(parent[key])[:40]}"
        case 2:
            del parent[key]
            return document, f"{where} removed"
        case 3:
            value = parent[key]
            if isinstance(parent, list):
                parent.insert(key, value)
            else:
                del parent[key]
                parent[rng.choice(["", f"{key}x", "other", "../x", "x" * 300])] = value
            return document, f"{where} repeated or renamed"
        case _:
            parent[key] = _at(document, rng.choice(parts))
            return json.loads(json.dumps(document)) if not _loops(document) else None, f"{where} is another part"


def _loops(document: Any) -> bool:
    try:
        json.dumps(document)
    except (ValueError, RecursionError):
        return True
    return False


def _parts(value: Any, path: tuple[str | int, ...]) -> Any:
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in entries:
        yield (*path, key)
        yield from _parts(item, (*path, key))


def _at(document: Any, path: Sequence[str | int]) -> Any:
    for key in path:
        document = document[key]
    return document


def hostile_pickle(rng: random.Random) -> bytes:
    """Return a pickle of random instructions that mostly fit what is on its stack."""
    data, depth, memos = b"\x80" + bytes([rng.choice([2, 3, 4, 5])]), 0, 0
    for _ in range(rng.randrange(1, 60)):
        choice = rng.randrange(14)
        if choice == 0:
            data, depth = data + _global(rng), depth + 1
        elif choice == 1:
            data, depth = data + rng.choice([b"}", b"]", b")", b"N", b"\x88", b"\x8f"]), depth + 1
        elif choice == 2:
            data, depth = data + b"K" + rng.randbytes(1), depth + 1
        elif choice == 3:
            text = rng.choice([b"storage", b"module", b"0", b"w", b"cpu", b"_parameters", b"/etc/passwd"])
            data, depth = data + b"X" + struct.pack("<I", len(text)) + text, depth + 1
        elif choice == 4 and depth:
            data, memos = data + b"q" + bytes([memos]), min(memos + 1, 255)
        elif choice == 5 and memos:
            data, depth = data + b"h" + bytes([rng.randrange(memos)]), depth + 1
        elif choice == 6 and depth >= 2:
            data, depth = data + rng.choice([b"R", b"\x81", b"b", b"a"]), depth - 1
        elif choice == 7 and depth >= 3:
            data, depth = data + b"s", depth - 2
        elif choice == 8:
            data, depth = data + b"(" + _global(rng) + b"X\x01\x00\x00\x00xo", depth + 1
        elif choice == 9 and depth:
            data += rng.choice([b"\x85", b"2", b"Q", b"\x94"])
        elif choice == 10 and depth >= 2:
            data, depth = data + b"\x86", depth - 1
        elif choice == 11:
            data, depth = data + b"\x8a\x09" + rng.randbytes(9), depth + 1
        elif choice == 12:
            data, depth = data + _global(rng) + b")R", depth + 1
        elif choice == 13:
            data, depth = data + tensor_instructions(rng), depth + 1
    return data + b"."


def _global(rng: random.Random) -> bytes:
    return b"c" + rng.choice((*CODE, *_DATA, *_DATA)).encode() + b"\n"


def tensor_instructions(rng: random.Random) -> bytes:
    """Return the instructions of a tensor of one value; a part of them may be another."""
    number = pickle.dumps(rng.choice([0, 1, 1, 1, 2**40, -1]), protocol=2)[2:-1]
    storage = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpu" + number + b"tQ"
    shape = rng.choice([b"K\x01\x85", b"K\x01\x85", b")", b"K\x00\x85", b"]", b"N"])
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"K\x00" + shape + b"K\x01\x85\x89}tR"


def archive(data: bytes, parts: dict[str, bytes]) -> bytes:
    """Return an archive as torch.save writes it."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as file:
        for name, part in {"data.pkl": data, **parts}.items():
            file.writestr(f"x/{name}", part)
    return stream.getvalue()


def legacy(data: bytes, keys: Sequence[str], values: bytes) -> bytes:
    """Return a file as torch.save wrote it before PyTorch 1.6."""
    system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
    header = b"".join(pickle.dumps(part, protocol=2) for part in (0x1950A86A20F9469CFC6C, 1001, system))
    return header + data + pickle.dumps(list(keys), protocol=2) + values


def hostile_checkpoint(seed: int) -> bytes:
    """Return a checkpoint that nobody would write: an archive, a legacy file or safetensors."""
    rng = random.Random(seed)
    match rng.randrange(5):
        case 0 | 1:
            return archive(hostile_pickle(rng), {"data/0": bytes(rng.choice([4, 4, 0, 100]))})
        case 2:
            return legacy(hostile_pickle(rng), rng.choice([["0"], [], ["/etc/passwd"]]), struct.pack("<qf", 1, 1))
        case 3:
            return hostile_pickle(rng)
        case _:
            header = {"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}, "__metadata__": {"format": "pt"}}
            text = json.dumps(mutated(rng, header)[0]).encode()
            return struct.pack("<Q", rng.choice([len(text), len(text), 2**60])) + text + bytes(4)


def hostile_artifact(seed: int, source: Path, target: Path) -> str:
    """Copy an artifact to ``target`` with one part changed and every hash put right; return what was changed."""
    rng = random.Random(seed)
    shutil.copytree(source, target)
    change = rng.choice(_CHANGES)
    return f"{change.__name__.removeprefix('_')}: {change(rng, target)}"


def _manifest(rng: random.Random, artifact: Path) -> str:
    path = artifact / "truecopy.json"
    document, finding = mutated(rng, json.loads(path.read_bytes()))
    path.write_text(json.dumps(document))
    return finding


def _manifest_bytes(rng: random.Random, artifact: Path) -> str:
    path = artifact / "truecopy.json"
    path.write_bytes(damaged(rng, path.read_bytes()))
    return "damaged"


def _evidence(rng: random.Random, artifact: Path) -> str:
    path = artifact / "parity.json"
    document, finding = mutated(rng, json.loads(path.read_bytes()))
    path.write_text(json.dumps(document))
    rehash(artifact, path.name)
    return finding


def _graph(rng: random.Random, artifact: Path) -> str:
    name = rng.choice(["model.onnx", "network.onnx"])
    (artifact / name).write_bytes(damaged(rng, (artifact / name).read_bytes()))
    rehash(artifact, name)
    return f"{name} damaged"


def _swapped(rng: random.Random, artifact: Path) -> str:
    first, second = rng.sample(sorted(path.name for path in artifact.iterdir()), 2)
    (artifact / first).write_bytes((artifact / second).read_bytes())
    rehash(artifact, first)
    return f"{first} holds {second}"


def _file(rng: random.Random, artifact: Path) -> str:
    name = rng.choice(["golden.npz", "labels.txt", "weights.bin", "parity.json"])
    (artifact / name).write_bytes(rng.choice([b"", damaged(rng, (artifact / name).read_bytes())]))
    rehash(artifact, name)
    return f"{name} damaged"


def _golden(rng: random.Random, artifact: Path) -> str:
    path = artifact / "golden.npz"
    with np.load(path, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    name = rng.choice(list(arrays))
    numbers = np.zeros(arrays[name].shape) if arrays[name].dtype.kind == "U" else arrays[name].astype(np.float64)
    replacements: tuple[Any, ...] = (
        np.zeros(0, arrays[name].dtype),
        arrays[name][:0],
        numbers * np.nan,
        np.array("text"),
        np.float32(1e38),
        arrays[name][..., np.newaxis],
        np.zeros((2, 3, 5), np.int64),
    )
    if rng.random() < 0.3:
        del arrays[name]
    elif rng.random() < 0.2:
        case, part = rng.choice(["0", "99", "x", "-1"]), rng.choice(["source", "outputs/x", "prepared/y", ""])
        arrays[f"{case}/{part}"] = arrays[name]
    else:
        arrays[name] = rng.choice(replacements)
    with path.open("wb") as stream:
        np.savez(stream, **arrays)
    rehash(artifact, path.name)
    return name


def _labels(rng: random.Random, artifact: Path) -> str:
    path = artifact / "labels.txt"
    finding = rng.choice(["a label of 2 MB", "a million labels", "empty labels", "one label too many"])
    path.write_bytes(
        {
            "a label of 2 MB": b"a" * 2_000_000 + b"\nb\nc\nd\n",
            "a million labels": b"a\n" * 1_000_000,
            "empty labels": b"\n" * 4,
            "one label too many": path.read_bytes() + b"e\n",
        }[finding]
    )
    rehash(artifact, path.name)
    return finding


_CHANGES: tuple[Callable[[random.Random, Path], str], ...] = (
    *(_manifest,) * 5,
    _manifest_bytes,
    _evidence,
    *(_graph,) * 2,
    _swapped,
    _file,
    *(_golden,) * 2,
    _labels,
)


def rehash(artifact: Path, name: str) -> None:
    """Make the manifest agree with a file that was replaced, where it is one."""
    path = artifact / "truecopy.json"
    if name == path.name:
        return
    manifest = json.loads(path.read_bytes())
    data = (artifact / name).read_bytes()
    manifest["files"][name] = {"sha256": hashlib.sha256(data).hexdigest(), "size_bytes": len(data)}
    path.write_text(json.dumps(manifest))
