"""What to ask of each segment: the prompt, and how long an answer may get."""
