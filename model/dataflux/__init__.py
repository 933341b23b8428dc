"""DataFlux: raw audio in, verified multiple-choice questions and captions for training out, by several models."""
