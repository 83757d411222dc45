"""Ctrl-C and SIGTERM: once, stop behind the batch; twice, at once."""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any


class Stop:
    """Whether someone asked to stop."""

    def __init__(self) -> None:
        self.requested = False

    def check(self) -> None:
        """Raise KeyboardInterrupt where someone did."""
        if self.requested:
            raise KeyboardInterrupt


@contextlib.contextmanager
def stopping_between_batches(kept: Callable[[], str]) -> Iterator[Stop]:
    """Within the block the first SIGINT or SIGTERM only sets the flag and says so; the second acts as outside of it.

    Handlers that somebody else installed (a scheduler's, a notebook's) stay as they are, as do all of them outside the
    main thread.
    """
    stop = Stop()
    usual: dict[signal.Signals, Any] = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    mine = [number for number, handler in usual.items() if signal.getsignal(number) == handler]
    if threading.current_thread() is not threading.main_thread():
        mine = []

    def first(number: int, frame: FrameType | None) -> None:
        stop.requested = True
        for each in mine:
            signal.signal(each, usual[each])
        # One raw write: a handler may run in the middle of a write to sys.stderr.
        line = f"brf-exp: stopping behind this batch; {kept()}. Once more stops at once.\n"
        with contextlib.suppress(OSError):
            os.write(2, line.encode())

    for number in mine:
        signal.signal(number, first)
    try:
        yield stop
    finally:
        for number in mine:
            signal.signal(number, usual[number])
