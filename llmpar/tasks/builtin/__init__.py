"""The tasks that come with llmpar: a file each."""
