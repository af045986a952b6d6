"""Degradation of a page by time, scanners and phones."""
