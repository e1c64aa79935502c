"""What a model is told: who says what. Knows nobody."""

from __future__ import annotations

from typing import Literal

Role = Literal["system", "user", "assistant"]
Message = tuple[Role, str]
"""Who says it, and what."""
