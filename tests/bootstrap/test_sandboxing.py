"""What the operator allows agents and gives them: limits that no manifest passes, secrets that nobody else sees."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest
from structlog.testing import capture_logs

from agentnexus.bootstrap.authoring import make_agent, try_examples
from agentnexus.bootstrap.ground import Chain, Ground
from agentnexus.bootstrap.sandboxing import AgentSecrets, allowed_by, open_runtime
from agentnexus.core.errors import InvalidInput, NexusError, Unavailable
from agentnexus.platform.settings import Settings
from agentnexus.runtime.bundle import read_bundle
from agentnexus.runtime.egress import EgressRecord
from agentnexus.runtime.limits import MAXIMUM, MIB, Limits
from agentnexus.runtime.local.sandbox import LocalSandbox
from agentnexus.runtime.port import RunRequest
from agentnexus.runtime.unsafe import UnsafeLocal
from agentnexus.sdk.manifest import LimitsWanted
from tests.bootstrap.support import selling_from

NAME = "org.example.mine"
CODE = """
from pydantic import BaseModel

from agentnexus.sdk import Context, agent


class Request(BaseModel):
    text: str


class Answer(BaseModel):
    length: int
    other: str


@agent
def run(request: Request, context: Context) -> Answer:
    key = context.secret("API_KEY")
    context.log("the key is " + key)
    try:
        other = context.secret("OTHER")
    except Exception:
        other = ""
    return Answer(length=len(key), other=other)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An agent that needs a secret."""
    made = tmp_path / "agents" / "mine"
    make_agent(made)
    (made / "agent.py").write_text(CODE)
    manifest = made / "agent.toml"
    manifest.write_text(
        manifest.read_text().replace('entry = "agent:run"', 'entry = "agent:run"\nsecrets = ["API_KEY"]')
    )
    return made


@pytest.fixture
def secrets_file(tmp_path: Path) -> Path:
    path = tmp_path / "secrets.toml"
    path.write_text(f'["{NAME}"]\nAPI_KEY = "s3cret-word"\nOTHER = "not asked for"\n["org.example.other"]\nX = "y"\n')
    path.chmod(0o600)
    return path


async def test_isolation_is_given_up_only_when_asked_for() -> None:
    async with open_runtime(Settings(), unsafe_local=False) as runtime:
        assert isinstance(runtime, LocalSandbox)
    async with open_runtime(Settings(), unsafe_local=True) as runtime:
        assert isinstance(runtime, UnsafeLocal)


def test_a_manifest_gets_no_more_than_the_operator_allows() -> None:
    settings = Settings(agent_memory_mib=600, agent_cpu=0.7, agent_timeout_seconds=60)
    greedy = Limits.wanted(LimitsWanted(memory_mib=8192, cpu=4, timeout_seconds=1800, tmp_mib=1024, processes=1024))
    allowed = greedy.within(allowed_by(settings))
    assert (allowed.memory_bytes, allowed.cpu, allowed.timeout_seconds) == (600 * MIB, 0.7, 60)
    assert (allowed.tmp_bytes, allowed.processes) == (100 * MIB, 128)
    modest = Limits.wanted(LimitsWanted(memory_mib=64, cpu=0.1, timeout_seconds=5))
    assert modest.within(allowed_by(settings)).memory_bytes == 64 * MIB


def test_the_operator_cannot_allow_more_than_the_sandbox_s_maximum() -> None:
    most = Settings(
        agent_memory_mib=8192, agent_cpu=4, agent_timeout_seconds=1800, agent_tmp_mib=1024, agent_processes=1024,
        agent_concurrency=1000,
    )  # fmt: skip
    assert allowed_by(most) == MAXIMUM
    with pytest.raises(ValueError, match="agent_memory_mib"):
        Settings(agent_memory_mib=8193)


def test_the_built_in_agents_ask_for_nothing_that_the_default_does_not_allow() -> None:
    for path in Path("agents").glob("*/agent.toml"):
        wanted = Limits.wanted(read_bundle(path.parent).manifest.limits)
        assert wanted == wanted.within(allowed_by(Settings())), path


async def test_a_run_that_asks_for_more_is_stopped_at_the_operator_s_limit(tmp_path: Path) -> None:
    made = tmp_path / "mine"
    make_agent(made)
    code = made / "agent.py"
    code.write_text(code.read_text().replace("    context.", "    bytearray(400 * 1024 * 1024)\n    context.", 1))
    manifest = made / "agent.toml"
    manifest.write_text(manifest.read_text() + "\n[limits]\nmemory_mib = 4096\n")
    async with open_runtime(Settings(agent_memory_mib=256), unsafe_local=False) as runtime:
        bundle = await runtime.prepare(made)
        with pytest.raises(NexusError, match="memory"):
            async for _ in runtime.run(bundle, RunRequest("exe_1", {"text": "hello world"})):
                pass


def test_connections_of_agents_are_in_the_log() -> None:
    from agentnexus.bootstrap import sandboxing

    with capture_logs() as lines:
        sandboxing._note_egress("exe_1", EgressRecord("api.example.org", 443, "denied", "not in the manifest"))
    (line,) = lines
    assert (line["event"], line["execution"], line["host"]) == ("runtime.egress", "exe_1", "api.example.org")
    assert (line["verdict"], line["reason"]) == ("denied", "not in the manifest")


def test_an_agent_gets_the_secrets_it_declares_and_no_others(folder: Path, secrets_file: Path) -> None:
    manifest = read_bundle(folder).manifest
    assert AgentSecrets(secrets_file).of(manifest) == {"API_KEY": "s3cret-word"}
    bare = manifest.model_copy(update={"secrets": ()})
    assert AgentSecrets(secrets_file).of(bare) == {}
    assert AgentSecrets(None).of(bare) == {}


def test_a_missing_secret_says_where_to_put_it(folder: Path, secrets_file: Path) -> None:
    manifest = read_bundle(folder).manifest.model_copy(update={"secrets": ("API_KEY", "MORE")})
    with pytest.raises(Unavailable, match="needs the secret MORE") as refused:
        AgentSecrets(secrets_file).of(manifest)
    assert str(secrets_file) in (refused.value.next_step or "")
    with pytest.raises(Unavailable) as refused:
        AgentSecrets(None).of(manifest)
    assert "NEXUS_AGENT_SECRETS_FILE" in (refused.value.next_step or "")


@pytest.mark.parametrize("text", ["no = toml = at all", 'top = "level"', '["org.x"]\nNUMBER = 5\n'])
def test_a_file_that_is_none_of_secrets_is_refused_without_quoting_it(tmp_path: Path, text: str) -> None:
    path = tmp_path / "secrets.toml"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(InvalidInput) as refused:
        AgentSecrets(path)
    assert text not in refused.value.message


def test_a_file_that_others_may_read_or_that_is_not_there_is_refused(secrets_file: Path) -> None:
    secrets_file.chmod(0o640)
    with pytest.raises(InvalidInput, match="others on this machine may read") as refused:
        AgentSecrets(secrets_file)
    assert "chmod 600" in (refused.value.next_step or "")
    with pytest.raises(InvalidInput, match="no TOML file"):
        AgentSecrets(secrets_file.with_name("absent"))


async def test_an_author_s_trial_has_the_secrets_too(
    folder: Path, secrets_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Unavailable, match="needs the secret API_KEY"):
        await try_examples(folder, unsafe_local=True)
    monkeypatch.setenv("NEXUS_AGENT_SECRETS_FILE", str(secrets_file))
    (trial,) = await try_examples(folder, unsafe_local=True)
    assert trial.good, trial.note


async def test_an_agent_without_its_secret_is_not_on_sale_and_with_it_a_run_has_it_and_nobody_else(
    ground: Ground, connected: Chain, folder: Path, secrets_file: Path
) -> None:
    with capture_logs() as logs:
        async with selling_from(ground, connected, agents_dir=folder.parent) as selling:
            assert selling.listed == ()
    assert any("needs the secret API_KEY" in str(line.get("reason")) for line in logs)
    async with selling_from(ground, connected, agents_dir=folder.parent, agent_secrets_file=secrets_file) as selling:
        execution = await selling.executions.run(NAME, {"text": "x"}, "key-1")
        output = cast("dict[str, object]", execution.output)
        assert output == {"length": len("s3cret-word"), "other": ""}
        told = [event.data for event in await selling.executions.logs(execution.id)]
    assert "s3cret-word" not in repr(told)
    assert any("the key is" in str(data) for data in told)
