"""The pages of `llmpar help`: for each topic a file TOPIC.md here, whose first line says what it tells."""
