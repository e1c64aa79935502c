"""Servers that speak OpenAI's protocol, as a model. Knows no question, task or store."""
