"""Tries to read and write what is not its own."""

import os
from pathlib import Path

from pydantic import BaseModel

from agentnexus.sdk import agent


class Request(BaseModel):
    do: str
    path: str = ""


class Answer(BaseModel):
    outcome: str


def _read(path: str) -> str:
    return Path(path).read_bytes()[:200].decode(errors="replace")


def _write(path: str) -> str:
    Path(path).write_text("mine now")
    return "written"


def _run_from_tmp(path: str) -> str:
    Path("/tmp/tool").write_text("#!/bin/sh\necho ran\n")
    Path("/tmp/tool").chmod(0o755)
    return os.popen("/tmp/tool 2>&1").read()


def _everything(path: str) -> str:
    """Every readable file outside the places an agent is given."""
    given = ("/usr", "/proc", "/dev", "/agent", "/tmp", *path.split(":"))
    seen = []
    for folder, folders, files in os.walk("/"):
        if folder.startswith(given):
            folders.clear()
            continue
        seen += [f"{folder}/{name}" for name in files]
    return "\n".join(sorted(seen))


def _list(path: str) -> str:
    return "\n".join(sorted(entry.name for entry in Path(path).iterdir()))


def _environment(path: str) -> str:
    return "\n".join(f"{key}={value}" for key, value in sorted(os.environ.items()))


def _set_user_id(path: str) -> str:
    copy = Path("/tmp/python")
    copy.write_bytes(b"x")
    copy.chmod(0o4755)
    os.setuid(0)
    return "root"


@agent
def run(request: Request) -> Answer:
    actions = {
        "read": _read,
        "write": _write,
        "execute": _run_from_tmp,
        "everything": _everything,
        "list": _list,
        "environment": _environment,
        "set_user_id": _set_user_id,
    }
    try:
        return Answer(outcome=actions[request.do](request.path))
    except OSError as error:
        return Answer(outcome=type(error).__name__)
