"""What jobs do where nobody says anything: numbers alone, for Python and the command line."""

from __future__ import annotations

USUAL_TOP = 24
"""How many passages are read for a question, those whose words fit it best."""
