"""Who may do what, what no one may see, and what input may cost."""
