"""Model names to files on disk: found, fetched, checked and converted once."""
