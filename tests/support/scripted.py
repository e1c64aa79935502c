"""Models that say what a test wants: by their weights, each token after the one before, or by a script."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llmpar.engine.constraint import unpack
from llmpar.engine.engine import Engine
from llmpar.engine.request import Request
from llmpar.engine.request import Sequence as Answer
from support.chat import CONTROL

_WIDTH = 384  # of the hidden states: each token has a dimension of its own


def scripted_model(
    path: Path, script: Sequence[str], template: str, *, control: Sequence[str] = (), last: str = "\n"
) -> Path:
    """Save a model that answers every prompt with a script, and return its directory.

    Args:
        path: the directory.
        script: tokens, none of which comes twice; a control token has its name, and "|" cuts a text in two.
        template: its chat template.
        control: control tokens of the model, besides those of ChatML.
        last: the token with which every prompt ends.
    """
    import torch
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM

    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    names = [*CONTROL, *control]

    def spelled(text: str) -> str:
        return text if text in names else "".join(piece for piece, _ in level.pre_tokenize_str(text))

    words = [spelled(token) for token in script]
    assert len(set(words)) == len(words), "a token that comes twice has one successor"
    vocabulary = {name: index for index, name in enumerate(names)}
    for word in [*sorted(pre_tokenizers.ByteLevel.alphabet()), *words]:
        vocabulary.setdefault(word, len(vocabulary))
    assert len(vocabulary) <= _WIDTH
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(name, special=True) for name in names])
    config = LlamaConfig(
        vocab_size=len(vocabulary),
        hidden_size=_WIDTH,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=8,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        bos_token_id=0,
        eos_token_id=2,
    )
    torch.manual_seed(0)
    model = LlamaForCausalLM(config)
    follows = dict.fromkeys(range(len(vocabulary)), vocabulary["<|im_end|>"])
    ids = [vocabulary[spelled(last)], *(vocabulary[word] for word in words)]
    follows |= dict(pairwise(ids))
    with torch.no_grad():
        model.model.embed_tokens.weight.zero_()
        model.lm_head.weight.zero_()
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        for token_id, following in follows.items():
            model.model.embed_tokens.weight[token_id, token_id] = 1.0
            model.lm_head.weight[following, token_id] = 1.0
    model.save_pretrained(path)
    tokenizer.save(str(path / "tokenizer.json"))
    (path / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|im_end|>", "bos_token": "<|endoftext|>"}))
    (path / "chat_template.jinja").write_text(template)
    return path


class ScriptedRunner:
    """A runner that says what it is told to, as far as the form of the answer allows it.

    Args:
        say: returns what is said to a prompt, given its text with all control tokens.
        tokenizer: the model's, of the tokenizers library.
        stop_ids: the tokens that end an answer.
    """

    continuous = True
    num_slots = 4

    def __init__(self, say: Callable[[str], Sequence[str]], tokenizer: Any, stop_ids: frozenset[int]) -> None:
        self._say, self._tokenizer, self._stop_ids = say, tokenizer, stop_ids
        self._live: list[Answer] = []

    def start(self) -> None: ...
    def reserve(self, request: Request) -> bool:
        return True

    def resize(self, num_slots: int) -> None:
        self.num_slots = num_slots

    def prefill(self, sequences: list[Answer]) -> None:
        self._live += sequences
        self.decode(sequences)

    def decode(self, sequences: list[Answer]) -> None:
        for sequence in sequences:
            sequence.append(self._next(sequence), self._stop_ids)

    def release(self, sequence: Answer) -> None:
        self._live.remove(sequence)

    def _next(self, sequence: Answer) -> int:
        if (forced := sequence.forced_id) is not None:
            return forced
        request = sequence.request
        asked = request.prompt_ids[: len(request.prompt_ids) - request.num_answered]
        said = [*request.prompt_ids[len(asked) :], *sequence.output_ids]
        script: list[int] = []
        for text in self._say(self._tokenizer.decode(list(asked), skip_special_tokens=False)):
            script += self._tokenizer.encode(text, add_special_tokens=False).ids
        wanted = script[len(said)] if len(said) < len(script) else min(self._stop_ids)
        masks = sequence.allowed()
        if not masks:
            return wanted
        allowed = unpack(masks[0], 32 * len(masks[0]))
        return wanted if allowed[wanted] else int(np.flatnonzero(allowed)[0])


def say_with(monkeypatch: pytest.MonkeyPatch, model: Path, say: Callable[[str], Sequence[str]]) -> None:
    """Let a ScriptedRunner stand for a model's weights, while all else is the model's own."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))

    def build(_: object, context_length: int, stop_ids: frozenset[int], *__: object, **___: object) -> Engine:
        return Engine([ScriptedRunner(say, tokenizer, stop_ids)], context_length)

    monkeypatch.setattr("llmpar.engine.build.build_engine", build)
