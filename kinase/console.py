"""The terminal: progress while a search runs, and its end."""
