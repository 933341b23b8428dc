"""A deterministic world around the production pipeline: virtual clock, seeded faults, in-memory broker,
store and engine.
"""
