"""Pages for a browser: one file with everything in it, which shows many rows of text. Knows no answer and no run."""
