"""Models: which one is meant, loading it, training and measuring the embedded ones."""
