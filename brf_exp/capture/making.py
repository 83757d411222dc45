"""One capture from its plan to its finished folder."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from brf_exp.capture import workplace
from brf_exp.capture.filling import Filling
from brf_exp.capture.interrupts import stopping_between_batches
from brf_exp.capture.parts import Identity, Part, PlannedPart, RowSource
from brf_exp.capture.progress import progress_bar
from brf_exp.capture.shards import Shard, parts_of, shard_of_parts
from brf_exp.capture.workplace import Workplace, say
from brf_exp.config import CaptureConfig
from brf_exp.errors import BrfError
from brf_exp.models.load import LoadedModel, threads
from brf_exp.storage import runs
from brf_exp.storage.space import free_bytes, readable, writing_to

NAMED_SHARDS = 8
Describe = Callable[[Sequence[Part]], dict[str, Any]]


class Making:
    """What this process does for a capture: its share of the parts, and the finish where it is the last."""

    def __init__(
        self,
        final: Path,
        key: str,
        source: RowSource,
        loaded: LoadedModel,
        settings: CaptureConfig,
        *,
        progress: bool,
    ) -> None:
        versions = runs.package_versions()
        self._identity = Identity(key, {name: versions[name] for name in workplace.COMPUTING_PACKAGES})
        self._final, self._source, self._progress = final, source, progress
        self._label = f"capture {loaded.reference.name}"
        self._shard = Shard.parse(settings.shard) if settings.shard else None
        # Two numbers per logit and some columns beside them, before they are compressed.
        self._filling = Filling(workplace.partial_of(final), self._identity, source, row_bytes=8 * settings.k + 44)

    def made(self, describe: Describe, environment: dict[str, Any]) -> Path:
        """The finished folder; with a shard, the unfinished one where parts of others are missing."""
        import torch

        filling = self._filling
        place = None
        try:
            with writing_to(self._final.parent, missing_bytes=lambda: filling.missing_bytes, kept=lambda: filling.kept):
                place = workplace.enter(self._final, self._identity, n_threads=torch.get_num_threads())
                if place is None:
                    return self._final
                with threads(place.n_threads):
                    return self._made_in(place, describe, {**environment, "n_threads": place.n_threads})
        except BrfError:
            if place is not None:
                place.give_up()
            raise
        except FileNotFoundError:
            # Another process finished the capture and moved the folder while this one looked for something to do.
            if not workplace.is_finished(self._final):
                raise
            return self._final
        finally:
            if place is not None:
                place.leave()

    def _made_in(self, place: Workplace, describe: Describe, environment: dict[str, Any]) -> Path:
        self._source.prepare(place.folder)
        self._warn_of_a_small_disk(place.folder)
        self._fill()
        with runs.locked(self._final):
            if workplace.is_finished(self._final):
                return self._final
            missing = self._filling.missing()
            if not missing:
                self._finish(place, describe, environment)
                return self._final
        assert self._shard is not None, "without a shard every part was filled"
        say(self._missing_line(self._shard, missing, place.folder))
        return place.folder

    def _fill(self) -> None:
        rows = [part.rows for part in self._source.plan]
        wanted = parts_of(rows, self._shard)
        n_tokens = sum(rows[wanted.start : wanted.stop])
        with (
            progress_bar(self._label, n_tokens=n_tokens, enabled=self._progress) as on_tokens,
            stopping_between_batches(lambda: self._filling.kept) as stop,
        ):
            self._filling.have(wanted, on_tokens=on_tokens, stop=stop)

    def _finish(self, place: Workplace, describe: Describe, environment: dict[str, Any]) -> None:
        parts = [self._filling.done[part.index] for part in self._source.plan]
        self._source.finish(place.folder, parts)
        manifest = describe(parts)
        manifest["packages"] = runs.package_versions()
        manifest["environment"] = {**environment, **runs.environment()}
        workplace.seal(place, manifest)

    def _warn_of_a_small_disk(self, folder: Path) -> None:
        needed, free = self._filling.missing_bytes, free_bytes(folder)
        if needed > free:
            say(f"the capture may take up to {readable(needed)} more, {readable(free)} are free at {folder}.")

    def _missing_line(self, shard: Shard, missing: Sequence[PlannedPart], folder: Path) -> str:
        owners = shard_of_parts([part.rows for part in self._source.plan], shard.count)
        others = sorted({owners[part.index] for part in missing})
        named = ",".join(f"{number}/{shard.count}" for number in others[:NAMED_SHARDS])
        more = f" and {len(others) - NAMED_SHARDS} more shards" if len(others) > NAMED_SHARDS else ""
        state = "is done" if shard.number in owners else f"has none of the {len(owners)} parts"
        return (
            f"shard {shard} {state}; {len(missing)} of {len(owners)} parts are missing, "
            f"of capture.shard={named}{more}. "
            "The last shard finishes the capture, and so does the command without capture.shard; files of other "
            f"machines' .partial folders can be copied into {folder}."
        )
