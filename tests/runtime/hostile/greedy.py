"""Takes more than it was given."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from pydantic import BaseModel

from agentnexus.sdk import Context, agent


class Request(BaseModel):
    do: str
    amount: int = 0


class Answer(BaseModel):
    text: str = ""


def _fork_bomb(request: Request, context: Context) -> None:
    while True:
        if os.fork() == 0:
            time.sleep(600)


def _stubborn_fork_bomb(request: Request, context: Context) -> None:
    while True:
        with contextlib.suppress(BlockingIOError):
            os.fork()


def _memory(request: Request, context: Context) -> None:
    hoard = []
    while True:
        hoard.append(bytearray(os.urandom(1024)) * 1024 * 4)


def _memory_in_a_child(request: Request, context: Context) -> None:
    subprocess.run([sys.executable, "-c", "x = []\nwhile True: x.append(bytearray(b'1') * 4000000)"], check=True)


def _fill_tmp(request: Request, context: Context) -> None:
    with Path("/tmp/full").open("wb") as file:
        while True:
            file.write(b"x" * 1_000_000)


def _many_small_files(request: Request, context: Context) -> None:
    number = 0
    while True:
        Path(f"/tmp/{number}").touch()
        number += 1


def _open_files(request: Request, context: Context) -> None:
    hoard = []
    while True:
        hoard.append(os.open("/dev/null", os.O_RDONLY))


def _print(request: Request, context: Context) -> None:
    block = b"y" * 65_536 + b"\n"
    for _ in range(request.amount // len(block) + 1):
        os.write(1, block)


def _log(request: Request, context: Context) -> None:
    for number in range(request.amount):
        context.log(f"line {number} " + "z" * 100)


def _big_result(request: Request, context: Context) -> str:
    return "r" * request.amount


def _sleep(request: Request, context: Context) -> None:
    time.sleep(request.amount)


def _spin(request: Request, context: Context) -> None:
    while True:
        pass


def _busy(request: Request, context: Context) -> None:
    """Uses all the processor it gets for so many milliseconds of the clock."""
    end = time.monotonic() + request.amount / 1000
    while time.monotonic() < end:
        pass


def _threads(request: Request, context: Context) -> str:
    """As many threads as wanted; each counts as a process."""
    stop = threading.Event()
    workers = [threading.Thread(target=stop.wait, daemon=True) for _ in range(request.amount)]
    try:
        for worker in workers:
            worker.start()
    finally:
        stop.set()
    return "started"


def _hold_open(request: Request, context: Context) -> None:
    """A child keeps our streams open after we are done."""
    if os.fork() == 0:
        time.sleep(100_000)


def _background_thread(request: Request, context: Context) -> str:
    threading.Thread(target=time.sleep, args=(100_000,)).start()
    return "left it running"


def _ignore_signals(request: Request, context: Context) -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    context.log("ignoring")
    while True:
        time.sleep(600)


def _daemonise(request: Request, context: Context) -> None:
    """A grandchild in its own session, without our streams, that would run for ever."""
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.closerange(0, 1024)
            time.sleep(100_000)
        os._exit(0)
    os.wait()


def _clean_up(request: Request, context: Context) -> str:
    try:
        context.log("working")
        time.sleep(600)
    finally:
        context.log("cleaned up")
    return ""


def _die(request: Request, context: Context) -> None:
    os.kill(os.getpid(), signal.SIGSEGV)
    os._exit(3)


@agent
def run(request: Request, context: Context) -> Answer:
    text = globals()[f"_{request.do}"](request, context)
    return Answer(text=text or "")
