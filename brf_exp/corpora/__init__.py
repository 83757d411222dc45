"""Texts: the embedded corpus, local files, hub datasets."""
