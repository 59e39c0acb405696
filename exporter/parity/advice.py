"""Advice on a verdict: the cause as far as it was measured, and what to do about it."""

from exporter.parity.cases import TEXTS
from exporter.parity.compare import BATCHES
from exporter.parity.randomness import RANDOM, STATE
from exporter.parity.verdict import SENSITIVE
from runtime.evidence import Evidence, Row, Stage
from runtime.manifest import LAYOUT

# What truecopy itself computes: a difference there is no fault of the model.
_OWN_STAGES: dict[Stage, str] = {
    "decode": "decoder",
    "geometry": "version of the transform",
    "tokens": "version of the tokenizer",
    "arithmetic": "version of the transform",
    "activation": "postprocessing",
    "labels": "reading of the outputs",
}


def advise(
    evidence: Evidence, *, right_unoptimized: bool = False, exporter: str = "torch.onnx", hidden: str = ""
) -> str:
    """Return the cause of a verdict other than ``passed``, and what to do.

    ``right_unoptimized`` says that the graph gives eager's outputs once onnxruntime changes nothing in it; ``exporter``
    converted it. ``hidden`` says what else than its inputs the network depends on, if anything, or how far it is
    from itself.
    """
    if evidence.reason.startswith(STATE):
        return (
            "Compute outputs from the input alone: change nothing in evaluation that a later call reads, as under 'if "
            "self.training:'."
        )
    if evidence.reason.startswith(RANDOM):
        return (
            "Draw no random numbers in evaluation: give F.dropout training=self.training, or return the mean of a "
            "distribution instead of a sample."
        )
    if evidence.first_fault is None and evidence.verdict == "failed":
        return "Figures grew since the baseline: the report lists them, and the versions that changed."
    if evidence.reason.startswith(SENSITIVE):
        return (
            "A step of its forward takes nearly equal numbers for different ones, as '//', '%' and comparisons with "
            "fractions do: compute such steps in whole numbers, or in the preprocessing."
        )
    if evidence.first_fault is None:
        return _on_missing_signal(evidence)
    row = evidence.rows[evidence.first_fault]
    if hidden and row.stage not in _OWN_STAGES:
        return f"{hidden} If the fault stays, pass --locate FOLDER to find the operation."
    return _on_fault(row, right_unoptimized, exporter)


def _on_missing_signal(evidence: Evidence) -> str:
    inner = [noise for noise in evidence.noise if noise.stage == "network"]
    best = max(inner, key=lambda noise: noise.signal, default=None)
    if len(evidence.inputs) < 2:
        return "Only one input was compared: pass several that the network takes with --samples."
    if best is None or not best.size:
        return "All outputs of the network are 0: pass inputs that it reacts to with --samples."
    return (
        f"The network's own '{best.tensor}' varies by {best.signal:.1e}, where its values are up to {best.size:.1e}: "
        "pass --samples whose results differ. Weights that were never trained may give such outputs."
    )


def _on_fault(row: Row, right_unoptimized: bool, exporter: str) -> str:
    if row.stage == "decode" and row.group == TEXTS:
        return (
            "Your function makes other tokens of this text than the artifact, which splits texts at blanks and looks "
            "each word up: pass --lowercase, --no-lowercase or --unknown-word as the function does it, or write it as "
            "a tokenizer of the tokenizers library, and pass --tokenizer tokenizer.json."
        )
    if row.stage in _OWN_STAGES:
        return f"The cause is truecopy's own {_OWN_STAGES[row.stage]}, and not the model: report this sentence."
    if row.path == LAYOUT.torchscript:
        return (
            "The cause is the TorchScript trace, which keeps what depended on values: use torch.where, or leave that "
            "form out with --forms onnx."
        )
    if right_unoptimized:
        return "The cause is onnxruntime's optimization of a graph that is right: install another onnxruntime."
    if row.fault == "error":
        return "The cause is onnxruntime, which fails on an input that eager takes: install another onnxruntime."
    if row.fault == "non-finite":
        return "The cause is a range: values overflow on the way in one of the two. Scale them in the forward."
    if row.fault == "shape" and row.group == BATCHES:
        return "The cause is the batch: its outputs have no row for each input. Return one row per input."
    return (
        f"The cause is the conversion to ONNX ({exporter}): pass --locate FOLDER to find the operation, and write it "
        "in other ones, or install another torch."
    )
