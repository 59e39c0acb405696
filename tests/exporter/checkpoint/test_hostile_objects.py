"""Objects in a checkpoint that refer to one another, or say one thing very often: described in bounded time."""

import io
import pickle
import struct
import sys
import time
import types
import zipfile

import pytest
import torch
from torch import nn

import exporter
from exporter.checkpoint import object_tensors, read_checkpoint, unpickler
from exporter.checkpoint.load import load_tensors

NAMESPACE = b"ctypes\nSimpleNamespace\n)\x81"
MOST_SECONDS = 5

# Steps that a file may take, a hundredth of what is allowed: the kinds of files are the same.
MOST_STEPS = 50_000


def archive(data: bytes, **parts: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as file:
        for name, part in {"data.pkl": data, **parts}.items():
            file.writestr(f"x/{name}", part)
    return stream.getvalue()


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def tensor(key: str = "0") -> bytes:
    storage = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text(key) + text("cpu") + b"K\x01tQ"
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"K\x00K\x01\x85K\x01\x85\x89}tR"


def objects_in_a_ring(count: int) -> bytes:
    """Each object has all others as attributes."""
    data = b"\x80\x02" + b"".join(NAMESPACE + b"q" + bytes([number]) + b"0" for number in range(count))
    others = b"".join(text(f"a{number}") + b"h" + bytes([number]) for number in range(count))
    return data + b"".join(b"h" + bytes([number]) + b"}(" + others + b"ub0" for number in range(count)) + b"h\x00."


def objects_in_a_lattice(levels: int, *, leaf: bytes = b"N") -> bytes:
    """Each object has the one before it under two names: two to the power of ``levels`` paths."""
    data = b"\x80\x02" + NAMESPACE + b"q\x00}" + text("w") + leaf + b"sb0"
    for level in range(1, levels):
        before = b"h" + bytes([level - 1])
        data += NAMESPACE + b"q" + bytes([level]) + b"}(" + text("a") + before + text("b") + before + b"ub0"
    return data + b"h" + bytes([levels - 1]) + b"."


def nested_lists(levels: int) -> bytes:
    data = b"]q\x000"
    for level in range(levels):
        before = b"h" + bytes([level])
        data += b"](" + before + before + b"eq" + bytes([level + 1]) + b"0"
    return data


def equal_hashes(count: int) -> bytes:
    numbers = ((2**61 - 1) * number for number in range(1, count))
    items = b"".join(b"\x8a\x0b" + number.to_bytes(11, "little") + b"N" for number in numbers)
    return b"\x80\x02}(" + items + b"u."


def wide_dictionaries(count: int) -> bytes:
    inner = b"".join(text(f"{number:06}") + b"}" for number in range(count))
    outer = b"".join(text(f"{number:06}") + b"h\x00" for number in range(count))
    return b"\x80\x02}q\x00(" + inner + b"u0}(" + outer + b"u."


HOSTILE = {
    "a ring of four objects": archive(objects_in_a_ring(4)),
    "a ring of sixty objects": archive(objects_in_a_ring(60)),
    "a lattice of objects": archive(objects_in_a_lattice(200)),
    "a lattice of objects with a tensor": archive(objects_in_a_lattice(200, leaf=tensor()), **{"data/0": bytes(4)}),
    "a name that is a lattice": archive(
        b"\x80\x02" + nested_lists(100) + b"(" + text("storage") + b"ctorch\nFloatStorage\nhdX\x00\x00\x00\x00K\x01tQ."
    ),
    "a size that is a lattice": archive(
        b"\x80\x02" + nested_lists(100) + b"(" + text("storage") + b"ctorch\nFloatStorage\nK\x00X\x00\x00\x00\x00hdtQ."
    ),
    "a shape that is a lattice": archive(
        b"\x80\x02" + nested_lists(100) + tensor().replace(b"K\x01\x85K\x01\x85", b"hdhd") + b".",
        **{"data/0": bytes(4)},
    ),
    "numbers of one hash": archive(equal_hashes(50_000)),
    "memos of one hash": archive(
        b"\x80\x02N" + b"".join(b"p%d\n" % ((2**61 - 1) * number) for number in range(1, 50_000)) + b"."
    ),
    "one list as many dictionaries": archive(
        b"\x80\x02ccollections\nOrderedDict\nq\x000]q\x01(" + (text("a") + b"N\x86") * 20_000 + b"e0"
        + b"h\x00h\x01\x85R0" * 1000 + b"N."
    ),
    "one dictionary in many": archive(wide_dictionaries(2000)),
    "a frame of empty lists": archive(b"\x80\x04\x95" + struct.pack("<Q", 8 << 20) + b"]" * (1 << 20) + b"."),
    "a number of ten thousand digits": archive(
        b"\x80\x02}" + text("a") + b"\x8b" + struct.pack("<i", 10_000) + b"\x01" * 10_000 + b"s."
    ),
    "a key of half a million levels": archive(
        b"\x80\x02}" + text("." * 500_000) + tensor() + b"s.", **{"data/0": bytes(4)}
    ),
    "keys of hundreds of levels": archive(
        b"\x80\x02}(" + b"".join(text(f"{number}" + ".a" * 400) + tensor() for number in range(700)) + b"u.",
        **{"data/0": bytes(4)},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_it_ends_with_an_error(name, tmp_path, monkeypatch):
    monkeypatch.setattr(unpickler, "_MOST_STEPS", MOST_STEPS)
    monkeypatch.setattr(object_tensors, "_MOST_STEPS", MOST_STEPS)
    path = tmp_path / "x.pth"
    path.write_bytes(HOSTILE[name])
    started = time.process_time()

    with pytest.raises(exporter.CheckpointError) as caught:
        read_checkpoint(path)

    assert time.process_time() - started < MOST_SECONDS
    assert len(str(caught.value)) < 1000


@pytest.fixture
def trainer():
    """A trainer whose callbacks know it, in a module that can be imported."""
    module = types.ModuleType("trainers")
    exec("class Trainer: pass\nclass Callback: pass", module.__dict__)  # noqa: S102
    sys.modules["trainers"] = module
    trainer = module.Trainer()
    trainer.model = nn.Linear(3, 2)
    for number in range(8):
        callback = module.Callback()
        callback.trainer = trainer
        setattr(trainer, f"callback{number}", callback)
    yield trainer
    del sys.modules["trainers"]


@pytest.mark.parametrize("zipped", [True, False])
def test_a_trainer_and_its_callbacks_are_refused_at_once(trainer, tmp_path, zipped):
    torch.save(trainer, tmp_path / "trainer.pt", _use_new_zipfile_serialization=zipped)

    with pytest.raises(exporter.CheckpointError, match=r"refused: loading it would import and run 'trainers\.Trainer'"):
        read_checkpoint(tmp_path / "trainer.pt")


def test_a_module_under_two_names_has_its_tensors_under_both(tmp_path):
    shared = nn.Linear(3, 2)
    network = nn.Sequential(shared, nn.Sequential(shared), nn.BatchNorm1d(2))
    torch.save(network, tmp_path / "x.pt")

    checkpoint = read_checkpoint(tmp_path / "x.pt", trust=True)

    assert list(checkpoint.tensors) == list(network.state_dict())


@pytest.mark.parametrize("entry", [None, "model", "best.model"])
def test_a_whole_module_of_the_legacy_format_is_loaded_when_it_is_trusted(tmp_path, entry):
    """Its pickle also names the file of each class, and the class's source."""
    network = nn.Sequential(nn.Linear(3, 2), nn.ReLU(), nn.Linear(2, 2))
    saved = network if entry is None else {entry: network, "epoch": 3}
    torch.save(saved, tmp_path / "x.pt", _use_new_zipfile_serialization=False)

    with pytest.raises(exporter.CheckpointError, match=r"refused: .*--trust"):
        read_checkpoint(tmp_path / "x.pt")
    checkpoint = read_checkpoint(tmp_path / "x.pt", trust=True)

    assert (checkpoint.entry, list(checkpoint.tensors)) == (entry or "", list(network.state_dict()))
    for key, value in load_tensors(checkpoint).items():
        assert torch.equal(value, network.state_dict()[key])


def test_a_legacy_file_opens_no_path_that_it_names(tmp_path):
    """Its storages were found by name in dictionaries alone; an object's tensors lay in a file of that name."""
    stream = io.BytesIO()
    torch.save({"w": torch.ones(1)}, stream, _use_new_zipfile_serialization=False)
    secret = tmp_path / "secret"
    secret.write_bytes(struct.pack("<f", 42))
    key = str(secret)
    state = b"\x80\x02" + NAMESPACE + b"}" + text("_parameters") + b"}" + text("w") + tensor(key) + b"ssb."
    values = struct.pack("<q", 1) + struct.pack("<f", 1)
    header = b"".join(
        pickle.dumps(part, protocol=2)
        for part in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True, "protocol_version": 1001, "type_sizes": {}})
    )
    path = tmp_path / "x.pth"
    path.write_bytes(header + state + pickle.dumps([key], protocol=2) + values)
    checkpoint = read_checkpoint(path)

    assert {tensor.storage.path for tensor in checkpoint.tensors.values()} == {path}
    assert load_tensors(checkpoint)["w"].tolist() == [1.0]


def test_a_storage_that_the_file_lacks_is_damage(tmp_path):
    state = b"\x80\x02}" + text("w") + tensor("other") + b"s."
    header = b"".join(
        pickle.dumps(part, protocol=2)
        for part in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True, "protocol_version": 1001, "type_sizes": {}})
    )
    path = tmp_path / "x.pth"
    path.write_bytes(header + state + pickle.dumps([], protocol=2))

    with pytest.raises(exporter.CheckpointError, match="its list of storages is broken"):
        read_checkpoint(path)


def test_entries_of_an_archive_that_overlap_are_refused(tmp_path):
    """Each claims the rest of the file, so that a few megabytes of names would be read for hours."""
    data = bytearray(archive(b"\x80\x02}.", **{"data/0": bytes(100), "data/1": bytes(100)}))
    directory = data.index(b"PK\x01\x02")
    second = data.index(b"PK\x01\x02", data.index(b"PK\x01\x02", directory + 4) + 4)
    first_offset = data[data.index(b"PK\x01\x02", directory + 4) + 42 : data.index(b"PK\x01\x02", directory + 4) + 46]
    data[second + 42 : second + 46] = first_offset
    path = tmp_path / "x.pth"
    path.write_bytes(data)

    with pytest.raises(exporter.CheckpointError, match="its entries overlap"):
        read_checkpoint(path)
