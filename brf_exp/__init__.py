"""A falsification harness for Born Rule Fusion of language models."""

__version__ = "0.1.0"
