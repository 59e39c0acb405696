"""Tokenizers of training: untouched for the reference, and as the artifact's ``tokenizer.json``."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from exporter.architectures.hugging_face import load_auto
from exporter.errors import PreprocessingError, first_line
from exporter.outputs.labels import PADDING_WORDS, UNKNOWN_WORDS
from runtime.inputs.text.decoder import ATTENTION_MASK, INPUT_IDS, TOKEN_TYPE_IDS
from runtime.manifest import LAYOUT, TextInput
from runtime.outputs.parts import to_parts

ARRAYS = (INPUT_IDS, ATTENTION_MASK, TOKEN_TYPE_IDS)

# transformers writes a number near 1e30 where a tokenizer has no limit of its own.
_NO_LIMIT = 10**6

_PADDING_TOKENS = ("[PAD]", "<pad>")


@dataclass(frozen=True, kw_only=True)
class ReadTokenizer:
    """The tokenizer of a model.

    ``reference`` is the untouched tokenizer: from one text, or two, to arrays int64 [1, length] by name. ``words``
    are the words of one text with their first tokens, as ``runtime/outputs/parts.py`` has parts. ``data`` is
    the same one as a ``tokenizer.json`` that cuts to ``max_length``, and pads a text alone as the user's file does.
    ``padding`` says that in words, empty where it does not; ``fixed_length`` is the length of every text, None where
    they differ. ``arrays`` are those that the tokenizer gives; ``pad_id`` is None where it has no padding token.
    ``from_artifact`` says that the file is the artifact's own. ``assumptions`` are sentences on what the tokenizer
    itself does not say.
    """

    reference: Callable[[tuple[str, ...]], dict[str, NDArray[np.int64]]]
    words: Callable[[str], dict[str, NDArray[Any]]]
    data: bytes
    arrays: tuple[str, ...]
    max_length: int
    pad_id: int | None
    pad_type_id: int
    padding_side: Literal["left", "right"]
    origin: str
    padding: str
    fixed_length: int | None
    from_artifact: bool = False
    assumptions: tuple[str, ...]


def read_tokenizer(
    path: Path,
    *,
    max_length: int | None,
    longest: int | None,
    carried: TextInput | None = None,
    trust: bool = False,
) -> ReadTokenizer:
    """Return the tokenizer in a Hugging Face folder, or in a ``tokenizer.json`` of its own.

    ``max_length`` is what training cut texts to, special tokens included; by default the tokenizer's own limit, or
    ``longest``, what the network takes. A file cuts and pads a text as it says; a folder's tokenizer is called without
    padding, as transformers does by default. ``carried`` is the input of the artifact that the file is of: such a file
    does not say how a batch is padded, and the manifest does. Python code of the folder runs only if ``trust`` is
    true. Raises PreprocessingError where there is none, or none that the tokenizers library runs.
    """
    if find_spec("tokenizers") is None:
        raise PreprocessingError(
            f"'{path}': the tokenizers library is not installed. Run: pip install 'truecopy[text]'."
        )
    if max_length is not None and max_length < 1:
        raise PreprocessingError(
            f"--max-length: expected at least 1 token, got {max_length}. Use the length of training."
        )
    if path.is_file():
        return _from_file(path, max_length, longest, carried)
    if not path.is_dir():
        raise PreprocessingError(
            f"'{path}': no such tokenizer: expected a Hugging Face folder, or a file '{LAYOUT.tokenizer}'. Check "
            "--tokenizer."
        )
    if find_spec("transformers") is None:
        if (path / LAYOUT.tokenizer).is_file():
            return _from_file(path / LAYOUT.tokenizer, max_length, longest, None)
        raise PreprocessingError(f"'{path}': transformers is not installed. Run: pip install 'truecopy[hf]'.")
    return _from_folder(path, max_length, longest, trust=trust)


def _from_folder(path: Path, max_length: int | None, longest: int | None, *, trust: bool) -> ReadTokenizer:
    tokenizer = load_auto(
        "AutoTokenizer",
        path,
        trust=trust,
        error=PreprocessingError,
        problem=f"'{path}': its tokenizer cannot be read",
        fix=f"Check that the folder holds '{LAYOUT.tokenizer}', as save_pretrained writes it.",
    )
    if not tokenizer.is_fast:
        raise PreprocessingError(
            f"'{path}': its tokenizer, {type(tokenizer).__name__}, runs in Python alone: expected one that the "
            f"tokenizers library runs. Convert it to a '{LAYOUT.tokenizer}' first."
        )
    own = int(tokenizer.model_max_length)
    length, assumptions = _length(max_length, own if own < _NO_LIMIT else None, longest, path)

    def reference(texts: tuple[str, ...]) -> dict[str, NDArray[np.int64]]:
        encoded = tokenizer(*([text] for text in texts), truncation=True, max_length=length, return_tensors="np")
        return {name: np.asarray(encoded[name], dtype=np.int64) for name in arrays}

    def words(text: str) -> dict[str, NDArray[Any]]:
        encoded = tokenizer([text], truncation=True, max_length=length, return_offsets_mapping=True)
        return _words_of(text, encoded.word_ids(0), encoded["offset_mapping"][0])

    arrays = tuple(name for name in ARRAYS if name in tokenizer.model_input_names)
    return ReadTokenizer(
        reference=reference,
        words=words,
        data=_carried_call(tokenizer, length),
        arrays=arrays,
        max_length=length,
        pad_id=tokenizer.pad_token_id,
        pad_type_id=int(tokenizer.pad_token_type_id or 0),
        padding_side="left" if tokenizer.padding_side == "left" else "right",
        origin=f"{type(tokenizer).__name__} of '{path}'",
        padding="",
        fixed_length=None,
        assumptions=(
            f"how texts are encoded: assumed, tokenizer(text, truncation=True, max_length={length}) without padding",
            *assumptions,
        ),
    )


def _words_of(text: str, word_ids: Sequence[int | None], offsets: Sequence[tuple[int, int]]) -> dict[str, NDArray[Any]]:
    """Return the words of a text, each with its first token and its characters; the runtime has code of its own."""
    texts, spans = [], []
    for word in dict.fromkeys(number for number in word_ids if number is not None):
        tokens = [token for token, number in enumerate(word_ids) if number == word]
        characters = {index for token in tokens for index in range(*offsets[token]) if not text[index].isspace()}
        if characters:
            start, end = min(characters), max(characters) + 1
            texts.append(text[start:end])
            spans.append((tokens[0], start, end))
    return to_parts(texts, spans)


def _words_in(path: Path) -> Mapping[str, int]:
    """Return the words of a file that maps each to its number; none for any other file."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return {}
    numbers = content.values() if isinstance(content, dict) else ()
    return content if numbers and all(isinstance(number, int) for number in numbers) else {}


def _of_vocabulary(path: Path, words: Mapping[str, int], max_length: int | None) -> str:
    """Return why words and their numbers are no tokenizer, and how to write one of them."""
    unknown, padding = (
        next((word for word in names if word in words), names[0]) for names in (UNKNOWN_WORDS, PADDING_WORDS)
    )
    cut = f"t.enable_truncation({max_length}); " if max_length else ""
    pad = f"t.enable_padding(length={max_length}, pad_id={words.get(padding, 0)}, pad_token='{padding}'); "
    return (
        f"'{path}': a vocabulary, and not a tokenizer: it does not say how texts are split into words. Write one with "
        f"the tokenizers library, such as t = Tokenizer(WordLevel(json.loads(Path('{path}').read_text()), "
        f"unk_token='{unknown}')); "
        f"t.normalizer = Lowercase(); t.pre_tokenizer = WhitespaceSplit(); {cut}{pad if max_length else ''}"
        "t.save('tokenizer.json'); or pass lists of words: --input 'text=tokens[batch,length]' "
        f"--vocabulary {path}, and --lowercase or --no-lowercase as in training."
    )


def _from_file(path: Path, max_length: int | None, longest: int | None, carried: TextInput | None) -> ReadTokenizer:
    tokenizers = import_module("tokenizers")
    try:
        tokenizer = tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises plain Exception
        numbers = _words_in(path)
        if numbers:
            raise PreprocessingError(_of_vocabulary(path, numbers, max_length)) from error
        raise PreprocessingError(
            f"'{path}': not a tokenizer: {first_line(error)}. Give a '{LAYOUT.tokenizer}' that the tokenizers "
            "library wrote."
        ) from error
    padding: Mapping[str, Any] = tokenizer.padding or _padding_of(tokenizer, carried)
    truncation: Mapping[str, Any] = tokenizer.truncation or {}
    length, assumptions = _length(max_length, truncation.get("max_length"), longest, path)
    if length != truncation.get("max_length"):
        tokenizer.enable_truncation(length, **{key: truncation[key] for key in truncation if key != "max_length"})

    def reference(texts: tuple[str, ...]) -> dict[str, NDArray[np.int64]]:
        encoded = tokenizer.encode(*texts)
        lists = {INPUT_IDS: encoded.ids, ATTENTION_MASK: encoded.attention_mask, TOKEN_TYPE_IDS: encoded.type_ids}
        return {name: np.array([values], dtype=np.int64) for name, values in lists.items()}

    def words(text: str) -> dict[str, NDArray[Any]]:
        encoded = tokenizer.encode(text)
        return _words_of(text, encoded.word_ids, encoded.offsets)

    return ReadTokenizer(
        reference=reference,
        words=words,
        data=_carried_file(tokenizer),
        arrays=ARRAYS,
        max_length=length,
        pad_id=padding["pad_id"],
        pad_type_id=int(padding.get("pad_type_id", 0)),
        padding_side="left" if padding.get("direction") == "left" else "right",
        origin=f"'{path}'",
        padding=_describe_padding(tokenizer.padding),
        fixed_length=_fixed_length(tokenizer.padding, length),
        from_artifact=carried is not None,
        assumptions=assumptions,
    )


def _padding_of(tokenizer: Any, carried: TextInput | None) -> dict[str, Any]:
    """Return how a tokenizer pads whose file does not say it: as the artifact does, or with its padding token."""
    if carried is not None and carried.pad_id is not None:
        return {"pad_id": carried.pad_id, "pad_type_id": carried.pad_type_id, "direction": carried.padding_side}
    known = [tokenizer.token_to_id(token) for token in _PADDING_TOKENS]
    return {"pad_id": next((number for number in known if number is not None), None)}


def _length(max_length: int | None, own: int | None, longest: int | None, path: Path) -> tuple[int, tuple[str, ...]]:
    """Return the length that texts are cut to, and a sentence where the tokenizer, which cuts to ``own``, has none."""
    if max_length is not None:
        stated = f"that texts are cut to {max_length} tokens: stated by options, not compared with training code"
        return max_length, () if max_length == own else (stated,)
    known = [length for length in (own, longest) if length and length > 0]  # XLNet says -1
    if not known:
        raise PreprocessingError(
            f"'{path}': has no length to cut texts to: expected one in its configuration. Pass the "
            "length of training with --max-length."
        )
    length = min(known)
    return length, () if length == own else (f"that texts are cut to {length} tokens: assumed, see --max-length",)


def _describe_padding(padding: Mapping[str, Any] | None) -> str:
    """Return in words how a tokenizer pads a text that is encoded alone; empty where it leaves it as it is."""
    lengths = []
    if padding and padding["length"]:
        lengths.append(f"{padding['length']} tokens")
    if padding and padding["pad_to_multiple_of"]:
        lengths.append(f"a multiple of {padding['pad_to_multiple_of']} tokens")
    return f"padded to {' and '.join(lengths)}" if lengths else ""


def _fixed_length(padding: Mapping[str, Any] | None, max_length: int) -> int | None:
    """Return the length that a tokenizer pads every text to, where it cuts none to more than that."""
    if not padding or not padding["length"] or padding["length"] < max_length:
        return None
    multiple = padding["pad_to_multiple_of"] or 1
    return -(-int(padding["length"]) // multiple) * multiple


def _carried_file(tokenizer: Any) -> bytes:
    """Return a copy of a tokenizer as the artifact's file; padding that concerns batches alone is the manifest's."""
    carried = import_module("tokenizers").Tokenizer.from_str(tokenizer.to_str())
    if not _describe_padding(carried.padding):
        carried.no_padding()
    return _to_bytes(carried)


def _carried_call(tokenizer: Any, length: int) -> bytes:
    """Return the artifact's file that encodes as a call of transformers' tokenizer with truncation does."""
    carried = import_module("tokenizers").Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    carried.no_padding()
    carried.enable_truncation(length, stride=0, strategy="longest_first", direction=str(tokenizer.truncation_side))
    return _to_bytes(carried)


def _to_bytes(tokenizer: Any) -> bytes:
    text: str = tokenizer.to_str(pretty=False)
    return text.encode() + b"\n"
