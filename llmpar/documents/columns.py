"""The columns that a table or a record of answers may have, by their names."""

from __future__ import annotations

COLUMNS = ("document", "index", "line", "start", "end", "source", "answer", "finish_reason", "error")
"""Those of a record, if nothing else is said."""
ALL_COLUMNS = (*COLUMNS, "confidence")
"""Those that may be named."""
