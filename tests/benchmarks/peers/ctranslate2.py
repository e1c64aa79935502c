"""CTranslate2 in int8 with the shared prefix as a cached static prompt. `model` is a converted directory.

Options: inter_threads, intra_threads, batch_size.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from peers.protocol import Peer, Setup, serve


@contextmanager
def open_peer(setup: Setup) -> Iterator[Peer]:
    import ctranslate2

    options = setup.options
    inter, intra = options["inter_threads"], options["intra_threads"]
    generator = ctranslate2.Generator(
        setup.model, device="cpu", compute_type="int8", inter_threads=inter, intra_threads=intra
    )
    tokens: list[str] = json.loads((Path(setup.model) / "vocabulary.json").read_text(encoding="utf-8"))
    prefix = [tokens[token_id] for token_id in setup.prefix_ids]

    def answer(prompts: list[list[int]]) -> list[list[int]]:
        results = generator.generate_batch(
            [[tokens[token_id] for token_id in prompt[len(prefix) :]] for prompt in prompts],
            static_prompt=prefix,
            cache_static_prompt=True,
            include_prompt_in_result=False,
            max_batch_size=options["batch_size"],
            max_length=setup.max_new_tokens,
            sampling_topk=1,
            end_token=setup.stop_ids,
        )
        return [list(result.sequences_ids[0]) for result in results]

    settings = f"{inter} × {intra} threads, batches of {options['batch_size']}"
    yield Peer(answer, f"ctranslate2 {ctranslate2.__version__}", settings)


if __name__ == "__main__":
    serve(open_peer)
