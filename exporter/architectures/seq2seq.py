"""Greedy decoding of transformers' encoder-decoders (T5, BART), split into encoder and step."""

from typing import Any

import torch
from torch import Tensor, nn

from exporter.errors import ArchitectureError

# What generation writes at most where the folder does not say: transformers' own default.
_MAX_STEPS = 20

# What a folder may ask of generation beyond the likeliest token at each step, and the values that ask for nothing.
_GREEDY: dict[str, tuple[Any, ...]] = {
    "num_beams": (None, 1),
    "do_sample": (None, False),
    "min_length": (None, 0),
    "min_new_tokens": (None, 0),
    "no_repeat_ngram_size": (None, 0),
    "repetition_penalty": (None, 1.0),
    "forced_bos_token_id": (None,),
    "forced_eos_token_id": (None,),
    "bad_words_ids": (None,),
    "suppress_tokens": (None, []),
    "begin_suppress_tokens": (None, []),
}


class GreedySeq2Seq(nn.Module):
    """Token numbers in, token numbers out: the likeliest at each step, until ``end_id`` or after ``max_steps``.

    ``encode`` and ``step`` are what ``conversion.decoder_loop`` makes a Loop of; ``forward`` is transformers' own
    ``generate``.
    """

    def __init__(self, model: Any, *, max_steps: int) -> None:
        super().__init__()
        self.model = model
        self.start_id = int(model.config.decoder_start_token_id)
        self.end_id = int(model.config.eos_token_id)
        self.max_steps = max_steps

    def encode(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Return the encoder's states [batch, length, width], and what is written so far: nothing."""
        states: Tensor = self.model.get_encoder()(tokens, attention_mask=torch.ones_like(tokens)).last_hidden_state
        return states, tokens[:, :0]

    def step(self, token: Tensor, states: Tensor, written: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return logits [batch, vocabulary] after one more token, and the states for the next step."""
        written = torch.cat((written, token.unsqueeze(1)), dim=1)
        found = self.model(encoder_outputs=(states,), decoder_input_ids=written, use_cache=False)
        return found.logits[:, -1], states, written

    def forward(self, tokens: Tensor) -> Tensor:
        """Return what generate() writes for sequences without padding, int64 [batch, steps]."""
        written: Tensor = self.model.generate(
            tokens, attention_mask=torch.ones_like(tokens), do_sample=False, num_beams=1, max_new_tokens=self.max_steps
        )
        return written[:, 1:]


def build_seq2seq(model: Any, settings: Any, reference: str, *, max_steps: int | None = None) -> GreedySeq2Seq:
    """Return an encoder-decoder that writes as its folder's generation ``settings`` say.

    Raises ArchitectureError where these ask for more than the likeliest token at each step.
    """
    odd = {
        name: getattr(settings, name, None)
        for name, nothing in _GREEDY.items()
        if getattr(settings, name, None) not in nothing
    }
    if odd:
        asked = ", ".join(f"{name}={value!r}" for name, value in odd.items())
        raise ArchitectureError(
            f"'{reference}': its generation_config.json asks for {asked}: expected the likeliest token at each step, "
            "which is what a graph can loop over. Leave that out of a copy of the folder, if greedy decoding will do."
        )
    if isinstance(model.config.eos_token_id, list):
        raise ArchitectureError(
            f"'{reference}': has several end tokens: expected one, got {model.config.eos_token_id}. Keep one."
        )
    longest = getattr(settings, "max_new_tokens", None) or getattr(settings, "max_length", None) or _MAX_STEPS
    return GreedySeq2Seq(model, max_steps=max_steps or int(longest))
