"""Figures, tables, and one HTML report for people to read."""
