"""Numbers for tokens that a log names by text alone, the same for all models of a submission."""

from typing import Final

PREFIX: Final = "token_id:"
Token = int | bytes


class TokenIds:
    """Ids of tokens: their own where a log gives them, else numbers in the order in which texts first appear.

    One table serves all models of a submission, read in the order a, b, c, ...; reading a file again gives the same
    ids. Texts are compared as bytes.

    >>> table = TokenIds()
    >>> [table.id_of(token) for token in (token_of(" a"), token_of(" b"), token_of(" a"), token_of("token_id:7"))]
    [0, 1, 0, 7]
    >>> table.texts
    (b' a', b' b')
    """

    def __init__(self) -> None:
        self._ids: dict[bytes, int] = {}

    def id_of(self, token: Token) -> int:
        """The token's id."""
        return token if isinstance(token, int) else self._ids.setdefault(token, len(self._ids))

    @property
    def texts(self) -> tuple[bytes, ...]:
        """Every text that was given an id, by id."""
        return tuple(self._ids)


def token_of(text: str) -> Token:
    """The id in `token_id:123`, else the text's bytes."""
    number = text.removeprefix(PREFIX)
    if text.startswith(PREFIX) and number.isascii() and number.isdigit() and len(number) <= 10:
        return int(number)
    return text.encode("utf-8", "surrogatepass")


def shown_token(token: Token) -> str:
    """The token as a message shows it."""
    return str(token) if isinstance(token, int) else token.decode("utf-8", "backslashreplace")
