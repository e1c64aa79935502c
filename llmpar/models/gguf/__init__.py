"""GGUF files as they are: mapped, and never expanded. What a file says of its model, and its weights as it has them."""
