"""The folder an unfinished capture grows in, and how one process or several come into it and out of it."""

import contextlib
import fcntl
import json
import os
import shutil
import sys
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from brf_exp.capture.generated_texts import PROMPTS
from brf_exp.capture.parts import Identity, Part, write_side_file
from brf_exp.errors import ConfigError
from brf_exp.storage import runs
from brf_exp.storage.captures import MANIFEST, first_damage, leftovers, replacing, sha256_of
from brf_exp.storage.locks import flock

WORKERS = ".workers"
# Their versions decide about the last bit of a logit: parts of one capture have the same ones.
COMPUTING_PACKAGES = ("tokenizers", "torch", "transformers")


def say(line: str) -> None:
    """One line for the user, whole: several processes may write to one terminal."""
    sys.stderr.write(f"brf-exp: {line}\n")
    sys.stderr.flush()


class Workplace:
    """A process's place in the `.partial` folder of a capture, which others may work in as well."""

    def __init__(self, final: Path, identity: Identity, presence: IO[str], *, n_threads: int) -> None:
        self.final, self.folder = final, partial_of(final)
        self.identity, self._presence = identity, presence
        self.n_threads = n_threads

    def leave(self) -> None:
        """Go, and leave what is finished to whoever comes next."""
        self._presence.close()

    def give_up(self) -> None:
        """Go because of what the user must mend; a folder without a finished part or another worker goes too."""
        with runs.locked(self.final):
            if not (self.folder / WORKERS).is_file():
                return
            alone = flock(self._presence, fcntl.LOCK_EX | fcntl.LOCK_NB, self.folder / WORKERS)
            if alone and not list(self.folder.glob("part-*.json")):
                shutil.rmtree(self.folder, ignore_errors=True)


def partial_of(final: Path) -> Path:
    """Where a capture grows before it is whole."""
    return final.with_name(final.name + ".partial")


def enter(final: Path, identity: Identity, *, n_threads: int) -> Workplace | None:
    """A place in the capture's folder, which is made where there is none; None where the capture is finished.

    Threads divide sums differently: whoever goes on with a capture uses as many as it was begun with (`n_threads` of
    what is returned). Raises ConfigError where others work there with other versions of the packages that compute.
    """
    with runs.locked(final):
        if is_finished(final):
            return None
        folder = partial_of(final)
        folder.mkdir(exist_ok=True)
        presence = (folder / WORKERS).open("a+", encoding="utf-8")
        alone = flock(presence, fcntl.LOCK_EX | fcntl.LOCK_NB, folder / WORKERS)
        theirs = _read(presence) or {}
        begun_with = theirs.pop("n_threads", None)
        if theirs == asdict(identity) and isinstance(begun_with, int):
            n_threads = begun_with
        elif not alone and theirs:
            presence.close()
            raise ConfigError(_other_versions(folder, theirs, identity))
        else:
            presence.truncate(0)
            presence.write(json.dumps({**asdict(identity), "n_threads": n_threads}))
            presence.flush()
        flock(presence, fcntl.LOCK_SH, folder / WORKERS)
    return Workplace(final, identity, presence, n_threads=n_threads)


def _read(presence: IO[str]) -> dict[str, object] | None:
    presence.seek(0)
    try:
        found = json.loads(presence.read())
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _other_versions(folder: Path, theirs: dict[str, object], identity: Identity) -> str:
    return (
        f"`{folder}` must be filled with one version of every package, got {identity.made_by} while another process "
        f"works there with {theirs.get('made_by')}. Wait for it, or use the same installation."
    )


def is_finished(final: Path) -> bool:
    """Whether a capture is there whole, as far as names and sizes of its files tell."""
    try:
        manifest = runs.read_json(final / MANIFEST)
        return first_damage(final, manifest) is None
    except (OSError, ValueError, KeyError, TypeError):
        return False


def reopen(final: Path) -> None:
    """Make a capture that lost a file unfinished again, with those of its parts that are as they were written."""
    with runs.locked(final):
        if is_finished(final) or not final.is_dir():
            return
        say(f"{final} is damaged: making again what is missing.")
        for part, identity in _stated(final):
            with contextlib.suppress(OSError):
                if sha256_of(final / part.name) == part.sha256:
                    write_side_file(final, part, identity)
        (final / MANIFEST).unlink(missing_ok=True)
        folder = partial_of(final)
        folder.mkdir(exist_ok=True)
        for path in final.iterdir():
            if not (folder / path.name).exists():
                path.replace(folder / path.name)
        shutil.rmtree(final)


def _stated(final: Path) -> list[tuple[Part, Identity]]:
    """The parts that a capture's manifest names, as far as it can be read."""
    try:
        manifest = runs.read_json(final / MANIFEST)
        made_by = {name: manifest["packages"][name] for name in COMPUTING_PACKAGES}
        identity = Identity(manifest["key"], made_by)
        return [(Part(**part), identity) for part in manifest["parts"]]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def seal(place: Workplace, manifest: dict[str, Any]) -> None:
    """Describe a capture whose parts are all there and give its folder its name. Call with its lock held."""
    folder, final = place.folder, place.final
    with replacing(folder / MANIFEST) as unfinished:
        runs.write_json(unfinished, manifest)
        with unfinished.open("rb") as file:
            os.fsync(file.fileno())
    shutil.rmtree(final, ignore_errors=True)
    folder.replace(final)
    sweep(final)


def sweep(final: Path) -> None:
    """Remove what a finished capture does not need any more, and parts that are none of its own."""
    named = {part["name"] for part in runs.read_json(final / MANIFEST)["parts"]}
    ours = (path for path in final.glob("part-*") if path.suffix in (".json", ".parquet") and path.name not in named)
    for path in (*ours, *leftovers(final), *final.glob(".part-*.lock"), final / PROMPTS, final / WORKERS):
        with contextlib.suppress(OSError):  # gone, or another user's to remove
            path.unlink()
