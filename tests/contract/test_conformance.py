"""`make conformance`: what it says of a right Workbench, and of each way to be a wrong one."""

from __future__ import annotations

import json
import os
import re
import runpy
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
import uvicorn
import yaml

from infra.conformance.course import RULES, put_on_trial
from infra.conformance.display import settings_for
from infra.conformance.rules import Level, Verdict
from infra.conformance.target import Target, TargetTrouble
from infra.conformance.trial import MEANINGS, NOBODYS_JOB, Patience, Prefixes, Run
from infra.local.environments import ROOT
from reference_workbench import (
    BUCKET,
    KEY_ID,
    SECRET,
    serve_user_storage,
    start_workbench,
)
from scripted_workbench import (
    Answer,
    ScriptedWorkbench,
    always,
    drop,
    html,
    huge,
    late,
    redirect,
    retry_after,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from infra.conformance.rules import Finding
    from reference_workbench import RunningWorkbench, UserStorage

GUIDE = ROOT / "docs" / "bring-your-own-workbench.md"
PREFIXES = Prefixes(input="given", output="conformance/output", report="conformance/report")
TOKEN = "let-me-in"  # noqa: S105 - opens nothing
MUSTS = {rule.name for rule in RULES if rule.level is Level.MUST}
FIRST_JOB = "job-1-1"
"""The scripted Workbench's name for it."""


def tried(url: str, *, token: str = "", job: float = 60, answer: float = 8) -> list[Finding]:
    patience = Patience(job=job, answer=answer)
    target = Target(url=url, prefixes=PREFIXES, token=token, patience=patience)
    return put_on_trial(target, lambda _: None)


def with_verdict(findings: list[Finding], verdict: Verdict, level: Level) -> set[str]:
    return {
        finding.rule.name
        for finding in findings
        if finding.verdict is verdict and finding.rule.level is level
    }


def broken(findings: list[Finding], level: Level = Level.MUST) -> set[str]:
    return with_verdict(findings, Verdict.BROKEN, level)


def kept(findings: list[Finding], level: Level = Level.MUST) -> set[str]:
    return with_verdict(findings, Verdict.KEPT, level)


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[UserStorage]:
    with serve_user_storage(tmp_path_factory.mktemp("conformance")) as served:
        served.put("given/a.csv", b"x\n1\n2\n")
        yield served


@pytest.fixture(scope="module")
def reference(
    storage: UserStorage, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningWorkbench]:
    folder = tmp_path_factory.mktemp("workbench")
    with start_workbench(folder, storage, WORKBENCH_TOKEN=TOKEN) as running:
        yield running


def test_the_reference_workbench_keeps_everything(reference: RunningWorkbench) -> None:
    """But a link to logs: it writes none that a person could open."""
    findings = tried(reference.url, token=TOKEN)
    assert kept(findings) == MUSTS
    assert broken(findings, Level.SHOULD) == {"logs-are-linked"}
    assert with_verdict(findings, Verdict.NOT_SEEN, Level.SHOULD) == {"busy-answers-say-when"}


@contextmanager
def served(application: Any) -> Iterator[str]:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(application, log_level="error", ws="none"))
        thread = threading.Thread(target=server.run, args=([listening],))
        listening.listen()
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


def test_the_guides_workbench_keeps_what_runs_depend_on(tmp_path: Path) -> None:
    code = re.search(r"```python\n(# workbench\.py\n.*?)```", GUIDE.read_text(), re.DOTALL)
    assert code
    (tmp_path / "workbench.py").write_text(code[1])
    application = runpy.run_path(str(tmp_path / "workbench.py"))["app"]
    with served(application) as url:
        findings = tried(url)
        target = Target(url=url, prefixes=PREFIXES)
    assert kept(findings) == MUSTS - {"tokens-are-checked"}
    assert broken(findings) == set()
    assert settings_for(findings, target) == {
        "WORKBENCH_API_URL": url,
        "WORKBENCH_HONOURS_KEYS": "true",
    }


def pondering(call: Any) -> Any:
    return {"workbench_job_id": call.job_id, "status": "PONDERING"}


def about_another(call: Any) -> Any:
    return {"workbench_job_id": f"{call.job_id}-2", "status": "RUNNING"}


def offering_bulk_status(workbench: ScriptedWorkbench) -> None:
    workbench.bulk_status = False
    offered = {"bulk_status": True, "client_reference": True}
    workbench.script(capabilities=[always(Answer(200, offered))])


def told(status: int, body: Any = None, **more: Any) -> list[Any]:
    return [always(Answer(status, body if body is not None else {"error": "No."}, **more))]


BREAKS: dict[str, Callable[[ScriptedWorkbench], None]] = {
    "submit-names-a-job": lambda it: it.script(run=Run.FIRST, submit=told(202, {"status": "OK"})),
    "job-ids-fit": lambda it: it.script(
        run=Run.FIRST, submit=told(202, {"workbench_job_id": "a/b", "status": "QUEUED"})
    ),
    "status-tells-the-job": lambda it: it.script(
        run=Run.FIRST, status=[Answer(200, about_another)]
    ),
    "statuses-are-known": lambda it: it.script(run=Run.FIRST, status=[Answer(200, pondering)]),
    "statuses-go-forward": lambda it: it.script(
        run=Run.FIRST, status=["RUNNING", "QUEUED", "COMPLETED"]
    ),
    "a-job-completes": lambda it: it.script(run=Run.FIRST, status=["FAILED"]),
    "ended-jobs-stay": lambda it: it.script(run=Run.FIRST, status=["COMPLETED", "FAILED"]),
    "unknown-jobs-are-404": lambda it: it.script(
        job=NOBODYS_JOB,
        status=told(200, {"workbench_job_id": NOBODYS_JOB, "status": "QUEUED"}),
    ),
    "conductors-bodies-are-read": lambda it: it.script(
        run=Run.AS_CONDUCTOR_SENDS, submit=told(411)
    ),
    "optional-fields-may-vary": lambda it: it.script(run=Run.FULL, submit=told(422)),
    "other-keys-make-other-jobs": lambda it: it.script(
        run=Run.BARE, submit=told(200, {"workbench_job_id": FIRST_JOB, "status": "QUEUED"})
    ),
    "wrong-bodies-are-refused": lambda it: it.script(run=Run.WRONG, submit=told(500)),
    "capabilities-are-true": offering_bulk_status,
    "answers-come-in-time": lambda it: it.script(capabilities=[drop()]),
    "answers-are-small": lambda it: it.script(run=Run.FIRST, status=[huge(300 * 1024)]),
    "answers-are-json": lambda it: it.script(run=Run.FIRST, status=[html()]),
    "answers-do-not-redirect": lambda it: it.script(run=Run.TO_CANCEL, submit=[redirect("/")]),
}


@pytest.mark.parametrize("rule", BREAKS)
def test_each_way_to_break_the_contract_is_caught_by_name_and_no_other_blamed(rule: str) -> None:
    with ScriptedWorkbench() as workbench:
        BREAKS[rule](workbench)
        assert broken(tried(workbench.url)) == {rule}


def test_every_rule_that_runs_depend_on_has_been_broken_once() -> None:
    assert {*BREAKS, "tokens-are-checked"} == MUSTS


def test_a_workbench_that_lets_in_everybody_is_caught() -> None:
    with ScriptedWorkbench() as workbench:
        assert broken(tried(workbench.url, token=TOKEN)) == {"tokens-are-checked"}


def test_an_answer_past_the_limit_is_late_and_its_content_counts_all_the_same() -> None:
    with ScriptedWorkbench() as workbench:
        workbench.script(run=Run.FIRST, status=[late(1.3)])
        assert broken(tried(workbench.url, answer=1)) == {"answers-come-in-time"}


def test_a_job_that_never_ends_is_caught() -> None:
    with ScriptedWorkbench(life=["RUNNING"]) as workbench:
        assert broken(tried(workbench.url, job=0.2)) == {"a-job-completes"}


def test_what_is_packed_is_caught() -> None:
    with ScriptedWorkbench() as workbench:
        packed = Answer(headers={"Content-Encoding": "gzip"})
        workbench.script(run=Run.FIRST, status=[packed])
        assert broken(tried(workbench.url)) == {"answers-are-json"}


def test_a_workbench_that_can_only_submit_and_tell_keeps_the_contract() -> None:
    """What it lacks is told as what it lacks."""
    with ScriptedWorkbench() as workbench:
        workbench.honours_keys = workbench.capabilities = False
        workbench.script(
            cancel=told(404), realtime=told(404), submit=[], status=[], bulk_status=told(404)
        )
        findings = tried(workbench.url)
        target = Target(url=workbench.url, prefixes=PREFIXES)
    assert broken(findings) == set()
    assert broken(findings, Level.SHOULD) == {
        "keys-are-honoured",
        "jobs-are-found-by-key",
        "many-jobs-in-one-call",
        "jobs-can-be-cancelled",
        "failures-say-why",
        "progress-is-told",
        "logs-are-linked",
        "realtime-runs-are-answered",
    }
    assert settings_for(findings, target)["WORKBENCH_HONOURS_KEYS"] == "false"


def test_a_busy_answer_without_a_time_is_told() -> None:
    with ScriptedWorkbench() as workbench:
        workbench.script(run=Run.TO_FAIL, submit=[Answer(503, {"error": "Later."})])
        assert "busy-answers-say-when" in broken(tried(workbench.url), Level.SHOULD)
        workbench.script(run=Run.TO_FAIL, submit=[retry_after("3", 503)])
        assert "busy-answers-say-when" in kept(tried(workbench.url), Level.SHOULD)


def test_a_client_reference_that_finds_nothing_is_caught() -> None:
    with ScriptedWorkbench() as workbench:
        workbench.script(find=told(200, {"jobs": []}))
        assert broken(tried(workbench.url)) == {"capabilities-are-true"}


def test_who_is_busy_for_a_moment_keeps_the_contract() -> None:
    with ScriptedWorkbench() as workbench:
        workbench.script(run=Run.FIRST, status=[retry_after("0", 503), retry_after("soon", 429)])
        assert broken(tried(workbench.url)) == set()


def test_only_jobs_of_its_own_are_cancelled_and_they_all_end() -> None:
    with ScriptedWorkbench(life=["RUNNING"]) as workbench:
        tried(workbench.url, job=0.1)
        asked = {call.job_id for call in workbench.calls_of("cancel")} - {NOBODYS_JOB}
        assert asked == {job.id for job in workbench.jobs}
        assert all(job.has_ended for job in workbench.jobs)


def test_the_words_are_those_of_the_contract() -> None:
    contract = yaml.safe_load((ROOT / "infra" / "workbench" / "openapi.yaml").read_text())
    assert set(MEANINGS) == set(contract["components"]["schemas"]["Status"]["enum"])


def test_who_wants_a_token_is_not_judged_without_one() -> None:
    with ScriptedWorkbench() as workbench:
        workbench.script(status=told(401))
        with pytest.raises(TargetTrouble, match="give its token, WORKBENCH_TOKEN"):
            tried(workbench.url)
        assert workbench.jobs == []


def conformance(folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PIPELINE_RUNS_LOCAL": str(folder), "COLUMNS": "100"} | variables
    return subprocess.run(
        [sys.executable, "-m", "infra.conformance"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_verb_asks_the_stack_that_is_up_and_gives_it_something_to_work_on(
    tmp_path: Path, reference: RunningWorkbench, storage: UserStorage
) -> None:
    stack = {
        "workbench_url": reference.url,
        "storage_endpoint_url": storage.endpoint_url,
        "storage_bucket": BUCKET,
        "storage_access_key_id": KEY_ID,
        "storage_secret_access_key": SECRET,
        "aws_region": "us-east-1",
    }
    (tmp_path / "stack.json").write_text(json.dumps(stack))
    ended = conformance(tmp_path, WORKBENCH_API_URL="", WORKBENCH_TOKEN=TOKEN)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "It keeps the contract, as far as was seen." in ended.stdout
    assert storage.get("conformance/output/first/people.csv.parquet")


def test_the_verb_ends_with_1_and_says_what_comes_of_it(tmp_path: Path) -> None:
    with ScriptedWorkbench() as workbench:
        BREAKS["unknown-jobs-are-404"](workbench)
        ended = conformance(tmp_path, WORKBENCH_API_URL=workbench.url)
    assert ended.returncode == 1, ended.stderr
    assert "It breaks the contract: unknown-jobs-are-404." in ended.stdout
    assert "A job that is lost is never noticed" in ended.stdout
    assert "WORKBENCH_HONOURS_KEYS=true" in ended.stdout


def test_the_verb_ends_with_2_where_nobody_answers(tmp_path: Path) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        ended = conformance(tmp_path, WORKBENCH_API_URL=url)
    assert ended.returncode == 2
    assert f"{url} can't be reached" in ended.stderr


def test_the_verb_ends_with_2_and_says_what_to_give_where_no_stack_is_up(tmp_path: Path) -> None:
    ended = conformance(tmp_path, WORKBENCH_API_URL="")
    assert ended.returncode == 2
    assert "make conformance WORKBENCH_API_URL=" in ended.stderr
