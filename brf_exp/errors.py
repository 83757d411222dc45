"""Errors that are a user's to mend: one line on stderr, exit code 2, never a traceback."""


class BrfError(Exception):
    """Base of every error that becomes one line: what is wrong, where, and what to do."""


class ConfigError(BrfError):
    """A setting, an override or a command that cannot be used."""


class InputError(BrfError):
    """A file, model, corpus or submission that cannot be used."""


class MissingInputError(BrfError):
    """Something an earlier stage makes is not there; the message names the command that makes it."""


class StatisticalError(BrfError):
    """A statistic is not defined for these data (too few documents, constant gaps, ...)."""
