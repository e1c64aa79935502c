"""Token ids in, token ids out. Knows no file, no prompt text, no terminal."""
