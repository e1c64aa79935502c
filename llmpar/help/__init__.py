"""The pages of `llmpar help`: one file here for each topic, whose first line says what it tells."""
