"""Readers of ECG files, one module per format."""
