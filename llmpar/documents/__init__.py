"""Text in, text out. Knows no model, no token, no torch."""
