"""Real servers for the suite, started once per test session."""
