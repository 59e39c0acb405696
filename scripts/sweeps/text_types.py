"""Types of transformers' classifiers of texts, in configurations small enough to export in seconds."""

from typing import Any

import transformers
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers.models.auto.tokenization_auto import TOKENIZER_MAPPING_NAMES

# Random weights of this deviation tell inputs apart after two layers.
DEVIATION = 0.3
_LENGTH = 48
_VOCABULARY = 300
_CORPUS = (
    "the film was very good and the weather was great",
    "it is a bad movie not great at all",
    "one two three four five six seven eight nine ten eleven twelve",
    "rain and a quick brown fox over the lazy dog in the village",
)

# Sizes under all of the names that configurations have for them; each configuration takes those that it has.
_SIZES: dict[str, Any] = {
    **dict.fromkeys(("hidden_size", "d_model", "embedding_size", "emb_dim", "input_embedding_size"), 32),
    **dict.fromkeys(("num_hidden_layers", "encoder_layers", "decoder_layers", "num_layers"), 2),
    **dict.fromkeys(("num_attention_heads", "num_key_value_heads", "encoder_attention_heads"), 2),
    **dict.fromkeys(("decoder_attention_heads", "num_heads"), 2),
    **dict.fromkeys(("intermediate_size", "encoder_ffn_dim", "decoder_ffn_dim", "ffn_dim", "d_ff"), 48),
    **dict.fromkeys(("moe_intermediate_size", "shared_expert_intermediate_size"), 48),
    **dict.fromkeys(("n_routed_experts", "num_experts", "num_local_experts"), 4),
    **dict.fromkeys(("num_experts_per_tok", "experts_per_token"), 2),
    **dict.fromkeys(("head_dim", "d_kv", "v_head_dim", "qk_nope_head_dim", "qk_rope_head_dim"), 16),
    **dict.fromkeys(("linear_key_head_dim", "linear_value_head_dim", "kv_lora_rank", "q_lora_rank"), 16),
    **dict.fromkeys(("initializer_range", "init_std"), DEVIATION),
    "max_position_embeddings": 64,
}

_PLAIN = (
    *("albert", "arcee", "bart", "bert", "big_bird", "biogpt", "bloom", "camembert", "convbert", "data2vec-text"),
    *("deberta", "deberta-v2", "diffllama", "doge", "electra", "ernie", "esm", "esmc", "eurobert", "exaone4", "fnet"),
    *("gemma", "gemma2", "gemma3_text", "glm", "glm4", "gpt2", "gpt_bigcode", "gpt_neox", "gpt_oss"),
    *("gte", "helium", "hunyuan_v1_dense", "ibert", "jina_embeddings_v3", "layoutlm", "llama", "longformer", "mbart"),
    *("megatron-bert", "ministral", "ministral3", "mistral", "mixtral", "mobilebert", "modernbert"),
    *("modernbert-decoder", "mpnet", "mpt", "mra", "mt5", "mvp", "nemotron", "nomic_bert", "nystromformer", "olmo"),
    *("olmo2", "olmo3", "openai-gpt", "opt", "persimmon", "phi", "phi3", "qwen2", "qwen2_moe", "qwen3", "qwen3_moe"),
    *("rembert", "roberta", "roberta-prelayernorm", "roformer", "seed_oss", "smollm3", "squeezebert", "stablelm"),
    *("starcoder2", "t5", "umt5", "xlm", "xlm-roberta", "xlm-roberta-xl", "yoso"),
)

# By type: what its configuration needs besides, or None for names that it cannot have.
TEXT: dict[str, dict[str, Any]] = {
    **{name: {} for name in _PLAIN},
    "ctrl": {"dff": 48},
    "distilbert": {"hidden_dim": 48},
    "falcon": {"head_dim": None},
    "funnel": {"num_hidden_layers": None, "block_sizes": [1, 1], "d_inner": 48, "n_head": 2, "d_head": 16},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]]},
    "gptj": {"rotary_dim": 8},
    "lilt": {"channel_shrink_ratio": 2, "hidden_size": 48, "max_2d_position_embeddings": 64},
    "luke": {"entity_vocab_size": 10, "entity_emb_size": 16},
    "t5": {"decoder_start_token_id": 0},
    "xlnet": {
        "max_position_embeddings": None,
        "num_attention_heads": None,
        "d_inner": 48,
        "n_layer": 2,
        "n_head": 2,
        "d_head": 16,
    },
    "xmod": {"languages": ["en_XX"], "default_language": "en_XX"},
}


def build_tokenizer(name: str) -> Any:
    """Return a type's own tokenizer, trained on a few sentences.

    For those that have a ``tokenizer.json`` alone, or a tokenizer that runs in Python, it is one of whole words.
    """
    own = getattr(transformers, TOKENIZER_MAPPING_NAMES.get(name) or "", None)
    if isinstance(own, type) and issubclass(own, transformers.PreTrainedTokenizerFast):
        try:
            tokenizer: Any = own().train_new_from_iterator(_CORPUS * 20, vocab_size=_VOCABULARY)
        except (ValueError, TypeError, OverflowError, ImportError):  # of files, or of another library
            tokenizer = tokenizer_of_words()
    else:
        tokenizer = tokenizer_of_words()
    tokenizer.model_max_length = _LENGTH
    if tokenizer.pad_token is None:
        # As fine-tuning scripts do it.
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    return tokenizer


def text_settings(tokenizer: Any) -> dict[str, Any]:
    """Return the usual settings of a configuration; those that a type does not have are to be left out."""
    ids = {key: getattr(tokenizer, key) for key in ("pad_token_id", "bos_token_id", "eos_token_id")}
    return {**_SIZES, "vocab_size": len(tokenizer), **ids}


def tokenizer_of_words() -> Any:
    """Return a tokenizer of whole words in lower case."""
    marks = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    ends = {"bos_token": "[CLS]", "eos_token": "[SEP]"}
    words = sorted({word for sentence in _CORPUS for word in sentence.split()})
    tokens = {word: row for row, word in enumerate([*marks.values(), *words])}
    tokenizer = Tokenizer(models.WordLevel(tokens, unk_token=marks["unk_token"]))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(mark, tokens[mark]) for mark in ("[CLS]", "[SEP]")],
    )
    return transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **marks, **ends)
