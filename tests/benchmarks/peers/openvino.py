"""OpenVINO GenAI's continuous batching with prefix caching. `model` is an exported directory.

Options: num_sequences, batched_tokens.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version

from peers.protocol import Peer, Setup, serve


@contextmanager
def open_peer(setup: Setup) -> Iterator[Peer]:
    import numpy as np
    import openvino as ov
    import openvino_genai as genai

    scheduler = genai.SchedulerConfig()
    scheduler.max_num_seqs = setup.options["num_sequences"]
    scheduler.max_num_batched_tokens = setup.options["batched_tokens"]
    scheduler.enable_prefix_caching = True
    scheduler.cache_size = 1  # GB
    pipeline = genai.ContinuousBatchingPipeline(setup.model, scheduler, "CPU")

    def answer(prompts: list[list[int]]) -> list[list[int]]:
        tensors = [ov.Tensor(np.array([prompt], dtype=np.int64)) for prompt in prompts]
        results = pipeline.generate(tensors, [_greedy(setup) for _ in prompts])
        return [list(result.m_generation_ids[0]) for result in results]

    settings = f"{scheduler.max_num_seqs} sequences, {scheduler.max_num_batched_tokens} tokens a step"
    yield Peer(answer, f"openvino-genai {version('openvino-genai')}", settings)


def _greedy(setup: Setup) -> object:
    import openvino_genai as genai

    config = genai.GenerationConfig()
    config.max_new_tokens = setup.max_new_tokens
    config.do_sample = False
    config.stop_token_ids = set(setup.stop_ids)
    return config


if __name__ == "__main__":
    serve(open_peer)
