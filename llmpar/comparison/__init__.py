"""How two runs over the same pieces differ, by what can be counted."""
