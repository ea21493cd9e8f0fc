"""What a local function's process is given: its variables, its code, its interpreter."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from infra.local.executor.src.localstack_lambda_process.code_folder import CodeFolder
from infra.local.executor.src.localstack_lambda_process.settings import Settings, UnusableSettings
from infra.local.executor.src.localstack_lambda_process.variables import function_variables

CODE = Path("/code")
BYTECODE = Path("/bytecode")
OF_THE_CODE = {
    "LAMBDA_TASK_ROOT": "/code",
    "PYTHONPATH": "/code",
    "PYTHONPYCACHEPREFIX": "/bytecode",
}


def variables(localstack: dict[str, str], function: dict[str, object]) -> dict[str, str]:
    return function_variables(
        localstack=localstack, function=function, code=CODE, bytecode=BYTECODE
    )


def test_of_localstacks_variables_a_function_sees_the_named_ones_only() -> None:
    localstack = {
        "PATH": "/bin",
        "HOME": "/home",
        "PIPELINE_RUNS_STACK": "s",
        "GATEWAY_LISTEN": "x",
        "PYTHONPATH": "/theirs",
        "AWS_PROFILE": "p",
    }

    assert variables(localstack, {}) == {
        "PATH": "/bin",
        "HOME": "/home",
        "PIPELINE_RUNS_STACK": "s",
        **OF_THE_CODE,
    }


def test_a_functions_own_variables_win_and_become_text() -> None:
    function = {"AWS_LAMBDA_FUNCTION_TIMEOUT": 30, "LANG": "C"}

    assert variables({"LANG": "de"}, function) == {
        "AWS_LAMBDA_FUNCTION_TIMEOUT": "30",
        "LANG": "C",
        **OF_THE_CODE,
    }


def test_the_code_comes_before_a_functions_own_search_path() -> None:
    expected = os.pathsep.join(["/code", "/own"])

    assert variables({}, {"PYTHONPATH": "/own"})["PYTHONPATH"] == expected


@pytest.fixture
def code(tmp_path: Path) -> CodeFolder:
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "handler.py").write_text("1")
    folder = CodeFolder(tmp_path, bytecode=BYTECODE, hot=True)
    folder.remember()
    return folder


def test_an_untouched_folder_was_not_edited(code: CodeFolder) -> None:
    assert not code.was_edited()


def test_a_changed_file_is_an_edit(code: CodeFolder) -> None:
    handler = code.path / "package" / "handler.py"
    status = handler.stat()
    handler.write_text("2")
    os.utime(handler, ns=(status.st_atime_ns, status.st_mtime_ns + 1))

    assert code.was_edited()


def test_a_new_file_is_an_edit(code: CodeFolder) -> None:
    (code.path / "package" / "texts.json").write_text("{}")

    assert code.was_edited()


def test_a_removed_file_is_an_edit(code: CodeFolder) -> None:
    (code.path / "package" / "handler.py").unlink()

    assert code.was_edited()


def test_hidden_files_and_compiled_code_are_no_edits(code: CodeFolder) -> None:
    (code.path / ".handler.py.swp").write_text("")
    (code.path / "__pycache__").mkdir()
    (code.path / "__pycache__" / "handler.cpython-311.pyc").write_text("")

    assert not code.was_edited()


def test_a_link_to_nowhere_does_no_harm(code: CodeFolder) -> None:
    (code.path / "gone.py").symlink_to(code.path / "nowhere.py")

    assert not code.was_edited()


def test_an_unpacked_archive_is_never_looked_at(tmp_path: Path) -> None:
    folder = CodeFolder(tmp_path, bytecode=BYTECODE, hot=False)
    folder.remember()
    (tmp_path / "handler.py").write_text("2")

    assert not folder.was_edited()


def test_compiled_code_is_forgotten_for_the_folder_alone(tmp_path: Path) -> None:
    bytecode = tmp_path / "bytecode"
    ours = bytecode / CODE.relative_to("/") / "handler.cpython-311.pyc"
    theirs = bytecode / "elsewhere" / "boto3.cpython-311.pyc"
    for compiled in (ours, theirs):
        compiled.parent.mkdir(parents=True)
        compiled.write_text("")

    CodeFolder(CODE, bytecode=bytecode, hot=True).forget_bytecode()

    assert (ours.exists(), theirs.exists()) == (False, True)


def test_the_interpreter_and_the_echo_are_settings() -> None:
    given = {"LAMBDA_PROCESS_PYTHON": sys.executable, "LAMBDA_PROCESS_ECHO": "1"}

    assert Settings.from_variables(given) == Settings(python=sys.executable, echo=True)


@pytest.mark.parametrize("given", [{}, {"LAMBDA_PROCESS_PYTHON": "/nowhere/python"}])
def test_an_interpreter_that_is_not_there_is_named(given: dict[str, str]) -> None:
    with pytest.raises(UnusableSettings, match="LAMBDA_PROCESS_PYTHON"):
        Settings.from_variables(given)
