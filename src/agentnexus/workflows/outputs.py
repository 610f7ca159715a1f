"""What steps gave, as the journal holds it: small outputs whole, large ones as the blob they are kept in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from agentnexus.core.canonical import Json, canonical_json
from agentnexus.core.ports import Blobs
from agentnexus.workflows.engine.port import Engine


@dataclass(frozen=True, slots=True)
class StepOutput:
    """The value, or of a large one the `blob` that holds it as JSON."""

    value: Json
    blob: str = ""

    async def whole(self, blobs: Blobs) -> bytes:
        """As JSON, however large."""
        return await blobs.get(self.blob) if self.blob else canonical_json(self.value)


async def outputs_of(engine: Engine, run_id: str, steps: Sequence[str]) -> dict[str, StepOutput]:
    """By step that gave something. A skipped one did not.

    It is recorded under the step, or under the refund that found it done while its plan was given up.
    """
    keys = {key: step_id for step_id in steps for key in (f"refund-{step_id}", f"step:{step_id}")}
    recorded = await engine.outputs(run_id, list(keys))
    found: dict[str, StepOutput] = {}
    for key, step_id in keys.items():
        output = recorded.get(key)
        if isinstance(output, Mapping) and not output.keys().isdisjoint(("output", "blob")):
            found[step_id] = StepOutput(output.get("output"), str(output.get("blob") or ""))
    return {step_id: found[step_id] for step_id in steps if step_id in found}
