"""Sending work: single messages, many at once, and the progress of what runs."""
