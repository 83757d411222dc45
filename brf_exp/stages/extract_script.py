"""Stage `extract-script`: the standalone extraction script as a file."""

from pathlib import Path

from brf_exp.config import ExtractScriptStageConfig
from brf_exp.errors import ConfigError, InputError
from brf_exp.paths import PACKAGE

SCRIPT = PACKAGE / "standalone" / "extract_topk.py"


def run(config: ExtractScriptStageConfig) -> Path:
    """Write the script; returns its path. InputError where `out` holds something else and `replace` is not set."""
    out = Path(config.out).expanduser()
    target = out / SCRIPT.name if out.is_dir() else out
    write_copies({target: SCRIPT.read_bytes()}, replace=config.replace)
    return target


def write_copies(contents: dict[Path, bytes], *, replace: bool) -> None:
    """Write files that are not there already; none of them where one holds other content and `replace` is not set.

    Raises
    ------
    InputError
        Where a file of other content is there.
    ConfigError
        Where a file cannot be written.
    """
    for target, content in contents.items():
        if target.exists() and not replace and (not target.is_file() or target.read_bytes() != content):
            raise InputError(
                f"`out` must be a place where nothing else is, got {str(target)!r} with other content. "
                "Say `replace=true` to replace it, or choose another."
            )
    for target, content in contents.items():
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            partial = target.with_name(target.name + ".partial")
            partial.write_bytes(content)
            partial.replace(target)
        except OSError as error:
            raise ConfigError(
                f"`out` must be a path that can be written to, got {str(target)!r}: {error.strerror}. Choose another."
            ) from None
