"""Perplexity of a GGUF file by llmpar and by llama.cpp: the same text, cut the same way, the same tokens scored.

Run it with llmpar's interpreter:

    python tests/benchmarks/perplexity.py model.gguf --llama-perplexity LLAMA/bin/llama-perplexity

The texts of sample_data/, one behind the other, are cut into chunks. Of each the second half is scored, as llama.cpp's
program does it; a chunk begins with the token that begins a text, if the model has one. Nothing is timed.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from harness.job import STORY
from harness.logits import decoder_logits, likelihoods_of
from harness.machine import describe_machine
from harness.table import markdown_table


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__.partition("\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("model", type=Path, help="a GGUF file")
    add("--precisions", default="auto,int8,bf16,fp32", help="llmpar's")
    add("--llama-perplexity", metavar="PATH", help="llama.cpp's program")
    add("--chunk", type=int, default=512, help="tokens of a chunk")
    add("--chunks", type=int, default=24, help="how many are scored at most")
    options = parser.parse_args()
    text = "\n".join(
        file.read_text(encoding="utf-8", errors="replace")
        for file in sorted(STORY.parent.iterdir())
        if file.suffix in (".txt", ".md") and file.name != "hostile.txt"
    )
    chunks = _chunks(options.model, text, options.chunk)[: options.chunks]
    rows = []
    for precision in options.precisions.split(","):
        rows.append([f"llmpar {precision}", f"{_perplexity(options.model, precision, chunks, options.chunk):.4f}"])
        print(*rows[-1], flush=True)
    if options.llama_perplexity:
        rows.append(["llama.cpp", _llama(options.llama_perplexity, options.model, text, options.chunk, len(chunks))])
    scored = len(chunks) * (options.chunk - options.chunk // 2 - 1)
    print(f"\n{describe_machine()}\n{options.model.name}, {len(chunks)} chunks, {scored} tokens scored")
    print(markdown_table(["engine", "perplexity"], rows))
    return 0


def _chunks(model: Path, text: str, length: int) -> list[list[int]]:
    from llmpar.models.gguf.file import open_file
    from llmpar.models.tokenizer import ChatTokenizer

    fields = open_file(model).fields
    opens = fields.get("tokenizer.ggml.add_bos_token", fields.get("tokenizer.ggml.model") == "llama")
    first = [fields["tokenizer.ggml.bos_token_id"]] if opens else []
    ids = [*first, *ChatTokenizer(model).encode_data(text)]
    return [[*first, *ids[at + len(first) : at + length]] for at in range(0, len(ids) - length + 1, length)]


def _perplexity(model: Path, precision: str, chunks: list[list[int]], length: int) -> float:
    from llmpar.models.gguf.model import open_weights
    from llmpar.models.precision import find_arithmetic

    _, taken = find_arithmetic("cpu", precision, open_weights(model).bits)  # type: ignore[arg-type]
    logits_of, half = decoder_logits(model, taken, length), length // 2
    found = [likelihoods_of(chunk[half + 1 :], logits_of(chunk)[half:-1]) for chunk in chunks]
    return float(np.exp(-np.concatenate(found).mean()))


def _llama(command: str, model: Path, text: str, length: int, count: int) -> str:
    with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        done = subprocess.run(
            [command, "-m", str(model), "-f", file.name, "-c", str(length), "--chunks", str(count)],
            capture_output=True,
            text=True,
            check=True,
        )
    found = re.search(r"Final estimate: PPL = ([\d.]+ \+/- [\d.]+)", done.stdout + done.stderr)
    return found[1] if found else "it told none"


if __name__ == "__main__":
    raise SystemExit(main())
