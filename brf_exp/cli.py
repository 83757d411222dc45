"""The command line: `brf-exp <stage> [key=value ...]`."""

import os
import sys
from collections.abc import Sequence

from brf_exp.cli_help import stage_help, stage_list, version
from brf_exp.config import STAGES
from brf_exp.errors import BrfError, ConfigError
from brf_exp.settings import closest

_HELP = ("-h", "--help")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code: 0 done, 2 the user's to mend, 130 interrupted."""
    try:
        return _dispatch(list(sys.argv[1:] if arguments is None else arguments))
    except BrfError as error:
        print(f"brf-exp: {' '.join(str(error).splitlines())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("brf-exp: interrupted. The same command goes on where this one stopped.", file=sys.stderr)
        return 130


def entry_point() -> None:
    """The console script."""
    try:
        code = main()
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader of our output is gone (`| head`): nothing to say, and nobody to say it to.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 141
    sys.exit(code)


def _dispatch(arguments: list[str]) -> int:
    if not arguments or arguments[0] in _HELP:
        print(stage_list())
        return 0
    if arguments[0] == "--version":
        print(version())
        return 0
    stage, *rest = arguments
    if stage not in STAGES:
        hint = closest(stage, STAGES) or "The stage comes first; `brf-exp` alone lists them."
        raise ConfigError(f"`stage` must be one of {', '.join(sorted(STAGES))}, got {stage!r}. {hint}")
    if any(flag in rest for flag in _HELP):
        print(stage_help(stage))
        return 0
    from brf_exp.overrides import read_request

    request = read_request(stage, rest)
    if request.sweep:
        from brf_exp.multirun import launch_sweep

        return launch_sweep(request)
    from brf_exp.compose import launch_once

    return launch_once(request)
