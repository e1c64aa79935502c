"""One computation by several processes, each with a share of every layer."""
