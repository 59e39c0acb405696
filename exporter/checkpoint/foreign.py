"""Files and folders that are no checkpoint of torch.save: what they are, and how its weights get out of them."""

from collections.abc import Collection
from pathlib import Path

from exporter.errors import CheckpointError

EXPECTED = "expected a file that torch.save or safetensors wrote"

_UNPACK = "Unpack it, and pass the file that is in it."
_OTHER_LIBRARY = "Put its weights into the PyTorch network first, and save its state dict."
_SOURCE = "Export the PyTorch checkpoint that it was made of."

# By what a file has at a position: what it is, and what to do.
_FORMATS = (
    (0, b"\x1f\x8b", "of a gzip file", _UNPACK),
    (0, b"BZh", "of a bzip2 file", _UNPACK),
    (0, b"\xfd7zXZ", "of an xz file", _UNPACK),
    (0, b"7z\xbc\xaf", "of a 7z archive", _UNPACK),
    (0, b"Rar!", "of a RAR archive", _UNPACK),
    (0, b"\x28\xb5\x2f\xfd", "of a zstd file", _UNPACK),
    (257, b"ustar", "of a tar archive", _UNPACK),
    (0, b"\x89HDF", "of HDF5, as Keras saves it", _OTHER_LIBRARY),
    (0, b"GGUF", "of llama.cpp's GGUF", _SOURCE),
    (4, b"TFL3", "of TensorFlow Lite", _SOURCE),
    (
        0,
        b"\x93NUMPY",
        "of a NumPy array",
        "Save a dictionary of tensors: torch.save({'layer.weight': torch.from_numpy(array)}, 'weights.pth').",
    ),
    (0, b"\x89PNG", "of a photo", "Name the checkpoint; photos belong to --samples."),
    (0, b"\xff\xd8\xff", "of a photo", "Name the checkpoint; photos belong to --samples."),
)
_JOBLIB = b"joblib.numpy_pickle"

# By the end of a file's name.
_SUFFIXES = {
    ".onnx": ("of an ONNX graph", _SOURCE),
    ".py": ("of a script", "Name the checkpoint, and the network in the script with --arch FILE.py:NAME."),
    ".ipynb": ("of a notebook", "Name the checkpoint, and the network in the notebook with --arch FILE.ipynb:NAME."),
}

_OF_EXPORT = "Save its weights: torch.save(dict(torch.export.load('{path}').state_dict), 'weights.pth')."

# By the end of a name in an archive without the pickle of torch.save.
_ARCHIVES = (
    ("serialized_exported_program.json", "of torch.export", _OF_EXPORT),
    ("models/model.json", "of torch.export", _OF_EXPORT),
    (
        ".npy",
        "of NumPy arrays",
        "Save tensors: torch.save({{key: torch.from_numpy(a) for key, a in numpy.load('{path}').items()}}, 'w.pth').",
    ),
    (".weights.h5", "of Keras", _OTHER_LIBRARY),
    (".pth", "with a checkpoint in it", _UNPACK),
    (".pt", "with a checkpoint in it", _UNPACK),
    (".ckpt", "with a checkpoint in it", _UNPACK),
    (".safetensors", "with a checkpoint in it", _UNPACK),
    (".bin", "with a checkpoint in it", _UNPACK),
)


def foreign_file_error(path: Path, head: bytes) -> CheckpointError:
    """Return the error for a file of another format, by its first bytes."""
    origin, remedy = _SUFFIXES.get(path.suffix.lower(), ("", "Name another file."))
    for offset, magic, known, action in _FORMATS:
        if head[offset:].startswith(magic):
            origin, remedy = known, action
    return CheckpointError(
        f"'{path}': not a PyTorch checkpoint: {EXPECTED}, got bytes that start with {head[:8]!r}"
        f"{origin and f', those {origin}'}. {remedy}"
    )


def check_no_joblib(path: Path, head: bytes) -> None:
    """Raise CheckpointError for a pickle of joblib, which has arrays between its instructions."""
    if _JOBLIB in head:
        raise CheckpointError(
            f"'{path}': not a PyTorch checkpoint: {EXPECTED}, got a file of joblib, as scikit-learn's objects are "
            "saved. Name the checkpoint; a fitted transform belongs to --preprocess or --target-transform."
        )


def check_archive(path: Path, names: Collection[str]) -> None:
    """Raise CheckpointError for a zip archive of another format, as far as it is known."""
    if any(name.endswith("data.pkl") for name in names):
        return
    for end, origin, remedy in _ARCHIVES:
        if any(name.endswith(end) for name in names):
            raise CheckpointError(
                f"'{path}': not a PyTorch checkpoint: {EXPECTED}, got an archive {origin}. {remedy.format(path=path)}"
            )


def describe_folder(path: Path) -> str:
    """Return what to do with a folder that holds the pieces of a distributed checkpoint; empty for any other."""
    if (path / ".metadata").is_file() and any(path.glob("*.distcp")):
        return (
            "It is one of torch.distributed.checkpoint. Join its pieces: python -m "
            f"torch.distributed.checkpoint.format_utils dcp_to_torch {path} weights.pth."
        )
    pieces = sorted(path.glob("**/mp_rank_*_model_states.pt"))[:2]
    if (path / "zero_to_fp32.py").is_file():
        return f"It is one of DeepSpeed. Join its pieces: python {path / 'zero_to_fp32.py'} {path} weights."
    if len(pieces) == 1:
        return f"It is one of DeepSpeed, whose weights are in one file: pass '{pieces[0]}'."
    return ""
