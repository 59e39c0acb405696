"""ONNX opsets and IR versions: what a graph needs, and the oldest onnxruntime that has it."""

import onnx
from onnx import helper

from exporter.conversion.node_builder import all_nodes
from exporter.errors import ConversionError
from exporter.options.forms import OPSETS
from runtime.manifest import OnnxVersions

# Releases of onnxruntime, oldest first, with the highest opset and IR version of each: those of the release of ONNX
# that it was built with, https://onnxruntime.ai/docs/reference/compatibility.html.
_RELEASES = (("1.11", 16, 8), ("1.12", 17, 8), ("1.14", 18, 8), ("1.15", 19, 9), ("1.17", 20, 9), ("1.18", 21, 10))


def opset_of(model: onnx.ModelProto) -> int:
    """Return the version of the standard operators that a graph uses."""
    return next(int(entry.version) for entry in model.opset_import if entry.domain in {"", "ai.onnx"})


def lowest_ir_version(model: onnx.ModelProto) -> int:
    """Return the lowest IR version that may hold a graph of these opsets."""
    return int(helper.find_min_ir_version_for(list(model.opset_import)))


def versions_of(model: onnx.ModelProto) -> OnnxVersions:
    """Return the versions of a graph, and the oldest onnxruntime that implements both of them."""
    opset, ir_version = opset_of(model), int(model.ir_version)
    oldest = next(
        (
            release
            for release, highest_opset, highest_ir in _RELEASES
            if opset <= highest_opset and ir_version <= highest_ir
        ),
        "",
    )
    return OnnxVersions(opset=opset, ir_version=ir_version, oldest_onnxruntime=oldest)


def check_opset(model: onnx.ModelProto, opset: int, *, name: str) -> None:
    """Raise ConversionError unless all operators of a graph of the network ``name`` can be written in ``opset``."""
    nodes = [node for node in all_nodes(model) if node.domain in {"", "ai.onnx"}]
    missing = [node for node in nodes if not _is_in(node, opset)]
    if not missing:
        return
    # The others may be in forms that later opsets no longer have.
    fitting = [later for later in OPSETS if later > opset and all(_is_in(node, later) for node in missing)]
    expected = f"opset {fitting[0]} or higher" if fitting else "a later one"
    remedy = f"Pass --opset {fitting[0]}, or leave it out" if fitting else "Leave --opset out"
    operators = ", ".join(sorted({node.op_type for node in missing}))
    raise ConversionError(f"'{name}': opset {opset} cannot express its {operators}: expected {expected}. {remedy}.")


def _is_in(node: onnx.NodeProto, opset: int) -> bool:
    try:
        schema = onnx.defs.get_schema(node.op_type, max_inclusive_version=opset, domain="")
    except onnx.defs.SchemaError:
        return False
    attributes = {attribute.name for attribute in node.attribute}
    required = {name for name, attribute in schema.attributes.items() if attribute.required}
    return (
        required <= attributes <= schema.attributes.keys()
        and schema.min_input <= len(node.input) <= schema.max_input
        and schema.min_output <= len(node.output) <= schema.max_output
    )
