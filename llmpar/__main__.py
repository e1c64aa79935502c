"""`python -m llmpar`, and what the `llmpar` script calls."""

from __future__ import annotations

from llmpar.cli.main import main

if __name__ == "__main__":
    main()
