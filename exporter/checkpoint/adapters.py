"""Adapters such as LoRA's: weights that are added to those of a base model, and no model by themselves."""

import json
from pathlib import Path

from exporter.errors import CheckpointError

_CONFIG_NAME = "adapter_config.json"

# What peft calls a task, and its class that loads an adapter together with its base.
_LOADERS = {
    "SEQ_CLS": "AutoPeftModelForSequenceClassification",
    "TOKEN_CLS": "AutoPeftModelForTokenClassification",
    "SEQ_2_SEQ_LM": "AutoPeftModelForSeq2SeqLM",
    "CAUSAL_LM": "AutoPeftModelForCausalLM",
    "QUESTION_ANS": "AutoPeftModelForQuestionAnswering",
    "FEATURE_EXTRACTION": "AutoPeftModelForFeatureExtraction",
}


def check_no_adapter(path: Path) -> None:
    """Raise CheckpointError, with the lines that merge it with its base, for a folder or file that peft saved."""
    folder = path if path.is_dir() else path.parent
    alone = path.is_dir() and not any((folder / name).is_file() for name in ("model.safetensors", "pytorch_model.bin"))
    config_file = folder / _CONFIG_NAME
    if not config_file.is_file() or not (alone or path.name.startswith("adapter_model.")):
        return
    config = json.loads(config_file.read_text(encoding="utf-8"))
    base = config.get("base_model_name_or_path")
    loader = _LOADERS.get(config.get("task_type") or "", "AutoPeftModel")
    tokenizer = ""
    if any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt")):
        tokenizer = f"; transformers.AutoTokenizer.from_pretrained('{folder}').save_pretrained('merged')"
    mapping = config.get("auto_mapping") or {}
    if not base and mapping.get("parent_library", "transformers").partition(".")[0] != "transformers":
        raise CheckpointError(
            f"'{path}': a {config.get('peft_type') or 'peft'} adapter of a network of your own, "
            f"'{mapping.get('base_model_class')}', and no model without it. Merge them where peft is installed, with "
            f"'network' in its trained state: merged = peft.PeftModel.from_pretrained(network, '{folder}')"
            ".merge_and_unload(); torch.save(merged.state_dict(), 'merged.pth'). Export that with --arch."
        )
    if base:
        named, load = f" '{base}'", f"peft.{loader}.from_pretrained('{folder}')"
    else:  # peft cannot find it either
        own = f"transformers.{loader.replace('AutoPeft', 'Auto')}.from_pretrained('BASE')"
        named = ", 'BASE' in what follows, which it does not name"
        load = f"peft.PeftModel.from_pretrained({own}, '{folder}')"
    raise CheckpointError(
        f"'{path}': a {config.get('peft_type') or 'peft'} adapter, which is no model without its base{named}. Merge "
        f"them where peft is installed, and export the folder 'merged': model = {load}; "
        f"model.merge_and_unload().save_pretrained('merged'){tokenizer}."
    )
