"""Files and folders that appear whole or not at all, and the folder that a job works in.

A result is written beside its final name and moved there by one `os.rename`, so a crash, a full disk or a `kill -9`
leaves either the old state or the new one. (Replacing a folder takes two renames; a crash between them leaves the old
one whole under the name `.NAME.old.*`.) A long job works in `OUTPUT.partial`, which holds what `--resume` needs.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from numpy.typing import NDArray

from compresskit.checkpoint.finite import check_files
from compresskit.checkpoint.jobs import check_same_job, without_length
from compresskit.checkpoint.ordering import order_metadata
from compresskit.checkpoint.outputs import check_apart, check_folder, check_name, placing
from compresskit.checkpoint.reading import check_header, opened, read_bytes
from compresskit.checkpoint.temporary import new_folder
from compresskit.errors import InputError, MissingError, UsageError
from compresskit.text import from_json, to_json

if TYPE_CHECKING:
    import torch

_CHUNK = 1 << 20


def sha256_file(path: Path) -> str:
    """Hex SHA-256 of a file's bytes, read in chunks; once in a process, unless the file changes."""
    status = path.stat()
    return _sha256(path.resolve(), status.st_ino, status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=1024)
def _sha256(path: Path, *_: int) -> str:
    digest = hashlib.sha256()
    with opened(path) as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a checkpoint folder, sorted by name.

    Raises InputError where an index in the folder is damaged, or names a file that is not one of these (see
    `indexed_names`): whoever opens the folder would open that file too.
    """
    for index in _indexes(folder):
        indexed_names(index)
    return sorted(folder.glob("*.safetensors"))


def _indexes(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.safetensors.index.json"))


def indexed_names(index: Path) -> set[str]:
    """The names of the files that hold the tensors of a checkpoint in parts, as its index tells them.

    Raises InputError where the index is damaged, or names something else than a safetensors file in its own folder.
    Transformers opens whatever stands there: another format may be a pickle, which can run any code, and a file
    from elsewhere is in no hash.
    """
    content = read_json(index)
    names = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(names, dict) or not names:
        raise InputError(f"{index} lists no weights; it is damaged: copy or download the checkpoint again")
    for name in names.values():
        if not isinstance(name, str) or not name.endswith(".safetensors") or name != os.path.basename(name):
            raise InputError(
                f"{index} names {str(name)!r}, which is not a safetensors file of its own folder; "
                "copy or download the checkpoint again from where you trust it"
            )
    return set(names.values())


def sha256_weights(folder: Path) -> str:
    """SHA-256 of a checkpoint's weights: of its one safetensors file, or of the `hash name` lines of several.

    Where an index leaves some of the files out, it has a line too: which of them are the weights depends on it.
    """
    files = weight_files(folder)
    if not files:
        raise InputError(f"{folder} holds no safetensors weights; convert the checkpoint to safetensors first")
    known = {file.name for file in files}
    files += [index for index in _indexes(folder) if indexed_names(index) != known]
    if len(files) == 1:
        return sha256_file(files[0])
    listing = "".join(f"{sha256_file(file)} {file.name}\n" for file in files)
    return hashlib.sha256(listing.encode()).hexdigest()


def write_text(path: Path, text: str) -> None:
    """Write a text file so that it appears whole or not at all."""
    with written(path) as file:
        file.write(text.encode())


@contextlib.contextmanager
def written(path: Path) -> Iterator[IO[bytes]]:
    """A new file to fill with bytes, that becomes `path` when the block ends well and disappears when it does not.

    A link stays one, and what it leads to is written.
    """
    path = path.resolve()
    with tempfile.NamedTemporaryFile("wb", dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        try:
            yield file
            file.flush()
            os.fsync(file.fileno())
            # Temporary files are born private; a result is as readable as any file that the user makes.
            os.chmod(file.name, 0o666 & ~_umask())
            os.replace(file.name, path)
        except BaseException:
            os.unlink(file.name)
            raise


def write_json(path: Path, value: Any) -> None:
    """Write a value as indented JSON so that the file appears whole or not at all; NaN is refused (ValueError)."""
    write_text(path, to_json(value, indent=2) + "\n")


def reserve(path: Path, size: int) -> None:
    """Make a file of `size` bytes whose room on the disk is its own; a full disk raises OSError(ENOSPC).

    A memory map of a file with holes ends the process by SIGBUS where the disk has no room for what is written to it.
    """
    with path.open("wb") as file:
        file.truncate(size)
        if size and hasattr(os, "posix_fallocate"):  # macOS has none
            try:
                os.posix_fallocate(file.fileno(), 0, size)
            except OSError as error:
                raise OSError(error.errno, error.strerror, str(path)) from error


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


def read_json(path: Path) -> Any:
    """Read a JSON file; one that cannot be read, or is too large, not UTF-8 or broken, is an InputError naming it."""
    try:
        return from_json(read_bytes(path).decode())
    except ValueError as error:
        raise InputError(f"{path} is not valid JSON ({error}); it is damaged: copy or make it again") from error


def read_safetensors_metadata(path: Path) -> dict[str, str]:
    """The metadata of a safetensors file, after a check that the file is whole.

    Raises InputError where the file is missing, unreadable, truncated or of another format.
    """
    from safetensors import SafetensorError, safe_open

    check_header(path)
    try:
        with safe_open(path, framework="numpy") as file:
            return dict(file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} is not a whole safetensors file ({error}); copy or download it again") from error


def tensor_shapes(folder: Path) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and shapes of all tensors in a folder's safetensors files, which are not loaded.

    Raises InputError where a file is truncated or foreign.
    """
    for path in weight_files(folder):
        read_safetensors_metadata(path)
        with opened(path) as file:
            header = from_json(file.read(int.from_bytes(file.read(8), "little")))
        yield from ((name, tuple(entry["shape"])) for name, entry in header.items() if name != "__metadata__")


def save_arrays(path: Path, arrays: Mapping[str, NDArray[Any]], metadata: Mapping[str, str] | None = None) -> None:
    """Write numpy arrays as safetensors; a full disk raises OSError(ENOSPC), as any other write does."""
    from safetensors.numpy import save_file

    with _disk_errors(path):
        save_file(dict(arrays), path, metadata=dict(metadata or {}))
    order_metadata(path)


def save_tensors(path: Path, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write torch tensors as safetensors (copied to the CPU, made contiguous); a full disk raises OSError(ENOSPC)."""
    from safetensors.torch import save_file

    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with _disk_errors(path):
        save_file(contiguous, path, metadata={"format": "pt", **(metadata or {})})
    order_metadata(path)


def load_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Read a safetensors file to CPU tensors; InputError where it is missing, truncated or foreign."""
    from safetensors.torch import load_file

    read_safetensors_metadata(path)
    return load_file(path)


@contextlib.contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    """safetensors wraps the system's errors in one of its own; give a full disk its number back."""
    from safetensors import SafetensorError

    try:
        yield
    except SafetensorError as error:
        if "os error 28" in str(error):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error
        raise


@contextlib.contextmanager
def staged_folder(output: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """A new folder to fill, that becomes `output` when the block ends well and disappears when it does not.

    Raises UsageError where no folder may come to be there (see `check_folder`); InputError where its weights are not
    finite.
    """
    check_folder(output, overwrite=overwrite)
    with placing(output):
        output.parent.mkdir(parents=True, exist_ok=True)
        staging = staging_beside(output)
    try:
        yield staging
        check_files(staging, output)
        publish(staging, output)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def staging_beside(output: Path) -> Path:
    """A new folder beside `output`, under a hidden name of its own, with the permissions of any folder of the user."""
    staging = new_folder(output.parent, f".{output.name}.")
    staging.chmod(0o777 & ~_umask())
    return staging


def publish(staging: Path, output: Path) -> None:
    """Move a finished folder to its final name, in place of what stood there; both must be on one file system."""
    _sync(staging)
    if output.exists():
        old = Path(tempfile.mkdtemp(dir=output.parent, prefix=f".{output.name}.old."))
        os.rename(output, old / "old")
        os.rename(staging, output)
        shutil.rmtree(old)
    else:
        os.rename(staging, output)


def _sync(folder: Path) -> None:
    """Write the files of a finished folder through to the disk, as readable as any file that the user makes."""
    mode = 0o666 & ~_umask()  # safetensors are born private
    for path in folder.rglob("*"):
        if path.is_file():
            path.chmod(mode)
            with path.open("rb") as file:
                os.fsync(file.fileno())


def workspace_of(output: Path) -> Path:
    """Where a job works whose result goes to `output`."""
    return output.with_name(f"{output.name}.partial")


class Workspace:
    """The folder `OUTPUT.partial` of a job in progress, claimed by one job at a time; UsageError for `.` and `..`.

    `claim` locks it; the lock goes with the process, however that ends. What `--resume` needs lies in it:
    `run.json` (the job, to tell whether it is the same), the training states, the teacher's logits, the log.
    """

    def __init__(self, output: Path) -> None:
        check_name(output)
        self.output = output
        self.path = workspace_of(output)
        self._lock: int | None = None

    def check(self, inputs: Iterable[Path] = ()) -> None:
        """UsageError where the folder is over, above or in one of the `inputs`, or there and not of a job."""
        check_apart(self.path, inputs)
        if not os.path.lexists(self.path):
            return
        if self.path.is_symlink() or not self.path.is_dir() or not self._is_of_a_job():
            raise UsageError(f"{self.path} is in the way of the run's own files; move it, or choose another -o")

    def _is_of_a_job(self) -> bool:
        names = {path.name for path in self.path.iterdir()}
        return "run.json" in names or not any(name != "lock" and not name.startswith(".run.json.") for name in names)

    @contextlib.contextmanager
    def claim(self, job: Mapping[str, Any], *, resume: bool, overwrite: bool) -> Iterator[Path]:
        """Lock the folder for the block; afterwards it is gone if `finish` ran, else kept for `--resume`.

        `job` describes the run (JSON values); to resume, it must equal the interrupted one's but for its length. Raises
        UsageError where the output is there already, another process works on it, an interrupted run is there and
        neither `resume` nor `overwrite` is given, or the interrupted run was another job; InputError where it does not
        tell.
        """
        check_folder(self.output, overwrite=overwrite)
        self.check()
        known = self.path / "run.json"
        with placing(self.output):
            self.path.mkdir(parents=True, exist_ok=True)
            self._acquire()
        try:
            self.check_job(job, resume=resume, overwrite=overwrite)
            if known.exists() and resume:
                write_json(known, job)
                yield self.path
            else:
                self._clear()
                write_json(known, job)
                with self._gone_on_bad_input():
                    yield self.path
        finally:
            self._release()

    def check_job(self, job: Mapping[str, Any], *, resume: bool, overwrite: bool) -> None:
        """What `claim` raises of an interrupted run that is there."""
        known = self.path / "run.json"
        if not known.exists() or (overwrite and not resume):
            return
        if not resume:
            raise UsageError(f"{self.path} holds an interrupted run; --resume goes on with it, --overwrite starts anew")
        before = read_json(known)
        if not isinstance(before, dict):
            raise InputError(f"{known} does not tell which run it is of; --overwrite starts anew")
        check_same_job(without_length(before), without_length(job), self.path)

    @contextlib.contextmanager
    def _gone_on_bad_input(self) -> Iterator[None]:
        """A job that was refused has nothing to resume: it leaves no workspace."""
        try:
            yield
        except (InputError, MissingError, UsageError):
            shutil.rmtree(self.path, ignore_errors=True)
            raise

    def finish(self, staging: Path) -> None:
        """Publish the finished checkpoint folder and remove the workspace; InputError for weights not finite."""
        check_files(staging, self.output)
        publish(staging, self.output)
        self.remove()

    def remove(self) -> None:
        """Remove what a job left; nothing where it left nothing."""
        shutil.rmtree(self.path, ignore_errors=True)

    def _clear(self) -> None:
        # What tells that the folder is of a job goes last.
        for entry in sorted(self.path.iterdir(), key=lambda path: path.name == "run.json"):
            if entry.name == "lock":
                continue
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()

    def _acquire(self) -> None:
        self._lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._release()
            raise UsageError(
                f"another run is working in {self.path}; wait for it, or choose another folder with -o"
            ) from error

    def _release(self) -> None:
        if self._lock is not None:
            # To close it alone would leave the lock to processes that were forked meanwhile, such as a data loader's.
            fcntl.flock(self._lock, fcntl.LOCK_UN)
            os.close(self._lock)
            self._lock = None
