"""`agent.toml`: the one file that everything else about an agent (form, price, limits, cards) is derived from."""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

MANIFEST_NAME = "agent.toml"
NAME_PATTERN = r"^[a-z][a-z0-9-]*(\.[a-z0-9][a-z0-9-]*){2,}$"
VERSION_PATTERN = r"^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-[0-9A-Za-z.-]+)?$"
CAPABILITY_PATTERN = r"^[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)+$"
ENTRY_PATTERN = r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*$"
MODULE_PATTERN = r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*$"
HOST_PATTERN = r"^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z][a-z0-9-]{0,61}[a-z0-9](:\d{1,5})?$"
# Bounded, so that no price is a number of a billion digits once it is counted with.
PRICE = re.compile(r"[0-9]{1,18}(?:\.[0-9]{1,18})?")
SECRET_PATTERN = r"^[A-Z][A-Z0-9_]{0,63}$"  # noqa: S105 - the shape of a secret's name


class ManifestError(ValueError):
    """`problems` lists ``(field, what is wrong)`` for every fault found, not only the first."""

    def __init__(self, problems: list[tuple[str, str]]) -> None:
        self.problems = problems
        super().__init__("; ".join(f"{field}: {problem}" for field, problem in problems))


def _decimal(text: str) -> str:
    if not PRICE.fullmatch(text):
        raise ValueError("write the price as decimal text of zero or more, such as 0.02")
    return text


DecimalText = Annotated[str, AfterValidator(_decimal)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PricedEvent(_Part):
    """Something the agent may ask to be charged for; `maximum` caps the count in one run."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_-]{0,63}$")
    price: DecimalText
    maximum: int = Field(ge=1)


class Pricing(_Part):
    """Decimal texts in `currency`; `free_runs` per buyer before the first charge.

    `per_month` also sells it by the month, with at most `runs_per_month` runs; `transferable`: who bought runs or a
    month may pass them on.
    """

    per_run: DecimalText = "0"
    currency: str = "USDC"
    events: tuple[PricedEvent, ...] = ()
    free_runs: int = Field(default=0, ge=0)
    per_month: DecimalText | None = None
    runs_per_month: int | None = Field(default=None, ge=1, le=1_000_000)
    transferable: bool = False

    @property
    def maximum(self) -> Decimal:
        """The most one run can cost."""
        return Decimal(self.per_run) + sum((Decimal(event.price) * event.maximum for event in self.events), Decimal(0))


class LimitsWanted(_Part):
    """What one run may use. The operator may allow less."""

    memory_mib: int = Field(default=512, ge=32, le=8192)
    cpu: float = Field(default=0.5, ge=0.05, le=4)
    timeout_seconds: float = Field(default=300, gt=0, le=1800)
    tmp_mib: int = Field(default=100, ge=1, le=1024)
    processes: int = Field(default=128, ge=4, le=1024)
    concurrency: int = Field(default=10, ge=1, le=1000)


class Egress(_Part):
    """Hosts (``name`` or ``name:port``, 443 if left out) that the agent may reach by TLS. Shown to buyers."""

    hosts: tuple[Annotated[str, Field(pattern=HOST_PATTERN, max_length=253)], ...] = ()


class ServiceLevel(_Part):
    """What the author promises, and which failures give the money back."""

    p95_seconds: float | None = Field(default=None, gt=0)
    success_rate: float | None = Field(default=None, gt=0, le=1)
    refund_on: tuple[Literal["failed", "timeout", "schema_mismatch", "cancelled", "sla_breach"], ...] = (
        "failed",
        "timeout",
        "schema_mismatch",
    )


class Example(_Part):
    """An input that works; drives the demo, the daily test and the smoke test before publishing."""

    title: str = Field(min_length=1, max_length=80)
    input: dict[str, object]


class Manifest(_Part):
    """The whole of `agent.toml`; unknown fields are errors."""

    manifest: Literal[1] = 1
    name: str = Field(pattern=NAME_PATTERN, max_length=128, description="reverse DNS: org.example.my-agent")
    version: str = Field(pattern=VERSION_PATTERN, description="semantic version")
    title: str = Field(min_length=1, max_length=60)
    summary: str = Field(min_length=1, max_length=160)
    description: str = Field(default="", max_length=10_000)
    categories: tuple[str, ...] = Field(min_length=1, max_length=3)
    tags: tuple[str, ...] = Field(default=(), max_length=20)
    capability: str = Field(pattern=CAPABILITY_PATTERN)
    entry: str = Field(default="agent:run", pattern=ENTRY_PATTERN, description="module:function")
    image: str | None = Field(default=None, pattern=r"^\S+@sha256:[0-9a-f]{64}$")
    licence: str = "Apache-2.0"
    source: str = ""
    pricing: Pricing = Pricing()
    limits: LimitsWanted = LimitsWanted()
    egress: Egress = Egress()
    secrets: tuple[Annotated[str, Field(pattern=SECRET_PATTERN)], ...] = ()
    preload: tuple[Annotated[str, Field(pattern=MODULE_PATTERN)], ...] = ()
    service_level: ServiceLevel = ServiceLevel()
    examples: tuple[Example, ...] = ()

    @model_validator(mode="after")
    def _no_repeats(self) -> Manifest:
        for field, values in (
            ("pricing.events", [event.name for event in self.pricing.events]),
            ("secrets", list(self.secrets)),
            ("examples", [example.title for example in self.examples]),
        ):
            if len(set(values)) != len(values):
                raise ValueError(f"{field} has the same name twice")
        return self

    @model_validator(mode="after")
    def _month_has_a_price(self) -> Manifest:
        if self.pricing.per_month is not None and not Decimal(self.pricing.per_month):
            raise ValueError("pricing.per_month is a price above zero; leave it out to sell runs only")
        if self.pricing.runs_per_month is not None and self.pricing.per_month is None:
            raise ValueError("pricing.runs_per_month needs pricing.per_month")
        return self

    @classmethod
    def parse(cls, text: str) -> Manifest:
        """From TOML text. Raises `ManifestError` naming every wrong field."""
        try:
            return cls.model_validate(tomllib.loads(text))
        except tomllib.TOMLDecodeError as error:
            raise ManifestError([(MANIFEST_NAME, f"is not TOML: {error}")]) from error
        except ValidationError as error:
            problems = [(_path(fault["loc"]), fault["msg"]) for fault in error.errors()]
            raise ManifestError(problems) from error

    @classmethod
    def load(cls, folder: Path) -> Manifest:
        """From ``folder/agent.toml``."""
        path = folder / MANIFEST_NAME
        try:
            return cls.parse(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise ManifestError(
                [(MANIFEST_NAME, f"is missing in {folder.name}: every agent folder has one")]
            ) from error
        except UnicodeDecodeError as error:
            raise ManifestError([(MANIFEST_NAME, "is not UTF-8 text")]) from error

    def to_toml(self) -> str:
        """TOML text that `parse` reads back to an equal manifest; defaults are left out."""
        return _toml_table(self.model_dump(mode="json", exclude_defaults=True), ())

    @property
    def content_hash(self) -> str:
        """``sha256:<hex>`` over sorted compact JSON of all fields, the same for equal manifests."""
        body = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return "sha256:" + hashlib.sha256(body.encode()).hexdigest()


def manifest_schema() -> dict[str, object]:
    """JSON Schema of `agent.toml`, for editors and the publishing page."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Manifest.model_json_schema()}


def _path(location: tuple[int | str, ...]) -> str:
    return ".".join(str(part) for part in location) or MANIFEST_NAME


def _toml_table(table: dict[str, object], path: tuple[str, ...]) -> str:
    """Plain values first, then sub-tables, then lists of tables, as TOML wants it."""
    lines: list[str] = []
    later: list[str] = []
    for key, value in table.items():
        if value is None:
            continue
        name = _toml_key(key)
        if isinstance(value, dict) and path == ():
            later.append(f"\n[{name}]\n{_toml_table(value, (*path, name))}")
        else:
            lines.append(f"{name} = {_toml_value(value)}\n")
    return "".join(lines + later)


def _toml_value(value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case int() | float():
            return repr(value)
        case list() | tuple():
            return "[" + ", ".join(_toml_value(item) for item in value) + "]"
        case dict():
            inner = ", ".join(f"{_toml_key(k)} = {_toml_value(v)}" for k, v in value.items() if v is not None)
            return "{" + inner + "}"
        case _:
            return _toml_string(str(value))


def _toml_key(key: str) -> str:
    return key if key.replace("_", "").replace("-", "").isalnum() and key.isascii() else _toml_string(key)


def _toml_string(text: str) -> str:
    """JSON's short escapes are all valid in TOML, but not its surrogate pairs; DEL must be escaped too."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
