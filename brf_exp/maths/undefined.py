"""What the mathematics raises where a statistic does not exist."""


class UndefinedStatisticError(ValueError):
    """A statistic that these data do not define; `reason` is a short name for it, the message says more."""

    def __init__(self, reason: str, message: str | None = None) -> None:
        super().__init__(message or reason)
        self.reason = reason
