"""A model's files → a skeleton over them: how a directory and a GGUF file come in by the same door."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmpar.errors import ModelUnavailable
from llmpar.models.configuration import configuration, is_gguf, quantization

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

    Of a model that also takes images or sounds, they are those of its part for text, by the names that it has alone.

    Raises:
        ModelUnavailable: they are damaged, or in a form that is not read.
    """
    if is_gguf(path):
        from llmpar.models.gguf.model import open_weights

        return open_weights(path)
    from llmpar.models.checkpoints import opening
    from llmpar.models.checkpoints.text_part import TextPart, has_parts

    source = opening.open_source(path)
    return TextPart(source) if source and has_parts(configuration(path)) else source


def open_files(path: Path) -> Skeleton | None:
    """Return the causal language model of a directory or GGUF file, whose weights stay there.

    Of a model that also takes images or sounds, it is the part for text. It is None where transformers has to load the
    model: an encoder-decoder, and files that hold something else than its parameters.

    Raises:
        ModelUnavailable: the files are damaged, or nobody can load what they hold.
    """
    from transformers import AutoModelForCausalLM

    from llmpar.engine.generic.skeleton import OtherWeights, open_skeleton
    from llmpar.models.checkpoints.text_part import text_configuration

    alone = is_ours_alone(path)
    try:
        config = _configuration(path)
        source = open_source(path)
        names_others = getattr(config, "transformers_weights", None)  # files, which transformers looks into
        text = text_configuration(config) or config
        if source is None or names_others or config.is_encoder_decoder or text.get_text_config() is not text:
            reason = "it is no model for text, and has none that can be read alone"
        else:
            return open_skeleton(AutoModelForCausalLM, text, source)
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

    try:
        if is_gguf(path):
            return AutoConfig.for_model(**configuration(path))
        return AutoConfig.from_pretrained(path, local_files_only=True, trust_remote_code=False)
    except ModelUnavailable:
        raise
    except Exception as error:  # whatever transformers makes of a damaged configuration
        raise OtherWeights(f"its configuration cannot be read: {error}".partition("\n")[0]) from error
