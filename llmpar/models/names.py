"""What a model is called where nobody names one, and what can be said of any: names that need nothing else."""

from __future__ import annotations

from typing import Literal

DEFAULT_MODEL = "smollm2-135m"

Thinking = Literal["on", "off"]
"""What the switch for thinking in a chat template can be set to."""
