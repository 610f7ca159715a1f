"""What one run may use: the manifest asks, the operator's maximum decides."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

from agentnexus.sdk.manifest import LimitsWanted

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """All sizes in bytes, all times in seconds. `cpu` is cores; `log_bytes` counts every kind of log together."""

    memory_bytes: int = 512 * MIB
    cpu: float = 0.5
    timeout_seconds: float = 300.0
    tmp_bytes: int = 100 * MIB
    processes: int = 128
    concurrency: int = 10
    open_files: int = 1024
    output_bytes: int = 32 * MIB
    log_bytes: int = 1 * MIB
    log_flood_bytes: int = 256 * MIB
    artifact_bytes: int = 50 * MIB
    artifacts: int = 20
    updates: int = 10_000

    @classmethod
    def wanted(cls, limits: LimitsWanted) -> Limits:
        """From a manifest."""
        return cls(
            memory_bytes=limits.memory_mib * MIB,
            cpu=limits.cpu,
            timeout_seconds=limits.timeout_seconds,
            tmp_bytes=limits.tmp_mib * MIB,
            processes=limits.processes,
            concurrency=limits.concurrency,
        )

    def within(self, maximum: Limits) -> Limits:
        """The smaller of the two, figure by figure."""
        smaller = {f.name: min(getattr(self, f.name), getattr(maximum, f.name)) for f in fields(self)}
        return replace(self, **smaller)


MAXIMUM = Limits(
    memory_bytes=8192 * MIB,
    cpu=4.0,
    timeout_seconds=1800.0,
    tmp_bytes=1024 * MIB,
    processes=1024,
    concurrency=1000,
)
