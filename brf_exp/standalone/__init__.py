"""Files for people who have nothing of this project: the extraction script and an example submission."""
