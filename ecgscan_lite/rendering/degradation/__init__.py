"""What time, scanners and phones do to a page."""
