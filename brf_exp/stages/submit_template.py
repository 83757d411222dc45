"""Stage `submit-template`: an example submission to look at and to overwrite."""

from pathlib import Path

from brf_exp.config import SubmitTemplateStageConfig
from brf_exp.errors import ConfigError
from brf_exp.paths import PACKAGE
from brf_exp.stages.extract_script import write_copies

TEMPLATE = PACKAGE / "standalone" / "template"


def run(config: SubmitTemplateStageConfig) -> Path:
    """Write the example's files; returns their folder. InputError where one of them is there with other content."""
    out = Path(config.out).expanduser()
    if out.exists() and not out.is_dir():
        raise ConfigError(f"`out` must be a folder, got the file {str(out)!r}. Choose another.")
    files = sorted(path for path in TEMPLATE.iterdir() if path.is_file())
    write_copies({out / path.name: path.read_bytes() for path in files}, replace=config.replace)
    return out
