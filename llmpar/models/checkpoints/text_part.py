"""The weights of the model for text in one that also takes images or sounds, by the names that it has alone."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from llmpar.engine.quantized import Floats, Places, Quantized
from llmpar.engine.source import WeightSource

_TEXT = r"^(?:model\.)?language_model\."
OWN_NAMES: Mapping[str, str] = {_TEXT + r"(?:model\.)?(?!lm_head)": "model.", _TEXT + "lm_head": "lm_head"}
"""What names in a larger model begin with, as patterns, and what takes its place in the model for text."""
_HEAD = "lm_head."


def text_configuration(config: Any) -> Any | None:
    """Return the configuration of the model for text in a larger one.

    It is None where the configuration is that of a model for text alone, or of one whose part for text transformers
    does not have by itself.

    Args:
        config: one of transformers.
    """
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as NATIVE

    text = config.get_text_config()
    is_part = not config.is_encoder_decoder and text is not config
    return text if is_part and NATIVE.get(text.model_type) not in (None, NATIVE.get(config.model_type)) else None


def has_parts(config: Mapping[str, Any]) -> bool:
    """Tell whether a config.json is that of a model of which text is one part."""
    return any(isinstance(config.get(part), dict) for part in ("text_config", "vision_config", "audio_config"))


class TextPart:
    """Some weights of a WeightSource under names of their own.

    Args:
        source: has the weights of the larger model.
    """

    def __init__(self, source: WeightSource) -> None:
        self._source = source
        names = list(source.shapes)
        if any(re.match(_TEXT, name) for name in names):
            own = {_own_name(name): name for name in names if re.match(_TEXT, name) or name.startswith(_HEAD)}
        else:  # older files have no prefix for text, and others for the rest
            own = {name: name for name in names if name.startswith(("model.", _HEAD))}
        self._names = own

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """The shape of each weight."""
        shapes = self._source.shapes
        return {name: shapes[other] for name, other in self._names.items()}

    @property
    def bits(self) -> int:
        """How many bits weights of the larger model have; see `WeightSource.bits`."""
        return self._source.bits

    def rows(self, name: str, rows: slice | Places) -> Quantized | Floats:
        """Return some rows of a matrix (N, K), or elements of a vector (N,); see `WeightSource.rows`."""
        return self._source.rows(self._names[name], rows)

    def kind(self, name: str) -> str:
        """Return what the form of a weight is called."""
        return self._source.kind(self._names[name])

    def give_back(self, name: str) -> None:
        """Let go of the memory that the pages of a weight take."""
        self._source.give_back(self._names[name])


def _own_name(name: str) -> str:
    for pattern, own in OWN_NAMES.items():
        name = re.sub(pattern, own, name)
    return name
