"""Runs the built-in agents without the platform, and makes the documents that strangers send."""

from __future__ import annotations

import base64
import io
import sys
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import openpyxl
import pypdf
from PIL import Image
from pypdf.generic import DecodedStreamObject, NameObject
from reportlab.lib.utils import ImageReader
from reportlab.pdfgen.canvas import Canvas

from agentnexus.sdk import Agent, Context, Manifest, Recorder
from agentnexus.sdk.execute import ErrorBody, execute_blocking, load_agent

ROOT = Path(__file__).parents[2]
AGENTS = ROOT / "agents"
EXAMPLES = ROOT / "examples"


def load(name: str) -> tuple[Manifest, Agent[..., object]]:
    folder = AGENTS / name
    sys.path[:] = [entry for entry in sys.path if not Path(entry).is_relative_to(AGENTS)]
    manifest = Manifest.load(folder)
    return manifest, load_agent(folder, manifest.entry)


def run(name: str, value: object, recorder: Recorder | None = None) -> dict:
    """The output of a run that must succeed."""
    _, agent = load(name)
    seen = recorder or Recorder()
    outcome = execute_blocking(agent, value, Context(emit=seen))
    assert outcome.status == "completed", (outcome.error, seen.of("log"))
    assert isinstance(outcome.output, dict)
    return outcome.output


def refused(name: str, value: object) -> ErrorBody:
    """The refusal of a run that must be refused: permanent, with something to do about it."""
    _, agent = load(name)
    seen = Recorder()
    outcome = execute_blocking(agent, value, Context(emit=seen))
    assert outcome.status == "refused", (outcome, seen.of("log"))
    assert outcome.error is not None
    assert outcome.error.next_step, "a refusal says what to do"
    return outcome.error


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def example(name: str) -> str:
    return encoded((EXAMPLES / name).read_bytes())


def drawn(*pages: Callable[[Canvas], object], **canvas_options: object) -> bytes:
    """A PDF with one page per drawing function."""
    buffer = io.BytesIO()
    canvas = Canvas(buffer, pagesize=(400, 300), invariant=1, **canvas_options)
    for draw in pages:
        draw(canvas)
        canvas.showPage()
    canvas.save()
    return buffer.getvalue()


def text_page(*lines: str) -> Callable[[Canvas], object]:
    def draw(canvas: Canvas) -> None:
        for number, line in enumerate(lines):
            canvas.drawString(30, 260 - 18 * number, line)

    return draw


def picture_page(canvas: Canvas) -> None:
    picture = io.BytesIO()
    Image.new("L", (200, 150), 200).save(picture, "PNG")
    canvas.drawImage(ImageReader(io.BytesIO(picture.getvalue())), 0, 0, 400, 300)


def locked(data: bytes, password: str) -> bytes:
    writer = pypdf.PdfWriter(clone_from=io.BytesIO(data))
    writer.encrypt(user_password=password, owner_password="owner", algorithm="AES-256")
    buffer = io.BytesIO()
    writer.write(buffer)
    return buffer.getvalue()


def bomb_pdf(unpacked_bytes: int) -> bytes:
    """A page whose content stream is small on the wire and enormous unpacked."""
    writer = pypdf.PdfWriter()
    page = writer.add_blank_page(300, 300)
    content = DecodedStreamObject()
    content.set_data(b" " * unpacked_bytes)
    page[NameObject("/Contents")] = writer._add_object(content.flate_encode())
    buffer = io.BytesIO()
    writer.write(buffer)
    return buffer.getvalue()


def workbook(sheets: dict[str, Sequence[Sequence[object]]]) -> bytes:
    book = openpyxl.Workbook()
    book.remove(book.active)
    for name, rows in sheets.items():
        sheet = book.create_sheet(name)
        for row in rows:
            sheet.append(list(row))
    buffer = io.BytesIO()
    book.save(buffer)
    return buffer.getvalue()


def bomb_workbook(unpacked_bytes: int) -> bytes:
    """A workbook with one sheet of blanks that unpacks to the given size."""
    source = zipfile.ZipFile(io.BytesIO(workbook({"Sheet": [["a"], [1]]})))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for entry in source.infolist():
            data = source.read(entry)
            if entry.filename.endswith("sheet1.xml"):
                data += b" " * unpacked_bytes
            archive.writestr(entry.filename, data)
    return buffer.getvalue()
