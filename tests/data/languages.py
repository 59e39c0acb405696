"""Small networks of token sequences and of texts, and a tokenizer for them."""

from pathlib import Path

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

WORDS = (
    *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "good", "bad", "very", "not", "it", "is"),
    *("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
)


def build_tokenizer(path: Path) -> None:
    """Write a tokenizer.json of a few words, lower-cased, with BERT's special tokens."""
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.enable_padding(pad_id=0, pad_token="[PAD]")
    tokenizer.enable_truncation(24)
    tokenizer.save(str(path))


class Recurrent(nn.Module):
    """Any of torch's recurrent layers; its answer depends on padding."""

    def __init__(self, kind: str = "GRU", bidirectional: bool = False, layers: int = 1) -> None:
        super().__init__()
        self.tokens = nn.Embedding(20, 16)
        self.reader = getattr(nn, kind)(16, 16, layers, batch_first=True, bidirectional=bidirectional)
        self.head = nn.Linear(32 if bidirectional else 16, 5)

    def forward(self, tokens: Tensor) -> Tensor:
        states, _ = self.reader(self.tokens(tokens))
        return 4 * self.head(states.mean(dim=1))


class Tagger(Recurrent):
    """A logit a class for every token: its forward gives a sequence."""

    def forward(self, tokens: Tensor) -> Tensor:
        states, _ = self.reader(self.tokens(tokens))
        return 4 * self.head(states)


class Packed(nn.Module):
    """A recurrent layer over packed sequences, whose lengths come beside the tokens; the last states alone count."""

    def __init__(self, kind: str = "LSTM", is_sorted: bool = False) -> None:
        super().__init__()
        self.tokens = nn.Embedding(20, 16)
        self.reader = getattr(nn, kind)(16, 16, batch_first=True, bidirectional=True)
        self.head = nn.Linear(32, 5)
        self.is_sorted = is_sorted

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        packed = pack_padded_sequence(
            self.tokens(tokens), lengths.cpu(), batch_first=True, enforce_sorted=self.is_sorted
        )
        _, states = self.reader(packed)
        states = states[0] if isinstance(states, tuple) else states
        return 4 * self.head(torch.cat((states[0], states[1]), dim=1))


class Attended(nn.Module):
    """A mean over the tokens that a mask has, and a check of the padding that another has."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(20, 16)
        self.head = nn.Linear(16, 3)

    def forward(self, tokens: Tensor, attention_mask: Tensor, padding: Tensor) -> Tensor:
        kept = attention_mask.unsqueeze(2).to(torch.float32)
        states = self.tokens(tokens).masked_fill(padding.unsqueeze(2), 100.0)
        return 4 * self.head((states * kept).sum(dim=1) / kept.sum(dim=1))


class Masked(nn.Module):
    """A transformer encoder that looks away from padding, for at most 40 tokens; of texts, too."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(20, 16, padding_idx=0)
        self.places = nn.Embedding(40, 16)
        layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(16, 3)

    def forward(self, input_ids: Tensor) -> Tensor:
        padding = input_ids == 0
        places = self.places(torch.arange(input_ids.shape[1], device=input_ids.device))
        states = self.encoder(self.tokens(input_ids) + places, src_key_padding_mask=padding)
        kept = (~padding).unsqueeze(2).to(states.dtype)
        return 2 * self.head((states * kept).sum(dim=1) / kept.sum(dim=1))


class Decoder(nn.Module):
    """Greedy decoding with a transformer: what was written so far grows from step to step."""

    start_id, end_id, max_steps = 1, 2, 12

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(20, 16)
        self.places = nn.Embedding(64, 16)
        self.network = nn.Transformer(16, 2, 1, 1, 32, batch_first=True)
        self.head = nn.Linear(16, 20)

    def encode(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        return self.network.encoder(self.embed(tokens)), tokens[:, :0]

    def step(self, token: Tensor, memory: Tensor, written: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        written = torch.cat((written, token.unsqueeze(1)), dim=1)
        count = written.shape[1]
        mask = torch.full((count, count), float("-inf")).triu(diagonal=1)
        states = self.network.decoder(self.embed(written), memory, mask)
        return 3 * self.head(states[:, -1]), memory, written

    def embed(self, tokens: Tensor) -> Tensor:
        return 3 * self.tokens(tokens) + self.places(torch.arange(tokens.shape[1], device=tokens.device))

    def forward(self, tokens: Tensor) -> Tensor:
        memory, written = self.encode(tokens)
        token = torch.full((tokens.shape[0],), self.start_id)
        given = []
        for _ in range(self.max_steps):
            logits, memory, written = self.step(token, memory, written)
            token = logits.argmax(dim=-1)
            given.append(token)
            if (torch.stack(given, dim=1) == self.end_id).any(dim=1).all():
                break
        return torch.stack(given, dim=1)


class Unrolled(nn.Module):
    """A decoder that shows no halves: only its forward, with a loop as long as the input."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(20, 16)
        self.cell = nn.GRUCell(16, 16)
        self.head = nn.Linear(16, 20)

    def forward(self, tokens: Tensor) -> Tensor:
        state = self.tokens(tokens).mean(dim=1)
        token, given = tokens[:, 0], []
        for _ in range(tokens.shape[1]):
            state = self.cell(self.tokens(token), state)
            token = self.head(state).argmax(dim=-1)
            given.append(token)
        return torch.stack(given, dim=1)


class Stopping(Unrolled):
    """A decoder with a loop that stops once all sequences have ended, which these never do."""

    def forward(self, tokens: Tensor) -> Tensor:
        state = self.tokens(tokens).mean(dim=1)
        token, given = tokens[:, 0], []
        while len(given) < 6:
            state = self.cell(self.tokens(token), state)
            token = self.head(state)[:, :19].argmax(dim=-1)
            given.append(token)
            if (token == 19).all():
                break
        return torch.stack(given, dim=1)


class Steady(Unrolled):
    """A decoder that always takes three steps."""

    def forward(self, tokens: Tensor) -> Tensor:
        state = self.tokens(tokens).mean(dim=1)
        token, given = tokens[:, 0], []
        for _ in range(3):
            state = self.cell(self.tokens(token), state)
            token = self.head(state).argmax(dim=-1)
            given.append(token)
        return torch.stack(given, dim=1)


class Strayed(Unrolled):
    """A decoder whose forward is not what its halves do: it writes as many tokens as it read."""

    start_id, max_steps = 1, 4

    def encode(self, tokens: Tensor) -> Tensor:
        return self.tokens(tokens).mean(dim=1)

    def step(self, token: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        state = self.cell(self.tokens(token), state)
        return self.head(state), state
