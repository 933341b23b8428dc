"""The shipped checkpoint, nano.safetensors, and its card, nano.md."""
