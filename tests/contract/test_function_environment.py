"""An execution environment and the real Lambda runtime in its process, without LocalStack."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from textwrap import dedent
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from infra.local.environments import ROOT, python_of
from infra.local.executor.src.localstack_lambda_process.code_folder import CodeFolder
from infra.local.executor.src.localstack_lambda_process.environment import (
    Environment,
    FunctionConfiguration,
    Outcome,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Make = Callable[..., Environment]

# What never takes this long unless something is wrong.
DEADLINE_SECONDS = 60
NUMBERS = count(1)
# Stands for LocalStack: three environments at once, until somebody ends it.
HOLDER = """
import json, sys, threading
from pathlib import Path
from infra.local.executor.src.localstack_lambda_process import code_folder, environment

folder, python = Path(sys.argv[1]), sys.argv[2]
code = code_folder.CodeFolder(folder, bytecode=folder / "bytecode", hot=False)
configuration = environment.FunctionConfiguration("1", "handler.handle", 128, 600, 600)
environments = [
    environment.Environment(
        configuration, python=python, code=code, variables={"PYTHONPATH": str(folder)}
    )
    for _ in sys.argv[3:]
]
for one, note in zip(environments, sys.argv[3:]):
    event = json.dumps({"note": note})
    call = {"invoke-id": "r", "invoked-function-arn": "a", "trace-id": "t", "payload": event}
    threading.Thread(target=one.invoke, args=[call]).start()
sys.stdin.read()
"""


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    made: list[Environment] = []

    def make_environment(
        source: str,
        *,
        timeout_seconds: float = DEADLINE_SECONDS,
        init_timeout_seconds: float = DEADLINE_SECONDS,
        python: Path | None = None,
    ) -> Environment:
        (tmp_path / "handler.py").write_text(dedent(source))
        environment = Environment(
            FunctionConfiguration(
                version="$LATEST",
                handler="handler.handle",
                memory_size_mb=128,
                timeout_seconds=timeout_seconds,
                init_timeout_seconds=init_timeout_seconds,
            ),
            python=str(python or python_of("functions")),
            code=CodeFolder(tmp_path, bytecode=tmp_path / "bytecode", hot=False),
            variables={"PYTHONPATH": str(tmp_path)},
        )
        made.append(environment)
        return environment

    yield make_environment
    for environment in made:
        environment.stop()


def call(environment: Environment, **event: Any) -> Outcome:
    return environment.invoke(
        {
            "invoke-id": f"request-{next(NUMBERS)}",
            "invoked-function-arn": "arn:aws:lambda:eu-central-1:000000000000:function:f",
            "trace-id": "Root=1-00000000-000000000000000000000000",
            "payload": json.dumps(event),
        }
    )


def wait_until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"not within {DEADLINE_SECONDS} s: {what}"
        time.sleep(0.01)


def error_of(outcome: Outcome) -> tuple[str, str]:
    error = json.loads(outcome.answer.body)
    return error["errorType"], error["errorMessage"]


def test_an_import_without_end_is_ended_and_told(make: Make) -> None:
    environment = make(
        """
        import threading

        print("loading")
        threading.Event().wait()
        """,
        init_timeout_seconds=1,
    )
    for _ in range(2):
        outcome = call(environment)
        error_type, message = error_of(outcome)

        assert error_type == "Sandbox.Timedout"
        assert message.endswith("Init timed out after 1.00 seconds")
        assert "loading\n" in outcome.log


def test_what_is_printed_at_import_stands_before_the_first_invocation_alone(make: Make) -> None:
    environment = make(
        """
        print("loading")

        def handle(event, context):
            print("working")
        """
    )

    assert call(environment).log.startswith("loading\nSTART RequestId: ")
    assert call(environment).log.startswith("START RequestId: ")


def test_only_the_first_invocation_of_a_process_reports_its_init(make: Make) -> None:
    environment = make("def handle(event, context): return 1")

    reports = [call(environment).log.splitlines()[-1] for _ in range(2)]

    assert ["Init Duration: " in report for report in reports] == [True, False]
    assert all("Max Memory Used: " in report for report in reports)


def test_what_a_crashed_process_left_running_is_ended(make: Make) -> None:
    environment = make(
        """
        import os, signal, subprocess, sys

        def handle(event, context):
            child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
            print("child", child.pid)
            os.kill(os.getpid(), signal.SIGSEGV)
        """
    )
    outcome = call(environment)
    child = next(line for line in outcome.log.splitlines() if line.startswith("child "))

    assert error_of(outcome)[0] == "Runtime.ExitError"
    assert error_of(outcome)[1].endswith("Runtime exited with error: signal: segmentation fault")
    wait_until(
        lambda: not psutil.pid_exists(int(child.removeprefix("child "))), "the child is gone"
    )


def test_an_invocation_fails_when_its_environment_is_stopped_and_so_do_later_ones(
    make: Make, tmp_path: Path
) -> None:
    environment = make(
        """
        import pathlib, threading

        def handle(event, context):
            pathlib.Path(event["note"]).touch()
            threading.Event().wait()
        """
    )
    note = tmp_path / "note"
    with ThreadPoolExecutor() as callers:
        under_way = callers.submit(call, environment, note=str(note))
        wait_until(note.exists, "the handler runs")
        environment.stop()
        outcomes = [under_way.result(timeout=DEADLINE_SECONDS), call(environment)]

    for outcome in outcomes:
        assert error_of(outcome)[1].endswith("Runtime exited with error: signal: killed")


def test_an_interpreter_that_is_gone_is_told(make: Make, tmp_path: Path) -> None:
    python = tmp_path / "python"
    outcome = call(make("", python=python))

    assert error_of(outcome)[1].endswith("Runtime exited with error: exit status 127")
    assert str(python) in outcome.log


def test_a_code_folder_that_is_gone_is_told(make: Make, tmp_path: Path) -> None:
    environment = make("")
    (tmp_path / "handler.py").unlink()
    tmp_path.rmdir()
    error_type, message = error_of(call(environment))

    assert error_type == "Runtime.InvalidEntrypoint"
    assert str(tmp_path) in message


def test_a_function_reads_an_empty_standard_input(make: Make) -> None:
    environment = make(
        """
        import sys

        def handle(event, context):
            return sys.stdin.read()
        """
    )

    assert call(environment).answer.body == b'""'


def test_functions_end_at_once_when_localstack_is_killed(tmp_path: Path) -> None:
    (tmp_path / "handler.py").write_text(
        dedent(
            """
            import os, pathlib, re, subprocess, sys, threading

            def handle(event, context):
                child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
                note = pathlib.Path(event["note"])
                note.with_suffix(".new").write_text(f"{os.getpid()} {child.pid}")
                note.with_suffix(".new").rename(note)
                if note.name == "wait":
                    threading.Event().wait()
                if note.name == "work":  # Takes ages and lets no other thread run.
                    re.match("(a+)+b", "a" * 100)
            """
        )
    )
    notes = [tmp_path / then for then in ("return", "wait", "work")]
    holder = subprocess.Popen(  # A program of ours.
        [sys.executable, "-c", HOLDER, str(tmp_path), str(python_of("functions")), *notes],
        cwd=ROOT,
        stdin=subprocess.PIPE,
    )
    with holder:
        wait_until(lambda: all(note.exists() for note in notes), "all functions run")
        pids = [int(pid) for note in notes for pid in note.read_text().split()]
        processes = [psutil.Process(pid) for pid in pids]
        holder.kill()

    _, alive = psutil.wait_procs(processes, timeout=DEADLINE_SECONDS)
    assert (len(processes), alive) == (6, [])
