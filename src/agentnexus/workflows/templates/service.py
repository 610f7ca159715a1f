"""`Templates`: keep a workflow's plan, run it again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from agentnexus.core.clock import SystemClock, TimeOrderedIds
from agentnexus.core.errors import Conflict, InvalidInput, NotFound
from agentnexus.core.money import Money
from agentnexus.core.ports import Clock, Ids
from agentnexus.platform.database import Database
from agentnexus.workflows.audit import Trail
from agentnexus.workflows.model import FileRef, Workflow
from agentnexus.workflows.service import Workflows
from agentnexus.workflows.templates.model import Template, TemplateBody, files_for, filled, kept

INSERT = """
insert into workflow.template (id, user_id, name, description, body, created_at, updated_at)
values ($1, $2, $3, $4, $5, $6, $6)
"""
GET = "select * from workflow.template where id = $1"
LIST = "select * from workflow.template where user_id = $1 order by created_at desc, id desc limit $2"
DELETE = "delete from workflow.template where id = $1"
RENAME = "update workflow.template set name = $2, description = $3, updated_at = $4 where id = $1"
PER_USER_MAX = 500


class Templates:
    """Templates of users. Somebody else's is `NotFound`; an operator passes None."""

    def __init__(
        self,
        database: Database,
        workflows: Workflows,
        trail: Trail,
        clock: Clock | None = None,
        ids: Ids | None = None,
    ) -> None:
        self._database = database
        self._workflows = workflows
        self._trail = trail
        self._clock = clock or SystemClock()
        self._ids = ids or TimeOrderedIds()

    async def save(self, user_id: str, workflow_id: str, name: str, description: str = "") -> Template:
        """Keep the plan of a workflow. Raises `NotFound`, `Conflict` while it has none, `InvalidInput`."""
        workflow = await self._workflows.get(workflow_id, user_id)
        request = await self._workflows.request(workflow_id, user_id)
        if workflow.plan is None:
            raise Conflict("this workflow has no plan to keep", next_step="wait until it is planned")
        body = TemplateBody(
            text=workflow.text, plan=kept(workflow.plan), files=workflow.files, max_cost=request.max_cost,
            max_seconds=request.max_seconds,
        )  # fmt: skip
        now = self._clock.now()
        template = Template(
            id=self._ids.new("tpl"), user_id=user_id, name=checked_name(name), description=description[:2000],
            body=body, created_at=now, updated_at=now,
        )  # fmt: skip
        if len(await self.list(user_id, PER_USER_MAX)) >= PER_USER_MAX:
            raise Conflict(f"there are {PER_USER_MAX} templates already", next_step="delete some you do not use")
        await self._trail.note(user_id, user_id, "template.save", template.id, workflow=workflow_id)
        async with self._database.connection() as connection:
            await connection.execute(
                INSERT, template.id, user_id, template.name, template.description, body.model_dump(mode="json"), now
            )
        return template

    async def get(self, template_id: str, user_id: str | None) -> Template:
        """Raises `NotFound`."""
        async with self._database.connection() as connection:
            row = await connection.fetchrow(GET, template_id)
        if row is None or user_id not in (None, row["user_id"]):
            raise NotFound(f"there is no template {template_id}", next_step="list your templates")
        return Template.model_validate(dict(row))

    async def list(self, user_id: str, limit: int = 100) -> Sequence[Template]:
        """A user's templates, newest first."""
        async with self._database.connection() as connection:
            return [Template.model_validate(dict(row)) for row in await connection.fetch(LIST, user_id, limit)]

    async def rename(self, template_id: str, user_id: str | None, name: str, description: str) -> Template:
        """Raises `NotFound`, `InvalidInput`."""
        found = await self.get(template_id, user_id)
        await self._trail.note(user_id or "operator", found.user_id, "template.rename", template_id, name=name[:200])
        async with self._database.connection() as connection:
            await connection.execute(RENAME, template_id, checked_name(name), description[:2000], self._clock.now())
        return await self.get(template_id, user_id)

    async def delete(self, template_id: str, user_id: str | None) -> None:
        """What was run from it stays. Raises `NotFound`."""
        found = await self.get(template_id, user_id)
        await self._trail.note(user_id or "operator", found.user_id, "template.delete", template_id)
        async with self._database.connection() as connection:
            await connection.execute(DELETE, template_id)

    async def run(
        self,
        template_id: str,
        user_id: str,
        inputs: Mapping[str, object] | None = None,
        files: Sequence[FileRef] = (),
        *,
        max_cost: Money | None = None,
        max_seconds: float | None = None,
        auto_approve: bool = False,
        grant: str = "",
        key: str = "",
    ) -> Workflow:
        """A workflow of the kept plan, planned with the sellers of today.

        Args:
            inputs: values by parameter name; what is left out stays as it was saved.
            files: one for each file of the template, or none for those it was saved with.
            grant: a signed approval to go ahead under, as for a task.

        Raises `NotFound`, `InvalidInput`, `Conflict`.
        """
        template = await self.get(template_id, user_id)
        body = template.body
        return await self._workflows.create(
            user_id, body.text, files_for(body, files), plan=filled(body.plan, inputs or {}),
            max_cost=max_cost or body.max_cost, max_seconds=max_seconds or body.max_seconds,
            auto_approve=auto_approve, grant=grant, key=key,
        )  # fmt: skip


def checked_name(name: str) -> str:
    """A name people can read. Raises `InvalidInput`."""
    text = " ".join(name.split())
    if not 1 <= len(text) <= 200:
        raise InvalidInput("a name has 1 to 200 characters", field="name", next_step="give it a short name")
    return text
