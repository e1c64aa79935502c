"""The options that say which model answers, and on what."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from llmpar.answering.choice import MODELS, ModelChoice
from llmpar.cli import roles, values
from llmpar.cli.option import option
from llmpar.engine.precision_names import KVCacheName, PrecisionChoice
from llmpar.models.names import Thinking

if TYPE_CHECKING:
    EngineName = str
    Resources = tuple[tuple[str, float], ...]
else:  # Typer takes its choices from a Literal, and these come from a table
    _ENGINE_NAMES = tuple(MODELS)
    EngineName = Literal[_ENGINE_NAMES]
    Resources = object  # Typer would take a tuple for several values

# The default of a setting stands in one place, where the setting means something.
_CHOICE = ModelChoice()


@dataclass(frozen=True, slots=True)
class ModelOptions:
    """Which model answers, and on what."""

    model: Annotated[
        str,
        option(
            "--model",
            "-m",
            help="Which model: a name (`llmpar models list`), a directory, a GGUF file, or a name on the hub.",
            panel="Model",
            role=roles.model,
        ),
    ] = _CHOICE.name
    engine: Annotated[
        EngineName,
        option(
            "--engine",
            help="echo answers each piece with itself, without a model; endpoint is what --endpoint chooses.",
            panel="Model",
        ),
    ] = _CHOICE.engine
    device: Annotated[
        str,
        option("--device", help="auto, cpu, cuda (all GPUs), cuda:1 or mps.", panel="Model", callback=values.device),
    ] = _CHOICE.device
    precision: Annotated[
        PrecisionChoice,
        option(
            "--precision", help="How exactly to compute; auto loses nothing that the model's file holds.", panel="Model"
        ),
    ] = _CHOICE.precision
    kv_cache: Annotated[
        KVCacheName,
        option(
            "--kv-cache",
            help="What is kept of the tokens read: fp8 is half as large on a GPU, and rounded.",
            panel="Model",
        ),
    ] = _CHOICE.kv_cache
    threads: Annotated[
        int | None,
        option(
            "--threads",
            "-j",
            help="How many worker threads share the weights; on GPUs, how many for each; with "
            "--endpoint, how many requests at a time.",
            panel="Model",
            metavar="N|auto",
            parser=values.auto_count,
            show_default="auto",
        ),
    ] = _CHOICE.threads
    batch_size: Annotated[
        int | None,
        option(
            "--batch-size",
            help="How many pieces each thread answers at once.",
            panel="Model",
            metavar="N|auto",
            parser=values.auto_count,
            show_default="auto",
        ),
    ] = _CHOICE.batch_size
    max_memory: Annotated[
        int | None,
        option(
            "--max-memory",
            help="Memory for the texts and tokens at work. Default: half of what is free.",
            panel="Model",
            metavar="SIZE",
            parser=values.size,
        ),
    ] = _CHOICE.max_memory
    tensor_parallel: Annotated[
        int,
        option(
            "--tensor-parallel",
            help="Spread each layer over N GPUs, for a model that does not fit on one.",
            panel="Model",
            metavar="N",
            min=1,
            max=4096,
        ),
    ] = _CHOICE.tensor_parallel
    thinking: Annotated[
        Thinking | None,
        option(
            "--thinking",
            help="Whether the model thinks before it answers, if its chat template has a switch. "
            "Default: off, for most models.",
            panel="Model",
        ),
    ] = _CHOICE.thinking
    offline: Annotated[
        bool, option("--offline", help="Connect to no other machine, and fetch nothing.", panel="Model")
    ] = _CHOICE.offline
    endpoint: Annotated[
        list[str] | None,
        option(
            "--endpoint",
            help="Let a server answer that speaks OpenAI's protocol: its URL, or a file that "
            "lists several; may be given several times.",
            panel="Servers",
            metavar="URL|FILE",
            role=roles.servers,
        ),
    ] = None
    endpoint_model: Annotated[
        str | None,
        option(
            "--endpoint-model",
            help="The model's name on the server. Default: the only one that it has.",
            panel="Servers",
            metavar="NAME",
        ),
    ] = _CHOICE.endpoint_model
    api_key_file: Annotated[
        Path | None,
        option(
            "--api-key-file",
            help="A file with the server's key. Default: the variable OPENAI_API_KEY, if it is set.",
            panel="Servers",
            metavar="FILE",
            role=roles.read,
        ),
    ] = _CHOICE.api_key_file
    context_length: Annotated[
        int | None,
        option(
            "--context-length",
            help="How many tokens the server has room for, prompt and answer together. Default: what it tells.",
            panel="Servers",
            metavar="N",
            min=1,
        ),
    ] = _CHOICE.context_length
    max_tokens_total: Annotated[
        int | None,
        option(
            "--max-tokens-total",
            help="End the run before it has used more tokens of servers (exit code 124).",
            panel="Servers",
            metavar="N",
            min=1,
        ),
    ] = _CHOICE.max_tokens_total
    ray: Annotated[
        str | None,
        option(
            "--ray",
            help="Let the nodes of a Ray cluster answer: its address, or auto for the one that runs here.",
            panel="Cluster",
            metavar="auto|ADDRESS",
        ),
    ] = _CHOICE.ray
    ray_workers: Annotated[
        int | None,
        option(
            "--ray-workers",
            help="How many processes answer there. Default: one on each GPU, or else on each node.",
            panel="Cluster",
            metavar="N",
            min=1,
        ),
    ] = _CHOICE.ray_workers
    ray_resources: Annotated[
        Resources,
        option(
            "--ray-resources",
            help="What each of them takes: cpu=8,gpu=1. Default: what suits the cluster.",
            panel="Cluster",
            metavar="NAME=N,…",
            parser=values.resources,
            show_default=False,
        ),
    ] = _CHOICE.ray_resources
    yes: Annotated[bool, option("--yes", help="Fetch a model without asking.", panel="Model")] = False
