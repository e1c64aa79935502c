"""The model that answers where nobody names one."""

from __future__ import annotations

DEFAULT_MODEL = "smollm2-135m"
