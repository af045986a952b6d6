"""Experiments: a model or a comparison of methods evaluated on a corpus; results are returned, not written."""
