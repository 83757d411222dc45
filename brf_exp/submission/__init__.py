"""Submissions: files from strangers, checked and turned into captures."""
