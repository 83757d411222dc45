"""Models run over text: windows, forward passes, part files."""
