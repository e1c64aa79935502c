"""transformers' `generate`, in the ways people run it.

Options: precision, way ("one", "threads" or "sorted"), batch_size.
"one" asks one prompt after the other, with all cores; "threads" does so in one thread for each core over one copy of
the weights, each with its share of the prompts; "sorted" pads batches of prompts of similar length.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from peers.protocol import Answer, Peer, Setup, serve


@contextmanager
def open_peer(setup: Setup) -> Iterator[Peer]:
    import torch
    import transformers

    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[setup.options["precision"]]
    model = transformers.AutoModelForCausalLM.from_pretrained(setup.model, dtype=dtype, local_files_only=True).eval()
    torch.set_num_threads(setup.num_cores)

    def generate(prompts: list[list[int]]) -> list[list[int]]:
        longest = max(map(len, prompts))
        pad = setup.stop_ids[0]
        ids = torch.tensor([[pad] * (longest - len(prompt)) + prompt for prompt in prompts])
        mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
        with torch.inference_mode():
            output: Any = model.generate(
                input_ids=ids,
                attention_mask=mask,
                max_new_tokens=setup.max_new_tokens,
                do_sample=False,
                eos_token_id=setup.stop_ids,
                pad_token_id=pad,
            )
        outputs: list[list[int]] = output[:, longest:].tolist()
        return outputs

    ways = {
        "one": lambda prompts: [generate([prompt])[0] for prompt in prompts],
        "threads": _in_threads(generate, setup.num_cores),
        "sorted": _sorted(generate, setup.options.get("batch_size", 1)),
    }
    yield Peer(ways[setup.options["way"]], f"transformers {transformers.__version__}, torch {torch.__version__}")


def _in_threads(generate: Answer, num_threads: int) -> Answer:
    import torch

    def work(shard: list[list[int]]) -> list[list[int]]:
        torch.set_num_threads(1)  # of this thread
        return [generate([prompt])[0] for prompt in shard]

    def answer(prompts: list[list[int]]) -> list[list[int]]:
        shards = [prompts[index::num_threads] for index in range(num_threads)]
        with ThreadPoolExecutor(num_threads) as pool:
            answers = [iter(shard) for shard in pool.map(work, shards)]
        return [next(answers[index % num_threads]) for index in range(len(prompts))]

    return answer


def _sorted(generate: Answer, batch_size: int) -> Answer:
    def answer(prompts: list[list[int]]) -> list[list[int]]:
        order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
        outputs: dict[int, list[int]] = {}
        for first in range(0, len(order), batch_size):
            batch = order[first : first + batch_size]
            outputs.update(zip(batch, generate([prompts[index] for index in batch]), strict=True))
        return [outputs[index] for index in range(len(prompts))]

    return answer


if __name__ == "__main__":
    serve(open_peer)
