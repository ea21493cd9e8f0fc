"""Failpoints: places at which a process that runs one of our functions dies, sleeps or raises.

    end = run_function(
        "poller.check.handler", event, environment, failpoints="after runs.move=exit"
    )
    assert end.died

**Places.** Nothing of this is in `functions/`: the places are the calls of the ports. Each passes
two, "before runs.move" and "after runs.move": at the second the call has had its effect, and only
its answer gets lost. The name is that of the port in `runs.wiring.Wiring` and of its method; the
two check queues are `check_queue` and `retry_queue`. What isn't a call of a port has no place: for
a reply that is lost on its way see `fault_proxy`.

**What happens there** is told by the variable FAILPOINTS, entries separated by semicolons:

    before conductor.start=exit; after runs.move#2=sleep 5; before check_queue.send=raise

| action | what it does |
|---|---|
| `exit` | ends the process at once, as a crash does: nothing is cleaned up |
| `sleep 5` | waits for so many seconds, and goes on |
| `raise` | raises `FailpointStruck`, which nobody expects |
| `raise ConductorUnclear` | raises this error of `runs.errors` |

Several actions at one place are done in turn. With `#2` it happens at the second passing only, else
at every one. A place, action or error that there isn't is a `FailpointsInvalid`.

**Processes.** `run_function` runs a handler as Lambda does, in a process of its own that ends with
the function's time; `begin_function` doesn't wait for it:

    with begin_function("api.app.app", api_event("POST", "/pipeline-run", body), environment,
                        failpoints="after conductor.start=sleep 60") as function:
        function.wait_until_struck("after conductor.start")
        end = function.kill()

A child is this module: `python -m failpoints poller.check.handler < event.json`, with `functions/`
and `tests/` on its path. It logs to standard error and prints the answer as JSON.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from functools import wraps
from importlib import import_module
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, Self

from runs import errors, ports
from runs.wiring import Wiring, using
from token_maker import token_of_tests
from wired import Invocation

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

TESTS: Final = Path(__file__).parent
DIED: Final = 70
"""The exit code of `exit`."""
OUT_OF_TIME: Final = 71
"""The exit code when the function's time is over."""
PATIENCE_SECONDS: Final = 60
LOOK_AGAIN_SECONDS: Final = 0.02
STRUCK: Final = "failpoint struck: "
CHILD: Final = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": "eu-west-2",
    "AWS_EC2_METADATA_DISABLED": "true",
    "PATH": os.defpath,
    "PYTHONPATH": os.pathsep.join([str(TESTS.parent / "functions"), str(TESTS)]),
    "PYTHONUNBUFFERED": "1",
}
"""Variables of a child, unless its environment has others."""

_ENTRY: Final = re.compile(
    r"(?P<place>(?:before|after) \w+\.\w+)(?:#(?P<number>[1-9]\d*))?"
    r"=(?P<action>\w+)(?: (?P<of>\S+))?"
)


class FailpointsInvalid(ValueError):
    """FAILPOINTS names what there isn't."""


class FailpointStruck(Exception):
    """An error that nobody expects."""


# -- places ---------------------------------------------------------------------------------------


def port_calls(port: type) -> list[str]:
    """The names of a port's calls."""
    return [name for name, value in vars(port).items() if callable(value) and name[0] != "_"]


def wired_ports() -> dict[str, type]:
    """What the wiring has of the ports, by the name it has there."""
    protocols = {
        name: port
        for name, port in vars(ports).items()
        if getattr(port, "_is_protocol", False) and port.__module__ == ports.__name__
    }
    found = {}
    for name, member in vars(Wiring).items():
        made_by = getattr(member, "func", member)  # A cached property's.
        told = str(getattr(made_by, "__annotations__", {}).get("return"))
        if told in protocols and port_calls(protocols[told]):
            found[name] = protocols[told]
    return found


PORTS: Final = wired_ports()
GIVEN_BY_ANOTHER: Final = "queue_of"
"""Gives what `check_queue` has made."""
PLACES: Final = frozenset(
    f"{when} {name}.{call}"
    for name, port in [*PORTS.items(), ("retry_queue", ports.CheckQueue)]
    if name != GIVEN_BY_ANOTHER
    for call in port_calls(port)
    for when in ("before", "after")
)


# -- what happens there ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Failpoint:
    """One entry of FAILPOINTS."""

    place: str
    number: int | None
    action: str
    of: str

    def __post_init__(self) -> None:
        """Checks it.

        Raises:
            FailpointsInvalid: There is no such place, action, error or time.
        """
        if self.place not in PLACES:
            raise FailpointsInvalid(f"no call of a port passes here: {self.place!r}")
        match self.action:
            case "exit" if not self.of:
                return
            case "sleep" if re.fullmatch(r"\d+(\.\d+)?", self.of):
                return
            case "raise":
                _error(self.of)
                return
        raise FailpointsInvalid(f"no such action: {f'{self.action} {self.of}'.strip()!r}")

    @property
    def text(self) -> str:
        """As it stands in FAILPOINTS."""
        number = f"#{self.number}" if self.number else ""
        return f"{self.place}{number}={f'{self.action} {self.of}'.strip()}"


class Failpoints:
    """All entries of FAILPOINTS, and how often each place was passed.

    Args:
        text: As FAILPOINTS holds it.
        leave: Ends the process.
        pause: Waits.
        tell: Is told of each one that strikes, before it does.

    Raises:
        FailpointsInvalid: The text names what there isn't.
    """

    def __init__(
        self,
        text: str,
        *,
        leave: Callable[[int], Any] = os._exit,
        pause: Callable[[float], Any] = time.sleep,
        tell: Callable[[str], Any] = lambda _: None,
    ) -> None:
        self.trail: list[str] = []
        self._failpoints = [_parsed(entry) for entry in text.split(";") if entry.strip()]
        self._leave = leave
        self._pause = pause
        self._tell = tell
        self._lock = threading.Lock()

    def reach(self, place: str) -> None:
        """Does what is to happen here."""
        with self._lock:
            self.trail.append(place)
            number = self.trail.count(place)
        for failpoint in self._failpoints:
            if failpoint.place == place and failpoint.number in {None, number}:
                self._tell(failpoint.text)
                self._strike(failpoint)

    def _strike(self, failpoint: Failpoint) -> None:
        match failpoint.action:
            case "exit":
                self._leave(DIED)
            case "sleep":
                self._pause(float(failpoint.of))
            case "raise":
                raise _error(failpoint.of)(f"FAILPOINTS says so {failpoint.place}")


def _parsed(entry: str) -> Failpoint:
    found = _ENTRY.fullmatch(" ".join(entry.split()))
    if not found:
        raise FailpointsInvalid(f"not 'before port.call=action', or with after, #n: {entry!r}")
    number = found["number"]
    return Failpoint(
        found["place"], int(number) if number else None, found["action"], found["of"] or ""
    )


def _error(name: str) -> type[Exception]:
    if not name:
        return FailpointStruck
    error = getattr(errors, name, None)
    if not (isinstance(error, type) and issubclass(error, errors.RunsError)):
        raise FailpointsInvalid(f"runs.errors has no {name!r}")
    if error.__init__ is not Exception.__init__:
        raise FailpointsInvalid(f"{name} isn't made of a text alone")
    return error


# -- the wiring -----------------------------------------------------------------------------------


class FailingPort:
    """A port whose calls pass their places; all else of it is as it was."""

    def __init__(self, name: str, calls: list[str], port: object, failpoints: Failpoints) -> None:
        self._name = name
        self._calls = calls
        self._port = port
        self._failpoints = failpoints

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._port, name)
        return self._passing(name, value) if name in self._calls else value

    def _passing(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(call)
        def passing(*args: Any, **kwargs: Any) -> Any:
            self._failpoints.reach(f"before {self._name}.{name}")
            result = call(*args, **kwargs)
            self._failpoints.reach(f"after {self._name}.{name}")
            return result

        return passing


class FailingWiring(Wiring):
    """A wiring with failpoints; before another one in a class's bases, it is that one with them.

    Whatever a wiring gives that is a port is found by its annotation, so that ports to come have
    their places too.
    """

    def __init__(self, failpoints: Failpoints, *args: Any, **kwargs: Any) -> None:
        """Takes, behind the failpoints, what the other wiring takes."""
        super().__init__(*args, **kwargs)
        self.failpoints = failpoints

    def __getattribute__(self, name: str) -> Any:
        value = super().__getattribute__(name)
        if name not in PORTS:
            return value
        if callable(value):  # Makes the port at an address.
            return lambda address: self._failing(self._called(name, address), value(address))
        return self._failing(name, value)

    def _failing(self, name: str, port: object) -> FailingPort:
        """It, once only."""
        if isinstance(port, FailingPort):
            return port
        kind = PORTS.get(name, ports.CheckQueue)
        return FailingPort(name, port_calls(kind), port, self.failpoints)

    def _called(self, name: str, address: str) -> str:
        environment = os.environ if self._environment is None else self._environment
        is_retry = name == "check_queue" and address == environment.get("RETRY_QUEUE_URL")
        return "retry_queue" if is_retry else name


# -- processes ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FunctionEnd:
    """What a process left.

    Attributes:
        answer: The handler's; None if it gave none.
        exit_code: 0, 1 if the handler raised, `DIED`, `OUT_OF_TIME`, or a signal below 0.
        log: What it wrote, Powertools' lines and its own last words.
    """

    answer: Any
    exit_code: int
    log: str

    @property
    def died(self) -> bool:
        """Whether a failpoint or a kill ended it."""
        return self.exit_code == DIED or self.exit_code < 0

    @property
    def struck(self) -> list[str]:
        """The entries of FAILPOINTS that struck, in turn."""
        return _struck(self.log)


class RunningFunction:
    """A process that was begun; leaving its block kills it, if it still runs."""

    def __init__(self, process: subprocess.Popen[bytes], answer: IO[bytes], log: IO[bytes]) -> None:
        self._process = process
        self._answer = answer
        self._log = log

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._answer.close()
        self._log.close()

    @property
    def log(self) -> str:
        """What it has written by now."""
        return _written(self._log)

    def wait_until_struck(self, place: str, *, within_seconds: float = PATIENCE_SECONDS) -> None:
        """Waits until a failpoint at this place has struck: "before runs.move", or with "#2".

        Raises:
            AssertionError: It didn't in time, or the process ended without it.
        """
        deadline = time.monotonic() + within_seconds
        while True:
            is_over = self._process.poll() is not None or time.monotonic() > deadline
            if any(entry.startswith(f"{place}=") for entry in _struck(self.log)):
                return
            if is_over:
                raise AssertionError(f"{place} was not reached:\n{self.log}")
            time.sleep(LOOK_AGAIN_SECONDS)

    def kill(self) -> FunctionEnd:
        """Ends it as `kill -9` does."""
        self._process.kill()
        return self.end()

    def end(self, *, within_seconds: float = PATIENCE_SECONDS) -> FunctionEnd:
        """Waits for its end.

        Raises:
            subprocess.TimeoutExpired: It goes on and on.
        """
        exit_code = self._process.wait(within_seconds)
        told = _written(self._answer)
        return FunctionEnd(json.loads(told) if told else None, exit_code, self.log)


def begin_function(
    handler: str,
    event: object,
    environment: Mapping[str, str],
    *,
    failpoints: str = "",
    seconds_left: float = 30,
) -> RunningFunction:
    """Starts a handler in a process of its own.

    Args:
        handler: As the template names it: `poller.check.handler`.
        event: What Lambda gives to it.
        environment: The function's variables; `CHILD` are there without them.
        failpoints: See the module's text.
        seconds_left: The function's time; when it is over the process ends.

    Raises:
        FailpointsInvalid: The failpoints name what there isn't.
    """
    Failpoints(failpoints)
    answer, log = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115 - it closes them
    with tempfile.TemporaryFile() as given:
        given.write(json.dumps(event).encode())
        given.seek(0)
        process = subprocess.Popen(
            [sys.executable, "-m", "failpoints", handler, str(seconds_left)],
            env={**CHILD, **environment, "FAILPOINTS": failpoints},
            stdin=given,
            stdout=answer,
            stderr=log,
        )
    return RunningFunction(process, answer, log)


def run_function(
    handler: str,
    event: object,
    environment: Mapping[str, str],
    *,
    failpoints: str = "",
    seconds_left: float = 30,
    within_seconds: float = PATIENCE_SECONDS,
) -> FunctionEnd:
    """Runs a handler in a process of its own to its end; the arguments are `begin_function`'s."""
    with begin_function(
        handler, event, environment, failpoints=failpoints, seconds_left=seconds_left
    ) as function:
        return function.end(within_seconds=within_seconds)


def api_event(
    method: str,
    resource: str,
    body: object = None,
    *,
    headers: Mapping[str, str] | None = None,
    **variables: object,
) -> dict[str, Any]:
    """What API Gateway gives to `api.app.app`.

    Args:
        method: Any.
        resource: As in the template: `/pipeline-run/{pipeline_run_id}`.
        body: Made JSON; None: there is none.
        headers: Added to a JSON request's.
        variables: Of the resource: `pipeline_run_id=42`.
    """
    named = {name: str(value) for name, value in variables.items()}
    path = resource.format(**named)
    sent = {
        "Content-Type": "application/json",
        "Authorization": f"Bearer {token_of_tests()}",
        **(headers or {}),
    }
    return {
        "resource": resource,
        "path": path,
        "httpMethod": method,
        "headers": sent,
        "multiValueHeaders": {name: [value] for name, value in sent.items()},
        "queryStringParameters": None,
        "multiValueQueryStringParameters": None,
        "pathParameters": named or None,
        "stageVariables": None,
        "requestContext": {
            "resourcePath": resource,
            "httpMethod": method,
            "path": f"/Prod{path}",
            "stage": "Prod",
            "requestId": "of API Gateway",
            "identity": {"sourceIp": "203.0.113.7"},
        },
        "body": None if body is None else json.dumps(body),
        "isBase64Encoded": False,
    }


def _written(file: IO[bytes]) -> str:
    """All of it, without moving the place at which the child writes on."""
    return os.pread(file.fileno(), os.fstat(file.fileno()).st_size, 0).decode()


def _struck(log: str) -> list[str]:
    return [line.removeprefix(STRUCK) for line in log.splitlines() if line.startswith(STRUCK)]


# -- in the child ---------------------------------------------------------------------------------


class Countdown(Invocation):
    """A call whose time runs."""

    def __init__(self, seconds_left: float) -> None:
        super().__init__(f"request of process {os.getpid()}")
        self._end = time.monotonic() + seconds_left

    def get_remaining_time_in_millis(self) -> int:  # type: ignore[override]  # theirs is static
        return max(0, round((self._end - time.monotonic()) * 1000))


def _tell(entry: str) -> None:
    os.write(2, f"{STRUCK}{entry}\n".encode())


def main() -> None:
    """Runs one handler on the event that stands at standard input."""
    with os.fdopen(os.dup(1), "w") as answers:
        os.dup2(2, 1)  # Whatever else is printed belongs to the log.
        handler_name, seconds_left = sys.argv[1], float(sys.argv[2])
        module, _, function = handler_name.rpartition(".")
        failpoints = Failpoints(os.environ.get("FAILPOINTS", ""), tell=_tell)
        handler = getattr(import_module(module), function)
        event = json.load(sys.stdin)
        timer = threading.Timer(seconds_left, os._exit, [OUT_OF_TIME])
        timer.daemon = True
        timer.start()
        with using(FailingWiring(failpoints)):
            answer = handler(event, Countdown(seconds_left))
        timer.cancel()
        json.dump(answer, answers)


if __name__ == "__main__":
    main()
