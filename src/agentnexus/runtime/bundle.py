"""An agent ready to run: its folder, manifest, both schemas, and the hash of its code."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from agentnexus.core.errors import InvalidInput
from agentnexus.sdk.manifest import Manifest, ManifestError

MAX_BUNDLE_BYTES = 64 * 1024 * 1024
MAX_BUNDLE_FILES = 2_000
IGNORED_FOLDERS = frozenset({"__pycache__", ".git", ".venv", "node_modules"})
Schema: TypeAlias = "dict[str, object]"


@dataclass(frozen=True, slots=True)
class Bundle:
    """What a runtime needs to run an agent. The schemas are empty until somebody described the code."""

    folder: Path
    manifest: Manifest
    code_hash: str
    input_schema: Schema | None = None
    output_schema: Schema | None = None

    @property
    def name(self) -> str:
        return self.manifest.name


def read_bundle(folder: Path) -> Bundle:
    """Read and hash an agent's folder; blocks on the disk, runs none of its code.

    Raises `InvalidInput` naming the field of the manifest or the file at fault.
    """
    folder = folder.resolve()
    try:
        manifest = Manifest.load(folder)
    except ManifestError as error:
        field, problem = error.problems[0]
        raise InvalidInput(
            f"agent.toml, {field}: {problem}",
            next_step="Correct the manifest; `nexus agents test` checks it.",
            field=field,
            problems=[list(item) for item in error.problems],
        ) from error
    return Bundle(folder=folder, manifest=manifest, code_hash=hash_folder(folder))


def hash_folder(folder: Path) -> str:
    """``sha256:<hex>`` over the sorted (path, content hash) pairs; links and odd files are refused."""
    digest = hashlib.sha256()
    total = 0
    files = sorted(path for path in folder.rglob("*") if not _ignored(path.relative_to(folder)))
    if len(files) > MAX_BUNDLE_FILES:
        raise InvalidInput(
            f"{folder.name} has more than {MAX_BUNDLE_FILES} files", next_step="Remove what is not needed."
        )
    for path in files:
        name = path.relative_to(folder).as_posix()
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise InvalidInput(f"{name} is a link or a special file", next_step="Put a plain file there.", field=name)
        if path.is_dir():
            continue
        data = path.read_bytes()
        total += len(data)
        digest.update(f"{name}\0{hashlib.sha256(data).hexdigest()}\n".encode())
    if total > MAX_BUNDLE_BYTES:
        raise InvalidInput(
            f"{folder.name} is larger than {MAX_BUNDLE_BYTES} bytes",
            next_step="Load large data from an allowed host instead.",
        )
    return "sha256:" + digest.hexdigest()


def _ignored(path: Path) -> bool:
    return any(part in IGNORED_FOLDERS for part in path.parts)
