"""Runs, from start to end: trained, scored, tracked; alone, under several seeds, several at once."""
