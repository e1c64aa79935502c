"""One engine for each file, run as `python -m peers.NAME` by that engine's own interpreter; they know no llmpar."""
