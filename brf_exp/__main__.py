"""`python -m brf_exp` is `brf-exp`."""

from brf_exp.cli import entry_point

if __name__ == "__main__":
    entry_point()
