"""The trainer: an architecture becomes a module, is trained, measured and exported."""
