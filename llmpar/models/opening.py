"""A model's files → a skeleton over them: how a directory and a GGUF file come in by the same door."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmpar.errors import ModelUnavailable
from llmpar.models.configuration import is_gguf, quantization

if TYPE_CHECKING:
    from llmpar.engine.generic.skeleton import Skeleton
    from llmpar.engine.source import WeightSource


def is_ours_alone(path: Path) -> bool:
    """Tell whether only we read the weights of a model: those of a GGUF file, and those that are quantised.

    Raises:
        ModelUnavailable: its configuration is damaged.
    """
    return is_gguf(path) or quantization(path) is not None


def open_source(path: Path) -> WeightSource | None:
    """Return the weights of a directory or GGUF file, which are read where they are used; None where there are none.

    Raises:
        ModelUnavailable: they are damaged, or in a form that is not read.
    """
    if is_gguf(path):
        from llmpar.models.gguf.model import open_weights

        return open_weights(path)
    from llmpar.models.checkpoints import opening

    return opening.open_source(path)


def open_files(path: Path) -> Skeleton | None:
    """Return the causal language model of a directory or GGUF file, whose weights stay there.

    It is None where transformers has to load the model: an encoder-decoder, the part for text in a larger model, and
    files that hold something else than its parameters.

    Raises:
        ModelUnavailable: the files are damaged, or nobody can load what they hold.
    """
    from transformers import AutoModelForCausalLM

    from llmpar.engine.generic.skeleton import OtherWeights, open_skeleton

    alone = is_ours_alone(path)
    try:
        config = _configuration(path)
        source = open_source(path)
        names_others = getattr(config, "transformers_weights", None)  # files, which transformers looks into
        if source is None or names_others or config.is_encoder_decoder or config.get_text_config() is not config:
            reason = "it is not a model for text alone"
        else:
            return open_skeleton(AutoModelForCausalLM, config, source)
    except OtherWeights as other:
        reason = str(other)
    except ModelUnavailable:  # of plain weights, transformers says better what is wrong
        if alone:
            raise
    if alone:
        raise ModelUnavailable(f"{str(path)!r}: cannot be loaded: {reason}")
    return None


def _configuration(path: Path) -> Any:
    from transformers import AutoConfig

    from llmpar.engine.generic.skeleton import OtherWeights
    from llmpar.models.configuration import configuration

    try:
        if is_gguf(path):
            return AutoConfig.for_model(**configuration(path))
        return AutoConfig.from_pretrained(path, local_files_only=True, trust_remote_code=False)
    except ModelUnavailable:
        raise
    except Exception as error:  # whatever transformers makes of a damaged configuration
        raise OtherWeights(f"its configuration cannot be read: {error}".partition("\n")[0]) from error
