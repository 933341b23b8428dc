"""One file per schema version, applied in order; a released file is never edited."""
