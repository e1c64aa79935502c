"""llmpar itself, at the level of its engine. Options: precision, threads, batch_size (0 for auto), device (cpu),
temperature (0)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from peers.protocol import Peer, Setup, serve

if TYPE_CHECKING:
    from llmpar.engine.engine import Engine


@contextmanager
def open_peer(setup: Setup) -> Iterator[Peer]:
    from importlib.metadata import version

    from llmpar import __version__
    from llmpar.engine.request import Request, SamplingParams

    remarks: list[str] = []
    params = SamplingParams(setup.max_new_tokens, setup.options.get("temperature", 0))
    with open_engine(setup, remarks) as engine:

        def answer(prompts: list[list[int]]) -> list[list[int]]:
            for index, prompt in enumerate(prompts):
                engine.submit(Request(index, prompt, params))
            outputs: dict[int, list[int]] = {}
            while len(outputs) < len(prompts):
                completion = engine.collect()
                assert completion is not None
                if completion.error is not None:
                    raise RuntimeError(completion.error)
                outputs[completion.id] = list(completion.output_ids)
            return [outputs[index] for index in range(len(prompts))]

        yield Peer(answer, f"llmpar {__version__}, torch {version('torch')}", "; ".join(remarks))


def open_engine(setup: Setup, remarks: list[str]) -> Engine:
    """Load the model: all that is known here of how llmpar does it."""
    from llmpar.engine.build import build_engine
    from llmpar.models.load import load_model
    from llmpar.models.registry import resolve

    options, files = setup.options, resolve(setup.model, offline=True)
    arguments = (options.get("device", "cpu"), options["precision"], files.source_bits)
    kv_cache = {"kv_cache": options["kv_cache"]} if options.get("kv_cache", "auto") != "auto" else {}
    loaded = load_model(files.path, *arguments, notify=remarks.append, **kv_cache)
    return build_engine(
        loaded.models,
        loaded.context_length,
        frozenset(setup.stop_ids),
        options["threads"] or None,
        options["batch_size"] or None,
        setup.prefix_ids,
        notify=remarks.append,
    )


if __name__ == "__main__":
    serve(open_peer)
