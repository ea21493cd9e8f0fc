"""Tokens on the way to Conductor and to the Workbench: sent, renewed, and kept nowhere."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from typing import TYPE_CHECKING, Final
from uuid import uuid4

import httpx
import pytest

from infra.register import register
from real_parts import WORKBENCH_TOKEN, execute
from reference_workbench import start_workbench
from runs.adapters.conductor import HttpConductor
from runs.adapters.postgres import Database, PostgresRuns
from runs.adapters.secrets import Secret, token_of
from runs.adapters.workbench import HttpWorkbench
from runs.errors import (
    ConductorUnreachable,
    DatabaseUnavailable,
    SecretUnavailable,
    WorkbenchUnavailable,
)
from runs.parameters import FILLED_IN
from runs.ports import CallEnd, CancelEnd, JobStatus, NoAnswer, WorkflowExecution, WorkflowStatus
from scripted_workbench import Answer, ScriptedWorkbench, always, drop, late, redirect

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    import sqlalchemy as sa

    from real_parts import RealPart
    from scripted_workbench import Item

CALL: Final = timedelta(seconds=10)
DEADLINE_SECONDS: Final = 40
"""What never takes this long unless something is wrong."""
LOOK_AGAIN_SECONDS: Final = 0.05
STRANGER = Answer(401, {"error": "who is there?"})


@dataclass
class Vault:
    """Keeps one text, and a clock that only a test moves."""

    text: str = "first"
    readings: int = 0
    now: float = 0.0
    trouble: bool = False

    def read(self) -> str:
        self.readings += 1
        if self.trouble:
            raise SecretUnavailable("A secret can't be read")
        return token_of(self.text)

    def secret(self) -> Secret:
        return Secret(self.read, clock=lambda: self.now, wall_clock=lambda: self.now)

    def change(self, text: str) -> None:
        """Long enough after the last reading for another."""
        self.text = text
        self.now += 60


@pytest.fixture
def vault() -> Vault:
    return Vault()


# -- to the Workbench ------------------------------------------------------------------------------


@pytest.fixture
def scripted() -> Iterator[ScriptedWorkbench]:
    with ScriptedWorkbench(life=["RUNNING"]) as scripted:
        yield scripted


@pytest.fixture
def workbench(scripted: ScriptedWorkbench, vault: Vault) -> Iterator[HttpWorkbench]:
    with closing(HttpWorkbench(scripted.url, token=vault.secret())) as workbench:
        yield workbench


def submitted(scripted: ScriptedWorkbench, count: int) -> list[str]:
    """Jobs that are there."""
    for run_id in range(1, count + 1):
        body = {"pipeline_run_id": run_id, "input_path_prefix": "i", "output_path_prefix": "o"}
        key = {"Idempotency-Key": f"key-{run_id}"}
        httpx.post(f"{scripted.url}/batch/submit", json=body, headers=key).raise_for_status()
    return [job.id for job in scripted.jobs]


def shown(scripted: ScriptedWorkbench, *kinds: str) -> list[str | None]:
    """What the calls of these kinds brought along."""
    return [call.header("Authorization") for call in scripted.calls if call.kind in kinds]


def test_s11_every_call_of_the_workbench_brings_the_token(
    scripted: ScriptedWorkbench, workbench: HttpWorkbench, vault: Vault
) -> None:
    one, *more = submitted(scripted, 3)
    workbench.ask([one], within=CALL)
    workbench.ask(more, within=CALL)
    workbench.cancel([one], within=CALL)
    workbench.jobs_of("key-1", within=CALL)
    kinds = ("status", "bulk_status", "capabilities", "cancel", "find")
    assert {call.kind for call in scripted.calls} == {"submit", *kinds}
    assert set(shown(scripted, *kinds)) == {"Bearer first"}
    assert vault.readings == 1


def test_s11_without_a_token_none_is_sent(scripted: ScriptedWorkbench) -> None:
    [job] = submitted(scripted, 1)
    with closing(HttpWorkbench(scripted.url)) as workbench:
        workbench.ask([job], within=CALL)
        workbench.jobs_of("key-1", within=CALL)
    assert set(shown(scripted, "status", "find", "capabilities")) == {None}


def test_s15_a_workbench_that_has_another_token_by_now_is_asked_again_with_that(
    scripted: ScriptedWorkbench, workbench: HttpWorkbench, vault: Vault
) -> None:
    [job] = submitted(scripted, 1)
    workbench.ask([job], within=CALL)
    vault.change("second")
    scripted.script(status=[STRANGER], find=[STRANGER], cancel=[STRANGER])

    assert isinstance(workbench.ask([job], within=CALL)[job], JobStatus)
    assert shown(scripted, "status") == ["Bearer first", "Bearer first", "Bearer second"]
    assert workbench.cancel([job], within=CALL)[job].end is CancelEnd.UNCLEAR
    assert vault.readings == 2


def test_s15_the_sync_calls_renew_it_too(
    scripted: ScriptedWorkbench, workbench: HttpWorkbench, vault: Vault
) -> None:
    [job] = submitted(scripted, 1)
    assert workbench.jobs_of("key-1", within=CALL) == [job]
    vault.change("second")
    scripted.script(find=[STRANGER])
    assert workbench.jobs_of("key-1", within=CALL) == [job]
    assert shown(scripted, "find") == ["Bearer first", "Bearer first", "Bearer second"]


def test_s15_many_that_are_refused_at_once_have_it_read_once(
    scripted: ScriptedWorkbench, workbench: HttpWorkbench, vault: Vault
) -> None:
    scripted.bulk_status = False
    jobs = submitted(scripted, 40)
    workbench.ask(jobs[:1], within=CALL)
    vault.change("second")
    for run_id in range(1, 41):
        scripted.script(run=run_id, status=[STRANGER])
    answers = workbench.ask(jobs, within=CALL)
    assert all(isinstance(answers[job], JobStatus) for job in jobs)
    assert vault.readings == 2


def test_s15_who_is_refused_with_the_token_that_there_is_asks_once(
    scripted: ScriptedWorkbench, workbench: HttpWorkbench, vault: Vault
) -> None:
    [job] = submitted(scripted, 1)
    scripted.script(status=[always(STRANGER)])
    answer = workbench.ask([job], within=CALL)[job]
    assert isinstance(answer, NoAnswer)
    assert "The Workbench answered 401" in answer.reason
    assert vault.text not in answer.reason
    assert shown(scripted, "status") == ["Bearer first"]


def test_what_a_workbench_offers_is_not_known_while_it_lets_nobody_in(
    scripted: ScriptedWorkbench, workbench: HttpWorkbench
) -> None:
    jobs = submitted(scripted, 2)
    scripted.script(capabilities=[STRANGER])
    workbench.ask(jobs, within=CALL)
    workbench.ask(jobs, within=CALL)
    assert [call.kind for call in scripted.calls].count("bulk_status") == 1


def test_without_its_token_the_workbench_is_not_asked(
    scripted: ScriptedWorkbench, workbench: HttpWorkbench, vault: Vault
) -> None:
    [job] = submitted(scripted, 1)
    vault.trouble = True
    answer = workbench.ask([job], within=CALL)[job]
    assert isinstance(answer, NoAnswer)
    assert answer.reason == "The Workbench's token can't be had: A secret can't be read"
    with pytest.raises(WorkbenchUnavailable, match="token can't be had"):
        workbench.jobs_of("key-1", within=CALL)
    assert shown(scripted, "status", "find", "capabilities") == []


def test_s10_s11_a_token_does_not_follow_a_redirect(
    scripted: ScriptedWorkbench, workbench: HttpWorkbench
) -> None:
    [job] = submitted(scripted, 1)
    with ScriptedWorkbench() as elsewhere:
        scripted.script(status=[always(redirect(f"{elsewhere.url}/batch/status/{job}"))])
        assert isinstance(workbench.ask([job], within=CALL)[job], NoAnswer)
        assert not elsewhere.calls


# -- to Conductor ----------------------------------------------------------------------------------


@dataclass
class Gate:
    """A Conductor behind a gate that asks for a token."""

    wanted: str
    url: str = ""
    shown: list[str | None] = field(default_factory=list)


@contextmanager
def gate_to_conductor(wanted: str) -> Iterator[Gate]:
    gate = Gate(wanted)

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            gate.shown.append(self.headers["Authorization"])
            let_in = gate.shown[-1] == f"Bearer {gate.wanted}"
            self.send_response(200 if let_in else 401)
            body = b"0b3e4f5a-workflow" if let_in else b"who is there?"
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_PUT = answer  # noqa: N815  # http.server's names

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        gate.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield gate
        server.shutdown()
    thread.join(DEADLINE_SECONDS)


@pytest.fixture
def gate() -> Iterator[Gate]:
    with gate_to_conductor("first") as gate:
        yield gate


@pytest.fixture
def conductor(gate: Gate, vault: Vault) -> Iterator[HttpConductor]:
    with closing(HttpConductor(gate.url, token=vault.secret())) as conductor:
        yield conductor


def start(conductor: HttpConductor, *, within: timedelta = CALL) -> str:
    return conductor.start(
        workflow_name="w",
        workflow_version=None,
        correlation_id="x-1",
        workflow_input={},
        timeout=within,
    )


def test_s11_a_call_of_conductor_brings_the_token(gate: Gate, conductor: HttpConductor) -> None:
    assert start(conductor) == "0b3e4f5a-workflow"
    assert gate.shown == ["Bearer first"]


def test_s15_a_conductor_that_has_another_token_by_now_is_asked_again_with_that(
    gate: Gate, conductor: HttpConductor, vault: Vault
) -> None:
    start(conductor)
    vault.change("second")
    gate.wanted = "second"
    assert start(conductor) == "0b3e4f5a-workflow"
    assert gate.shown == ["Bearer first", "Bearer first", "Bearer second"]


def test_s15_a_conductor_that_refuses_the_token_that_there_is_was_asked_once(
    gate: Gate, conductor: HttpConductor
) -> None:
    gate.wanted = "another"
    unlet = "Conductor answered 401: who is there"
    with pytest.raises(ConductorUnreachable, match=unlet) as refusal:
        start(conductor)
    assert "first" not in str(refusal.value)
    assert gate.shown == ["Bearer first"]


def test_without_its_token_conductor_is_not_asked(
    gate: Gate, conductor: HttpConductor, vault: Vault
) -> None:
    vault.trouble = True
    with pytest.raises(ConductorUnreachable, match="Conductor's token can't be had"):
        start(conductor)
    assert gate.shown == []


@pytest.mark.parametrize("quick", [[], ["old"]], ids=["at first", "once more"])
def test_p12_a_token_that_comes_too_late_starts_nothing(gate: Gate, quick: list[str]) -> None:
    """Whoever called may be gone, and so may the lease under which a start is safe."""
    short = timedelta(seconds=0.5)
    unread, never = list(quick), threading.Event()

    def read() -> str:
        if unread:
            return unread.pop()
        never.wait(2 * short.total_seconds())
        return "first"

    minutes = count(step=60)  # Each look at the clock is a minute later than the last.
    token = Secret(read, clock=lambda: next(minutes), wall_clock=lambda: 0)
    with (
        closing(HttpConductor(gate.url, token=token)) as conductor,
        pytest.raises(ConductorUnreachable, match="no time was left"),
    ):
        start(conductor, within=short)
    assert gate.shown == [f"Bearer {text}" for text in quick]


def test_s11_workflows_are_registered_with_the_token(gate: Gate) -> None:
    assert len(register(gate.url, token="first")) == 2  # noqa: S106  # the gate's
    assert gate.shown == ["Bearer first"] * 2


# -- from Conductor to the Workbench ---------------------------------------------------------------


def run_workflow(
    url: str, name: str, workbench_url: str, parameters: Mapping[str, object] | None = None
) -> WorkflowExecution:
    """Its end."""
    key = f"{uuid4()}-1"
    given = {
        "pipeline_run_id": 1,
        "input_path_prefix": "in",
        "output_path_prefix": "out",
        "report_path_prefix": None,
        "parameters": parameters,
        "workbench_api_url": workbench_url,
        "idempotency_key": key,
    }
    with closing(HttpConductor(url)) as conductor:
        workflow_id = conductor.start(
            workflow_name=name,
            workflow_version=None,
            correlation_id=key,
            workflow_input=given,
            timeout=CALL,
        )
        end = time.monotonic() + DEADLINE_SECONDS
        while True:
            execution = conductor.execution(workflow_id, timeout=CALL)
            if execution.status is not WorkflowStatus.RUNNING:
                return execution
            assert time.monotonic() < end, "the workflow runs on"
            time.sleep(LOOK_AGAIN_SECONDS)  # between two looks


@pytest.mark.parametrize(
    ("name", "kind", "answer"),
    [
        ("batch_pipeline_workflow", "submit", Answer()),
        ("batch_pipeline_workflow", "submit", STRANGER),
        ("batch_pipeline_workflow", "submit", Answer(500, "no")),
        ("batch_pipeline_workflow", "submit", drop()),
        ("batch_pipeline_workflow", "submit", late(9)),
        ("realtime_pipeline_workflow", "realtime", Answer()),
        ("realtime_pipeline_workflow", "realtime", STRANGER),
    ],
)
def test_s11_s16_conductor_has_the_workbenchs_token_and_when_the_call_is_over_no_row_of_its_does(
    conductor_part: RealPart, name: str, kind: str, answer: Item
) -> None:
    with ScriptedWorkbench() as workbench:
        if kind == "submit":
            workbench.script(submit=[answer])
        else:
            workbench.script(realtime=[answer])
        execution = run_workflow(conductor_part.url, name, workbench.url)
        [call] = workbench.calls_of(kind)
    assert call.header("Authorization") == f"Bearer {WORKBENCH_TOKEN}"
    shown = httpx.get(f"{conductor_part.url}/api/workflow/{execution.workflow_id}").text
    assert WORKBENCH_TOKEN not in shown
    told = stored(conductor_part)
    assert WORKBENCH_TOKEN not in told
    assert execution.workflow_id in told, "what is looked through is the store"


def stored(conductor: RealPart) -> str:
    """All rows of its database, and its log."""
    [path] = conductor.layout.state.rglob("conductor.db")
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as database:
        return "\n".join(database.iterdump()) + conductor.layout.log("conductor").read_text()


def test_s8_s11_only_by_a_text_that_the_api_refuses_is_a_secret_put_in(
    conductor_part: RealPart,
) -> None:
    name = "workflow.secrets.WORKBENCH_AUTHORIZATION"
    refused = f"${{{name}}}"
    assert FILLED_IN in refused
    others = [
        *(f"${{ {name}}}", f"$ {{{name}}}", f"#{{{name}}}", f"${{{name.upper()}}}"),
        *(f"${{$.{name}}}", f"${{workflow .secrets.{name}}}", "${workflow.secrets}"),
        *("${workflow['secrets']['WORKBENCH_AUTHORIZATION']}", "$" + "\\u007b" + name + "}"),
    ]
    assert not any(FILLED_IN in text for text in others)
    with ScriptedWorkbench() as workbench:
        for parameters in ({"texts": others}, {"text": refused}):
            url = conductor_part.url
            run_workflow(url, "batch_pipeline_workflow", workbench.url, parameters)
        as_they_are, with_secret = workbench.calls_of("submit")
    assert as_they_are.body["parameters"] == {"texts": others}
    assert with_secret.body["parameters"] == {"text": f"Bearer {WORKBENCH_TOKEN}"}


def test_s11_conductor_tells_nobody_what_its_secrets_are(conductor_part: RealPart) -> None:
    names = httpx.get(f"{conductor_part.url}/api/secrets")
    assert names.json() == ["WORKBENCH_AUTHORIZATION"]
    one = httpx.get(f"{conductor_part.url}/api/secrets/WORKBENCH_AUTHORIZATION")
    assert WORKBENCH_TOKEN not in one.text


def test_s11_a_conductor_without_the_token_leaves_the_header_out(conductor_part: RealPart) -> None:
    url = conductor_part.url
    text = httpx.get(f"{url}/api/metadata/workflow/batch_pipeline_workflow").text
    assert "${workflow.secrets.WORKBENCH_AUTHORIZATION}" in text
    other = json.loads(text.replace("WORKBENCH_AUTHORIZATION", "NOT_THERE"))
    other["name"] = "without_token"
    httpx.put(f"{url}/api/metadata/workflow", json=[other]).raise_for_status()
    with ScriptedWorkbench() as workbench:
        assert run_workflow(url, "without_token", workbench.url).output["workbench_job_id"]
        assert shown(workbench, "submit") == [None]


# -- the reference Workbench -----------------------------------------------------------------------


def test_s11_the_reference_workbench_lets_in_who_has_the_token(
    tmp_path: Path, vault: Vault, conductor_part: RealPart
) -> None:
    variables = {"WORKBENCH_TOKEN": WORKBENCH_TOKEN, "STORAGE_BUCKET": "user-data"}
    with start_workbench(tmp_path, None, **variables) as reference:
        assert httpx.get(f"{reference.url}/health").status_code == 200
        call = partial(httpx.get, f"{reference.url}/batch/capabilities")
        for wrong in ("", "Bearer", "Bearer x", f"Basic {WORKBENCH_TOKEN}"):
            refused = call(headers={"Authorization": wrong})
            assert (refused.status_code, refused.headers["WWW-Authenticate"]) == (401, "Bearer")
        assert call().status_code == 401
        assert httpx.post(f"{reference.url}/batch/submit", content=b"{").status_code == 401

        execution = run_workflow(conductor_part.url, "batch_pipeline_workflow", reference.url)
        job = execution.output["workbench_job_id"]
        assert isinstance(job, str)
        vault.text = WORKBENCH_TOKEN
        with closing(HttpWorkbench(reference.url, token=vault.secret())) as workbench:
            assert isinstance(workbench.ask([job], within=CALL)[job], JobStatus)
        with closing(HttpWorkbench(reference.url)) as workbench:
            assert isinstance(workbench.ask([job], within=CALL)[job], NoAnswer)


def test_s11_a_submission_without_the_token_ends_at_once(
    tmp_path: Path, conductor_part: RealPart
) -> None:
    with start_workbench(tmp_path, WORKBENCH_TOKEN="another") as reference:  # noqa: S106  # its own
        execution = run_workflow(conductor_part.url, "batch_pipeline_workflow", reference.url)
    assert execution.call_end is CallEnd.CLIENT_ERROR
    assert execution.reason.startswith("The Workbench answered 401")


# -- the database ----------------------------------------------------------------------------------


def test_s15_f33_a_password_that_was_changed_is_read_anew(own_database_url: sa.URL) -> None:
    def address(password: str) -> str:
        url = own_database_url.set(username="rotated", password=password)
        return url.render_as_string(hide_password=False)

    def set_password(password: str) -> None:
        execute(own_database_url, f"ALTER ROLE rotated PASSWORD '{password}'")

    execute(own_database_url, "CREATE ROLE rotated LOGIN PASSWORD 'first' IN ROLE poller")
    vault = Vault()
    secret = Secret(
        lambda: address(vault.read()), clock=lambda: vault.now, wall_clock=lambda: vault.now
    )
    database = Database(secret.text, renew=secret.renew, application_name="tests")
    runs = PostgresRuns(database)
    try:
        runs.ping()
        set_password("second")
        runs.ping()  # By the connection that there is.
        database.close()
        vault.change("second")
        runs.ping()
        assert vault.readings == 2

        set_password("third")
        database.close()
        with pytest.raises(DatabaseUnavailable, match="password authentication failed") as told:
            runs.ping()  # It was read a moment ago.
        assert "second" not in str(told.value)
        vault.change("third")
        runs.ping()
        assert vault.readings == 3
    finally:
        database.close()
        execute(own_database_url, "DROP ROLE rotated")
