"""Faults injected into real processes on real servers, and an independent check of what is left."""
