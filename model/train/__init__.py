"""How the nano checkpoint is made: texts, voices, scenes, cached encoder features, training, export (README.md)."""
