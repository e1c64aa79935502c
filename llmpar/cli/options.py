"""All options that commands share, as frozen dataclasses; `signature` spreads them over a command's signature."""

from __future__ import annotations

from dataclasses import dataclass, field

from llmpar.cli.answer_options import FailureOptions, SamplingOptions
from llmpar.cli.input_options import InputOptions
from llmpar.cli.model_options import ModelOptions
from llmpar.cli.output_options import MergeOptions, OutputOptions
from llmpar.cli.store_options import StoreOptions
from llmpar.documents.register import Register


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What every command shares that runs a model."""

    input: InputOptions = field(default_factory=InputOptions)
    model: ModelOptions = field(default_factory=ModelOptions)
    sampling: SamplingOptions = field(default_factory=SamplingOptions)
    failures: FailureOptions = field(default_factory=FailureOptions)
    store: StoreOptions = field(default_factory=StoreOptions)
    output: OutputOptions = field(default_factory=OutputOptions)
    register: Register = field(default_factory=Register)


@dataclass(frozen=True, slots=True)
class JobOptions(RunOptions):
    """What the commands share besides that answer documents piece by piece."""

    merge: MergeOptions = field(default_factory=MergeOptions)
