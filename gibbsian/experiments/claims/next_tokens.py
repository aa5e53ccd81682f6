"""Next-token distributions of SmolLM2-135M-Instruct, window by window."""

from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from transformers import AutoTokenizer

from gibbsian.experiments.claims.heads import ModelName, language_model
from gibbsian.experiments.claims.parts import kept_part
from gibbsian.experiments.pretrained import smollm2_folder
from gibbsian.experiments.text import load_text
from gibbsian.sampling import start, step
from gibbsian.sampling.filters.cutting import sorted_values
from gibbsian.sampling.policies import Fixed

MODEL: ModelName = "SmolLM2-135M"
READ = "Austen"
WRITTEN = "its own text"
CONTEXT = 32
"""Tokens before the first position that is looked at."""
POSITIONS = 64
"""Positions of a window."""
_PROMPTS = (
    "Tell me a long story about a lighthouse keeper.",
    "Explain in detail how bread is made, and why each step matters.",
    "Write a letter to a friend about a journey through the mountains.",
    "Describe the history of the bicycle.",
    "What should I think about before I buy a house? Answer at length.",
    "Write a dialogue between a teacher and a curious student about the moon.",
    "Explain what a computer program is to somebody who has never seen one.",
    "Give me a detailed plan for a vegetable garden.",
)
_END_TOKENS = 3
"""<|endoftext|>, <|im_start|>, <|im_end|>: the first of the vocabulary."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Window:
    """Consecutive positions of one text, the logits of each sorted: no sampler sees the order."""

    logits: Float[Tensor, "positions states"]
    """Descending."""
    rank: Int64[Tensor, "positions"]
    """Place of the token that follows in the text, from 0."""
    source: str
    """`READ` or `WRITTEN`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Passage:
    """The tokens of a window."""

    tokens: tuple[int, ...]
    """The last `POSITIONS` + 1 are those whose distributions are looked at, and their targets."""
    source: str


def passages(num_read: int, num_written: int, seed: int) -> list[Passage]:
    """Windows of the novels, evenly spread, and of the model's own text, drawn at temperature 1."""
    content = load_text().content
    tokenizer = _tokenizer()
    length = CONTEXT + POSITIONS + 1
    stride = len(content) // num_read
    found = []
    for i in range(num_read):
        begin = i * stride + 97 * seed
        # a word begins after a blank
        begin = content.index(" ", begin) + 1
        tokens = tokenizer(content[begin : begin + 8 * length], add_special_tokens=False)
        found.append(Passage(tokens=tuple(tokens["input_ids"][:length]), source=READ))
    copies = -(-num_written // len(_PROMPTS))
    texts: list[list[int]] = []
    for i, prompt in enumerate(_PROMPTS):
        if len(texts) < num_written:
            texts += kept_part(f"text-{i}", partial(_written, prompt, copies, seed + 1000 * i))
    found += [Passage(tokens=tuple(t), source=WRITTEN) for t in texts[:num_written]]
    return found


def read_window(passage: Passage) -> Window:
    """The model reads a passage."""
    tokens = torch.tensor([passage.tokens])
    with torch.no_grad():
        logits = language_model()(tokens, use_cache=False).logits[0, -POSITIONS - 1 : -1]
    target = logits.gather(1, tokens[0, -POSITIONS:, None])
    return Window(
        logits=sorted_values(logits).flip(-1).contiguous(),
        # of equal logits the first
        rank=(logits > target).sum(dim=-1),
        source=passage.source,
    )


@lru_cache(maxsize=len(_PROMPTS))
@torch.no_grad()
def _written(prompt: str, copies: int, seed: int) -> list[list[int]]:
    """Prompt and answer, several times; the tokens that end a text are not allowed."""
    words = _tokenizer().apply_chat_template(
        [{"role": "user", "content": prompt}], add_generation_prompt=True, tokenize=False
    )
    ids = _tokenizer()(words, add_special_tokens=False)["input_ids"]
    texts = torch.tensor([ids] * copies)
    model, policy = language_model(), Fixed(temperature=1.0)
    state = start(policy, copies, seed=seed)
    given, cache = texts, None
    for _ in range(CONTEXT + POSITIONS + 1):
        found = model(given, past_key_values=cache, use_cache=True)
        logits, cache = found.logits[:, -1].clone(), found.past_key_values
        logits[:, :_END_TOKENS] = -torch.inf
        token, state, _ = step(logits, state, policy=policy)
        given = token[:, None]
        texts = torch.cat([texts, given], dim=1)
    return [[int(t) for t in row] for row in texts]


@lru_cache(maxsize=1)
def _tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(smollm2_folder())
