"""Declared -> observed -> planned -> done -> reported, again and again; pure but for the loop."""
