"""What runs on transformers' own modules, for models that have no decoder of ours."""
