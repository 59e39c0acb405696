"""Code of a Hugging Face folder: it runs if it is trusted, and is never asked about on the terminal."""

import ast
import io
import json
import re
from pathlib import Path

import pytest
import torch
import transformers
from torch import nn

import exporter
from exporter.architectures.hugging_face import load_auto
from exporter.architectures.rebuild import rebuild
from exporter.architectures.registry import build, resolve
from exporter.checkpoint import read_checkpoint
from exporter.inputs.image import read_transform
from exporter.inputs.text.tokenizer import read_tokenizer

ROOT = Path(__file__).parents[3]

CODE = """
from pathlib import Path
Path({ran!r}).write_text("ran")
from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerFast
from transformers.image_processing_backends import TorchvisionBackend

class Config(PretrainedConfig):
    model_type = "strange"
class Model(PreTrainedModel):
    config_class = Config
    def __init__(self, config):
        super().__init__(config)
        import torch
        self.layer = torch.nn.Linear(3, 2)
        self.post_init()
class Processor(TorchvisionBackend):
    pass
class Tokenizer(PreTrainedTokenizerFast):
    pass
"""
AUTO = {"AutoConfig": "own.Config", "AutoModelForImageClassification": "own.Model"}


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A folder whose configuration, network, processor and tokenizer are code of its own; it leaves a mark."""
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n" * 40))  # what 'yes | truecopy export' would say
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "own.py").write_text(CODE.format(ran=str(tmp_path / "ran")))
    config = {"model_type": "strange", "architectures": ["OwnForImageClassification"], "auto_map": AUTO}
    (folder / "config.json").write_text(json.dumps(config))
    processor = {"auto_map": {"AutoImageProcessor": "own.Processor"}, "image_processor_type": "OwnProcessor"}
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    tokenizer = {"auto_map": {"AutoTokenizer": ["own.Tokenizer", "own.Tokenizer"]}, "tokenizer_class": "OwnTokenizer"}
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    return folder


@pytest.mark.parametrize(
    "read",
    [
        lambda folder: resolve(f"hf:{folder}"),
        lambda folder: read_transform(f"{folder}/preprocessor_config.json"),
        lambda folder: read_transform(f"{folder}/preprocessor_config.json:pil"),
        lambda folder: read_tokenizer(folder, max_length=8, longest=None),
    ],
    ids=["architecture", "torchvision processor", "Pillow processor", "tokenizer"],
)
def test_code_of_a_folder_is_refused_in_one_sentence_and_does_not_run(folder, read):
    with pytest.raises(exporter.ExportError, match=r"needs Python code of its own.*--trust") as caught:
        read(folder)

    assert not (folder.parent / "ran").exists()
    assert "\n" not in str(caught.value)


def test_a_network_whose_class_alone_is_code_is_refused(folder):
    """Its configuration is one that transformers knows."""
    config = {"model_type": "deformable_detr", "architectures": ["OwnForImageClassification"], "auto_map": AUTO}
    config["auto_map"] = {"AutoModelForImageClassification": "own.Model"}
    (folder / "config.json").write_text(json.dumps(config))

    with pytest.raises(exporter.ArchitectureError, match=r"needs Python code of its own.*--trust"):
        build(resolve(f"hf:{folder}"), {})

    assert not (folder.parent / "ran").exists()


def test_attention_from_another_repository_is_refused(folder):
    config = {"model_type": "bert", "architectures": ["BertForSequenceClassification"]}
    config["attn_implementation"] = "a-stranger/kernel"
    (folder / "config.json").write_text(json.dumps(config))

    with pytest.raises(exporter.ArchitectureError, match=r"'a-stranger/kernel'.*--trust"):
        build(resolve(f"hf:{folder}"), {})


def test_trusted_code_of_a_folder_runs(folder, tmp_path):
    network = build(resolve(f"hf:{folder}", trust=True), {})

    assert (tmp_path / "ran").exists()
    assert isinstance(network.model.layer, nn.Linear)
    assert isinstance(network.model.layer.weight, torch.Tensor)


def test_what_transformers_cannot_read_is_reported_in_its_words(folder):
    (folder / "config.json").write_text("{")

    with pytest.raises(exporter.ArchitectureError, match=r"^a: cannot be read: .*\. Check it\.$"):
        load_auto(
            "AutoConfig",
            folder,
            trust=False,
            error=exporter.ArchitectureError,
            problem="a: cannot be read",
            fix="Check it.",
        )


def test_no_other_module_reads_with_an_auto_class():
    """The one function that says whether code may run is easily forgotten."""
    offenders = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in sorted((ROOT / "exporter").rglob("*.py"))
        if path.relative_to(ROOT) != Path("exporter/architectures/hugging_face.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute)
        and node.attr in {"from_pretrained", "from_config"}
        and "GenerationConfig" not in ast.unparse(node.value)
    ]
    assert not offenders


@pytest.fixture
def experts(tmp_path) -> Path:
    """A folder whose file has each expert's tensors, which the network has as one."""
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_local_experts": 2}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2}
    config = transformers.MixtralConfig(vocab_size=20, pad_token_id=0, num_labels=3, **sizes, **heads)
    transformers.AutoModelForSequenceClassification.from_config(config).save_pretrained(tmp_path / "experts")
    return tmp_path / "experts"


def test_a_file_whose_tensors_transformers_merges_names_the_line_that_saves_them_merged(experts, monkeypatch):
    monkeypatch.chdir(experts.parent)
    with pytest.raises(exporter.ArchitectureError, match="merges or splits its tensors") as refused:
        rebuild("hf:experts", {}, read_checkpoint(Path("experts")))

    (line,) = re.findall(r"with (torch\.save\(.*\)), and export", str(refused.value))
    auto = transformers.AutoModelForSequenceClassification
    exec(line, {"torch": torch, "AutoModelForSequenceClassification": auto})  # noqa: S102
    rebuilt = rebuild("hf:experts", {}, read_checkpoint(Path("model.pth")))
    ids = torch.tensor([[3, 5, 7]])
    with torch.no_grad():
        assert torch.equal(rebuilt.network(ids), auto.from_pretrained("experts").eval()(ids).logits)


def test_another_file_than_its_own_is_told_what_differs(experts):
    torch.save(nn.Linear(3, 2).state_dict(), experts.parent / "linear.pth")
    with pytest.raises(exporter.ArchitectureError, match=r"expected \d+ tensors"):
        rebuild(f"hf:{experts}", {}, read_checkpoint(experts.parent / "linear.pth"))
