"""Options under the names that other tools and earlier versions give them, for the hint of an unknown option."""

from collections.abc import Collection, Mapping

# By what is ours of them; what stands behind a blank is the value that it means.
_NAMES: Mapping[str, Collection[str]] = {
    "--preprocess": ("--transform", "--transforms", "--preprocessing", "--like"),
    "--resize": ("--input-size", "--img-size", "--image-size", "--imgsz", "--size", "--input-shape"),
    "--crop": ("--crop-size", "--center-crop"),
    "--resize-backend": ("--resize-as",),
    "--channels": ("--image-mode", "--channel-order", "--color"),
    "--channels bgr": ("--bgr",),
    "--labels": ("--classes", "--class-names", "--label-file", "--id2label", "--names"),
    "--arch": ("--model", "--architecture", "--model-name", "--network"),
    "--arch-arg num_classes=N": ("--num-classes", "--n-classes", "--nc"),
    "--out": ("--output", "--output-dir", "--output-path", "--out-dir", "--save-dir"),
    "--precision fp16": ("--half", "--fp16"),
    "--precision int8": ("--int8", "--quantize"),
    "--forms": ("--format", "--formats"),
    "--opset": ("--opset-version",),
    "--tokenizer": ("--vocab",),
    "--vocabulary": ("--vocab-file", "--words"),
    "--max-length": ("--max-len", "--seq-length", "--max-seq-length"),
    "--text-pairs": ("--pairs",),
    "--samples": ("--data", "--images", "--inputs", "--val"),
    "--part": ("--parts",),
    "--trust": ("--trust-remote-code", "--unsafe"),
    "--ignore-keys": ("--exclude-keys", "--strict", "--no-strict"),
    "--target-mean": ("--y-mean",),
    "--force": ("--overwrite",),
}


def synonyms_of(flags: Collection[str]) -> Mapping[str, str]:
    """Return our option for each foreign name, of those that a command has."""
    return {
        name: ours
        for ours, names in _NAMES.items()
        for name in names
        if ours.partition(" ")[0] in flags and name not in flags
    }
