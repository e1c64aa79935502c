"""Perplexity on a GPU, by what a model is computed in. As a program: `python -m device.likely QUESTION`, as JSON.

The texts of sample_data/, one behind the other, are cut into chunks, of each of which the second half is scored, as in
perplexity.py.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

from harness.table import markdown_table

from device.reports import reporting, reports_of

HEADER = ["computed in", "keys and values", "perplexity", "against the first"]
_WAYS = (("fp32", "auto"), ("bf16", "auto"), ("bf16", "fp8"), ("fp8", "auto"), ("int8", "auto"), ("int4", "auto"))


def run_likely(
    model: str, device: str, chunk: int, chunks: int, time_limit: float, tell: Callable[[str], None]
) -> list[dict[str, Any]]:
    """Return a report for each precision.

    Args:
        model: as llmpar's --model.
        device: where it is computed.
        chunk: tokens of a chunk.
        chunks: how many are scored at most.
        time_limit: seconds for all.
        tell: is told each report.
    """
    question = {"model": model, "device": device, "chunk": chunk, "chunks": chunks}
    return reports_of(["device.likely", json.dumps(question)], time_limit, tell)


def report_likely(found: list[dict[str, Any]]) -> str:
    """Return the table."""
    first = found[0]["perplexity"]
    rows = [
        [one["precision"], one["kv_cache"], f"{one['perplexity']:.4f}", f"{one['perplexity'] / first - 1:+.2%}"]
        for one in found
    ]
    return f"{markdown_table(HEADER, rows)}\n\n{found[0]['scored']:,} tokens scored"


def main() -> int:
    report = reporting()
    asked = json.loads(sys.argv[1])
    from harness.job import STORY

    from llmpar.models.registry import resolve
    from llmpar.models.tokenizer import ChatTokenizer

    path, length = resolve(asked["model"], offline=True).path, asked["chunk"]
    text = "\n".join(
        file.read_text(encoding="utf-8", errors="replace")
        for file in sorted(STORY.parent.iterdir())
        if file.suffix in (".txt", ".md") and file.name != "hostile.txt"
    )
    ids = ChatTokenizer(path).encode_data(text)
    chunks = [ids[at : at + length] for at in range(0, len(ids) - length + 1, length)][: asked["chunks"]]
    for precision, kv_cache in _WAYS:
        found = perplexity(path, asked["device"], precision, kv_cache, chunks)
        report(
            precision=precision, kv_cache=kv_cache, perplexity=found, scored=len(chunks) * (length - length // 2 - 1)
        )
    return 0


def perplexity(path: Any, device: str, precision: Any, kv_cache: Any, chunks: list[list[int]]) -> float:
    """Return the perplexity of the second half of each chunk, the first half known."""
    import torch

    from llmpar.models.load import load_model

    loaded = load_model(path, device, precision, kv_cache=kv_cache)
    if loaded.precision != precision:
        raise RuntimeError(f"{precision} was passed over for {loaded.precision}")
    decoder, half = loaded.models[0].decoder, len(chunks[0]) // 2  # type: ignore[attr-defined]
    total = count = 0.0
    with torch.inference_mode(), torch.cuda.device(decoder.device):
        for chunk in chunks:
            scores = torch.log_softmax(decoder.head(hidden_states(decoder, chunk)[half:-1]).float(), -1)
            wanted = torch.tensor(chunk[half + 1 :], device=decoder.device)
            total -= float(scores.double().gather(1, wanted[:, None]).sum())
            count += len(wanted)
    return float(torch.tensor(total / count).exp())


def hidden_states(decoder: Any, ids: list[int]) -> Any:
    """Return the last hidden states (N, H), normed, of a text that is read at once."""
    import torch

    from llmpar.engine.cuda.decoder import PagedCache, Pass, Tokens, blocks, tokens_per_block
    from llmpar.engine.pages import num_pages_of

    count, most = num_pages_of(len(ids)), tokens_per_block(decoder)

    def numbers(values: Any) -> Any:
        return torch.tensor(list(values), dtype=torch.int32, device=decoder.device)

    tables = numbers(range(count))[None]
    cache = PagedCache(decoder.make_pages(count), tables, numbers([0]), 0, decoder.make_exponents(count))
    starts, counts = blocks([len(ids)], most)
    slots = numbers([0] * len(ids))
    tokens = Tokens(numbers(ids).long(), numbers(range(len(ids))), slots, numbers(starts), numbers(counts), most)
    return Pass(decoder, cache).forward(tokens)


if __name__ == "__main__":
    sys.exit(main())
