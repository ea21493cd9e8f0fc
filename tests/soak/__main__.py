"""`make soak`: see the package's text."""

from __future__ import annotations

import argparse
import random
import secrets
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa
from rich.console import Console

from chain import Chain
from infra.verify.display import show
from infra.verify.report import Demand
from local_stack import api_of, fresh_local_stack
from scripted_workbench import Answer, ScriptedWorkbench, html
from soak.chaos import Killer, Meddler
from soak.customers import LONG_STORIES, STORIES, WEIGHTS, Customer, Ledger
from soak.figures import MEGABYTE, Figures

if TYPE_CHECKING:
    from collections.abc import Sequence
    from concurrent.futures import Future

    from infra.verify.report import Report
    from scripted_workbench import Item

CUSTOMERS_AT_ONCE: Final = 100
ORDERS_WITHIN: Final = 0.85
"""Of the time; what is ordered then still lives through some of it."""
LONG_STORIES_WITHIN: Final = 0.3
LONG_STORIES_FROM_MINUTES: Final = 20
STRIKES_WITHIN_SECONDS: Final = 15
"""Of each minute's beginning."""
SETTLES_WITHIN_SECONDS: Final = 1500
"""The longest deadline of a run that is in trouble, and some more."""
SETTLE_LOOK_SECONDS: Final = 20
BULK_TROUBLES: Final[tuple[Item, ...]] = (Answer(503), html(), Answer(429))
REPORT_WIDTH: Final = 100


def main() -> int:
    """Soaks a stack of its own.

    Returns:
        The exit code: 0 if nothing is broken and nothing has grown.
    """
    arguments = _arguments()
    say(f"seed {arguments.seed}: {arguments.minutes} minutes, {arguments.runs} runs")
    with ScriptedWorkbench(life=["RUNNING"]) as workbench, fresh_local_stack("soak") as local:
        stack = local.up(WORKBENCH_API_URL=workbench.url)
        database = sa.create_engine(stack.database_url, poolclass=sa.NullPool)
        with api_of(stack) as api:
            chain = Chain(workbench, api, database, local)
            soak = Soak(chain, arguments.seed, arguments.minutes, arguments.runs)
            complaints = soak.run()
        database.dispose()
    for complaint in complaints:
        say(f"BROKEN: {complaint}")
    say("broken" if complaints else "nothing is broken, and nothing has grown")
    return 1 if complaints else 0


@dataclass
class Soak:
    """One soak."""

    chain: Chain
    seed: int
    minutes: int
    runs: int
    ledger: Ledger = field(default_factory=Ledger)
    complaints: list[str] = field(default_factory=list)
    judged: Counter[int] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.figures = Figures(self.chain)
        self.killer = Killer(self.chain, self._chance("killer"))
        self.meddler = Meddler(self.chain, self._chance("meddler"))

    def run(self) -> list[str]:
        """All of it; returns what is to be complained of."""
        began = time.monotonic()
        self.chain.workbench.bulk_status = False
        pipelines = {mode: self.chain.pipeline(mode) for mode in ("BATCH", "REALTIME")}
        with ThreadPoolExecutor(CUSTOMERS_AT_ONCE) as pool:
            self.meddler.start()
            try:
                customers = [
                    pool.submit(self._live_later, customer, began + at)
                    for at, customer in self._customers(pipelines)
                ]
                for minute in range(1, self.minutes + 1):
                    self._minute(minute, began + 60 * minute)
            finally:
                self.meddler.stop()
            self.killer.mend()
            report = self._settle(customers)
        self._judge_ends(report)
        self.complaints += [*self.ledger.troubles, *self.killer.failed_ups]
        self.complaints += self.figures.grown
        self._tell(report, time.monotonic() - began)
        return self.complaints

    def _customers(self, pipelines: dict[str, int]) -> list[tuple[float, Customer]]:
        """Each with the second at which it comes, the first one first."""
        chance = self._chance("orders")
        seconds = 60 * self.minutes
        short = [name for name in STORIES if name not in LONG_STORIES]
        is_long_enough = self.minutes >= LONG_STORIES_FROM_MINUTES
        found = []
        for number, at in enumerate(
            sorted(chance.uniform(0, ORDERS_WITHIN * seconds) for _ in range(self.runs))
        ):
            early = is_long_enough and at < LONG_STORIES_WITHIN * seconds
            names = [*STORIES] if early else short
            [story] = chance.choices(names, [WEIGHTS.get(name, 1) for name in names])
            customer = Customer(
                chain=self.chain,
                chance=self._chance(f"customer {number}"),
                number=number,
                pipelines=pipelines,
                ledger=self.ledger,
                story=story,
            )
            found.append((at, customer))
        return found

    @staticmethod
    def _live_later(customer: Customer, at: float) -> None:
        time.sleep(max(0.0, at - time.monotonic()))
        customer.live()

    def _minute(self, minute: int, until: float) -> None:
        """A blow, and whatever is left of the minute; then a look."""
        if minute == self.minutes // 2 + 1:
            self.chain.workbench.bulk_status = True  # Functions that start from now on see it.
        chance = self._chance(f"minute {minute}")
        time.sleep(chance.uniform(0, STRIKES_WITHIN_SECONDS))
        troubles = chance.choices(BULK_TROUBLES, k=chance.randrange(4))
        self.chain.workbench.script(bulk_status=troubles, find=troubles[:1])
        struck = self.killer.strike()
        time.sleep(max(0.0, until - time.monotonic()))
        say(f"{minute:3d} min: killed {struck}")
        say(f"         {self.figures.take().line()}")
        self._note(self.chain.verified())

    def _settle(self, customers: Sequence[Future[None]]) -> Report:
        """Waits until all has come to its end, with every part well; judges time as well."""
        well_since = datetime.now(UTC)
        until = time.monotonic() + SETTLES_WITHIN_SECONDS
        while True:
            sample = self.figures.take()
            say(f"settling: {sample.line()}")
            report = self.chain.verified(well_since=well_since)
            self._note(report)
            over = all(customer.done() for customer in customers)
            if over and not sample.active and not sample.unpublished:
                return self.chain.verified(Demand.USUAL, well_since=well_since)
            if time.monotonic() > until:
                self.complaints.append(f"{sample.active} runs have not ended.")
                return report
            time.sleep(SETTLE_LOOK_SECONDS)

    def _note(self, report: Report) -> None:
        """A complaint is told once, when it is seen first."""
        for complaint in report.broken:
            if complaint not in self.complaints:
                say(f"BROKEN: {complaint}")
                self.complaints.append(complaint)
        for number, count in report.judged.items():
            if count:
                self.judged[number] = max(self.judged[number], count)

    def _judge_ends(self, report: Report) -> None:
        """Every run is one that was ordered, and ended as its story tells."""
        self._note(report)
        ordered, there = self.ledger.expected, report.facts.runs
        for run_id in ordered.keys() ^ there.keys():
            where = "is in no answer" if run_id in there else "is not in the database"
            self.complaints.append(f"Run {run_id} {where}.")
        for run_id in ordered.keys() & there.keys():
            run, expected = there[run_id], ordered[run_id]
            if run.status == "FAILED" and run.started_at is None:
                continue  # It was never submitted; the checker judges why.
            fits = run.status in expected.ends
            if run.mode == "BATCH" and run.status == "FAILED":
                fits = fits and run.error_code == expected.error_code
            if not fits:
                self.complaints.append(
                    f"Run {run_id} ({expected.story}) ended as {run.status} {run.error_code or ''}."
                )

    def _tell(self, report: Report, seconds: float) -> None:
        """The figures of all."""
        show(report, Console(width=REPORT_WIDTH))
        samples, facts = self.figures.samples, report.facts
        calls = Counter(call.kind for call in self.chain.workbench.calls)
        ends = Counter(run.status for run in facts.runs.values())
        failures = Counter(run.error_code for run in facts.runs.values() if run.error_code)
        jobs = Counter(len(facts.jobs_by_run.get(run_id, ())) for run_id in facts.runs)
        away = self.killer.away_seconds or [0.0]
        say(f"seed {self.seed}, {seconds / 60:.1f} minutes, {len(facts.runs)} runs")
        say(f"stories: {_told(self.ledger.stories)}")
        say(f"ends: {_told(ends)}; failures: {_told(failures)}")
        say(f"runs by how many jobs they got: {_told(jobs)}")
        say(f"stray checks: {len(facts.strays)}")
        say(f"killed: {_told(self.killer.killed)}; away {min(away):.0f} to {max(away):.0f} s")
        say(f"messages: {self.meddler.doubled} doubled, {self.meddler.dropped} dropped")
        say(f"customers asked {self.ledger.asked_again} times more, with the same key")
        say(f"calls of the Workbench: {_told(calls)}")
        say(f"events: {len(facts.events)}; unpublished at most {_most(samples, 'unpublished')}")
        say(
            f"database connections: {min(one.connections for one in samples)} to "
            f"{_most(samples, 'connections')}, at the end {samples[-1].connections}; "
            f"function processes: at most {_most(samples, 'functions')}, "
            f"at the end {samples[-1].functions}"
        )
        growth = self.figures.growth_bytes
        told = ", ".join(f"{name} {size / MEGABYTE:+.1f}" for name, size in sorted(growth.items()))
        oldest = max((sizes.seconds for sizes in self.figures.sizes.values()), default=0)
        say(f"growth of a function process, at most, in MB: {told}; oldest {oldest / 60:.0f} min")
        for part in ("postgres", "conductor", "localstack"):
            sizes = [one.part_bytes[part] / MEGABYTE for one in samples if part in one.part_bytes]
            say(f"{part}: {min(sizes):.0f} to {max(sizes):.0f} MB, at the end {sizes[-1]:.0f}")
        judged = ", ".join(f"P{number} {count}" for number, count in sorted(self.judged.items()))
        say(f"judged at once, at most: {judged}")

    def _chance(self, whose: str) -> random.Random:
        return random.Random(f"{self.seed} {whose}")  # noqa: S311 - chaos, no secret


def _told(counts: Counter[str] | Counter[str | None] | Counter[int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.most_common())


def _most(samples: Sequence[object], name: str) -> int:
    return max(int(getattr(one, name)) for one in samples)


def say(text: str) -> None:
    """A line, with the time."""
    print(f"{datetime.now(UTC):%H:%M:%S} {text}", flush=True)  # noqa: T201 - a program for the console


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m soak", description=__doc__)
    parser.add_argument("--minutes", type=int, default=30)
    parser.add_argument("--runs", type=int, default=300)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10_000))
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
