"""vLLM's CPU build, offline, bf16 with prefix caching. Options: num_sequences."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from peers.protocol import Peer, Setup, serve


@contextmanager
def open_peer(setup: Setup) -> Iterator[Peer]:
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "2")  # GB
    # Else it leaves a core to a web server that is not there.
    os.environ.setdefault("VLLM_CPU_NUM_OF_RESERVED_CPU", "0")
    import vllm

    num_sequences = setup.options["num_sequences"]
    engine = vllm.LLM(
        setup.model,
        dtype="bfloat16",
        max_model_len=1024,
        max_num_seqs=num_sequences,
        enable_prefix_caching=True,
        skip_tokenizer_init=True,
    )
    params = vllm.SamplingParams(
        temperature=0, max_tokens=setup.max_new_tokens, stop_token_ids=setup.stop_ids, detokenize=False
    )

    def answer(prompts: list[list[int]]) -> list[list[int]]:
        results = engine.generate([{"prompt_token_ids": prompt} for prompt in prompts], params, use_tqdm=False)
        return [list(result.outputs[0].token_ids) for result in results]

    yield Peer(answer, f"vllm {vllm.__version__}", f"{num_sequences} sequences")


if __name__ == "__main__":
    serve(open_peer)
