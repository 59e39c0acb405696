"""File names of an artifact."""

import msgspec


class Layout(msgspec.Struct, frozen=True, kw_only=True):
    """The files of an artifact folder, by what they hold.

    Only ``manifest`` is found by its name; the manifest names all others, so that an artifact may lack one, such as
    ``torchscript``.
    """

    manifest: str = "truecopy.json"
    model: str = "model.onnx"
    network: str = "network.onnx"
    weights: str = "weights.bin"
    torchscript: str = "model.torchscript"
    golden: str = "golden.npz"
    parity: str = "parity.json"
    labels: str = "labels.txt"
    vocabulary: str = "vocabulary.txt"
    tokenizer: str = "tokenizer.json"


LAYOUT = Layout()
