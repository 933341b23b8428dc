"""Evaluation of the engine: word errors, scenes, words invented on non-speech. Runs on model.engine only."""
