"""Runs read back from the store: loaded, summarised, evaluated, compared, sampled."""
