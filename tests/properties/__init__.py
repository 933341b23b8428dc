"""Properties of the pure cores, each against a naive model that is written for being read, not for being fast."""
