"""Measurements of the model on the device at hand: its roofline, its growth, its memory over a long run."""
