"""What happens to the stack meanwhile: parts are killed, messages doubled and dropped."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import BotoCoreError, ClientError

if TYPE_CHECKING:
    from random import Random

    from chain import Chain

PARTS: Final = ("postgres", "conductor", "localstack", "function", "workbench")
HANDLERS: Final = (
    "api.app.app",
    "poller.check.handler",
    "poller.tick.handler",
    "poller.relay.handler",
    "poller.hunt.handler",
)
DEAD_SECONDS: Final = (1, 8)
WORKBENCH_DEAD_SECONDS: Final = (5, 25)
UPS: Final = 3
MEDDLE_SECONDS: Final = (1, 4)
HIDDEN_SECONDS: Final = 10


@dataclass
class Killer:
    """Kills a part now and then, each as often as the others, and brings it back."""

    chain: Chain
    chance: Random
    killed: Counter[str] = field(default_factory=Counter)
    away_seconds: list[float] = field(default_factory=list)
    failed_ups: list[str] = field(default_factory=list)
    _next: list[str] = field(default_factory=list)

    def strike(self) -> str:
        """One blow, until all is back; returns what it was."""
        if not self._next:
            self._next = self.chance.sample(PARTS, len(PARTS))
        part = self._next.pop()
        began = time.monotonic()
        what = self._strike(part)
        away = time.monotonic() - began
        self.killed[part] += 1
        if part != "function":
            self.away_seconds.append(away)
            return f"{what}, back after {away:.0f} s"
        return what

    def _strike(self, part: str) -> str:
        if part == "function":
            handler = self.chance.choice(HANDLERS)
            return f"{self.chain.kill_functions(handler)} processes of {handler}"
        if part == "workbench":
            self.chain.workbench.stop()
            time.sleep(self.chance.uniform(*WORKBENCH_DEAD_SECONDS))
            self.chain.workbench.start()
            return part
        self.chain.kill(part)
        time.sleep(self.chance.uniform(*DEAD_SECONDS))
        self.mend()
        return part

    def mend(self) -> None:
        """Brings everything up; an `up` that fails is noted, and tried again."""
        for _ in range(UPS):
            try:
                self.chain.up()
            except AssertionError as error:
                self.failed_ups.append(f"`up` failed: {error}")
            else:
                return
        raise RuntimeError(self.failed_ups[-1])


@dataclass
class Meddler:
    """Doubles and drops messages of the queues until it is told to stop."""

    chain: Chain
    chance: Random
    doubled: int = 0
    dropped: int = 0
    _enough: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self) -> None:
        self._thread = threading.Thread(target=self._go_on, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._enough.set()
        if self._thread:
            self._thread.join()

    def _go_on(self) -> None:
        while not self._enough.wait(self.chance.uniform(*MEDDLE_SECONDS)):
            # The queues are away while LocalStack is, and new ones come back.
            with contextlib.suppress(BotoCoreError, ClientError, AssertionError):
                self._meddle(self.chain.client("sqs"))

    def _meddle(self, sqs: Any) -> None:
        stack = self.chain.stack
        queues = (stack.check_queue_url, stack.retry_queue_url, stack.tick_queue_url)
        url = self.chance.choice((stack.check_queue_url, *queues))
        answer = sqs.receive_message(
            QueueUrl=url, MaxNumberOfMessages=1, WaitTimeSeconds=2, VisibilityTimeout=HIDDEN_SECONDS
        )
        for message in answer.get("Messages", ()):
            doubles = self.chance.random() < 0.5
            for _ in range(2 if doubles else 0):
                sqs.send_message(QueueUrl=url, MessageBody=message["Body"])
            sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
            self.doubled += doubles
            self.dropped += not doubles
