"""`SavedPlans` over the templates of the workflow room."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from agentnexus.web.forms import Upload
from agentnexus.web.views.saved import SavedField, SavedPlan
from agentnexus.web.views.text import money
from agentnexus.workflows.service import Workflows
from agentnexus.workflows.templates.model import Template
from agentnexus.workflows.templates.service import Templates


class HouseSaved:
    """Only values that are text or numbers are shown; others stay as they were saved."""

    def __init__(self, templates: Templates, workflows: Workflows) -> None:
        self._templates = templates
        self._workflows = workflows

    async def all(self, user_id: str) -> Sequence[SavedPlan]:
        """Newest first."""
        return [_view(each) for each in await self._templates.list(user_id)]

    async def save(self, user_id: str, run_id: str, name: str) -> None:
        """Raises `NotFound`, `Conflict`, `InvalidInput`."""
        await self._templates.save(user_id, run_id, name)

    async def run(self, user_id: str, saved_id: str, values: Mapping[str, str], files: Sequence[Upload]) -> str:
        """The new workflow's id. Raises `NotFound`, `InvalidInput`."""
        template = await self._templates.get(saved_id, user_id)
        kinds = {each.name: each.default for each in template.parameters if isinstance(each.default, str | int | float)}
        inputs = {name: _like(kinds[name], text) for name, text in values.items() if name in kinds}
        kept = [
            await self._workflows.add_file(each.filename, each.data, each.media_type, user_id=user_id) for each in files
        ]
        return (await self._templates.run(saved_id, user_id, inputs, kept)).id

    async def delete(self, user_id: str, saved_id: str) -> None:
        """Raises `NotFound`."""
        await self._templates.delete(saved_id, user_id)


def _view(template: Template) -> SavedPlan:
    body = template.body
    fields = [
        SavedField(each.name, each.title, str(each.default))
        for each in template.parameters
        if isinstance(each.default, str | int | float) and not isinstance(each.default, bool)
    ]
    return SavedPlan(
        id=template.id, name=template.name, text=body.text, limit=money(body.max_cost), fields=fields,
        steps=[step.title or step.capability for step in body.plan.steps], files=[file.name for file in body.files],
    )  # fmt: skip


def _like(kept: object, text: str) -> object:
    """A typed text in the type that it was saved with, where it can be."""
    if isinstance(kept, int | float) and not isinstance(kept, bool):
        try:
            return type(kept)(text)
        except ValueError:
            return text
    return text
