"""What this machine has for llmpar, what llmpar would choose on it, and what is missing. Fetches nothing."""
