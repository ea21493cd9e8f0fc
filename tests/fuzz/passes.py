"""The passes of a fuzz, and what schemathesis has to be told for each."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

TESTS: Final = Path(__file__).parents[1]
SHAPE_CHECKS: Final = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
)
"""By the document, whoever asks."""
LONGEST_ANSWER_SECONDS: Final = 29
"""API Gateway waits no longer; a long poll takes up to 20."""
STARTS_WITHIN_SECONDS: Final = 120
"""Beyond its time for tests: loading the document, and the last example."""


@dataclass(frozen=True, kw_only=True)
class Knowledge:
    """What the hooks of a pass know.

    Attributes:
        expected_status: What everybody is to be answered; None: by the document alone.
        tokens_without: A token without this scope, by the scope; empty: the pass has one token.
        foreign_ids: By the name of a path's variable, ids of another tenant to ask for.
    """

    expected_status: int | None = None
    tokens_without: Mapping[str, str] = field(default_factory=dict)
    foreign_ids: Mapping[str, Sequence[int]] = field(default_factory=dict)

    @classmethod
    def read(cls, file: Path) -> Self:
        """As `Pass.run` left it."""
        return cls(**json.loads(file.read_text()))


@dataclass(frozen=True, kw_only=True)
class Pass:
    """One run of schemathesis.

    Attributes:
        name: Also of its folder.
        share: Of the whole fuzz's time.
        token: Shown with every call; empty: none.
        signed_in: Names and tokens of the tenants that must be strangers to each other, the one
            who calls first.
        operations: Names of those that are called; empty: all.
        options: More of schemathesis' own.
    """

    name: str
    share: float
    token: str = ""
    signed_in: Mapping[str, str] = field(default_factory=dict)
    operations: Sequence[str] = ()
    knowledge: Knowledge = field(default_factory=Knowledge)
    options: Sequence[str] = ()

    def run(self, folder: Path, *, url: str, seed: int, seconds: int) -> bool:
        """Runs it, with all that it says on the console; whether nothing was found.

        Args:
            folder: where its settings and its record are kept.
            url: the API's.
            seed: of all that is drawn.
            seconds: how long to go on.
        """
        folder.mkdir(parents=True)
        known, settings = folder / "pass.json", folder / "schemathesis.toml"
        known.write_text(json.dumps(asdict(self.knowledge)))
        settings.write_text(self._settings(folder))
        command = [
            str(Path(sys.executable).with_name("schemathesis")),
            *("--config-file", str(settings), "run", f"{url}/openapi.json"),
            *("--max-time", str(seconds), "--seed", str(seed), "--generation-database", "none"),
            *("--report", "ndjson", "--report-ndjson-path", str(folder / "calls.ndjson")),
            *("--output-sanitize", "false", "--request-timeout", "60", "--warnings", "off"),
            *("--max-response-time", str(LONGEST_ANSWER_SECONDS)),
            *self._checks(),
            *(part for name in self.operations for part in ("--include-operation-id", name)),
            *(("--header", f"Authorization: Bearer {self.token}") if self.token else ()),
            *self.options,
        ]
        done = subprocess.run(
            command,
            cwd=folder,
            env=os.environ
            | {
                "FUZZ_PASS": str(known),
                "PYTHONPATH": str(TESTS),
                "PYTHONHASHSEED": str(seed),
                "SCHEMATHESIS_HOOKS": "fuzz.hooks",
            },
            timeout=seconds + STARTS_WITHIN_SECONDS,
            check=False,
        )
        return done.returncode == 0

    def _checks(self) -> list[str]:
        if self.knowledge.expected_status is None:
            return ["--checks", "all", "--exclude-checks", "turned_away"]
        return ["--checks", ",".join([*SHAPE_CHECKS, "turned_away"])]

    def _settings(self, folder: Path) -> str:
        """The part that has no option."""
        if not self.signed_in:
            # What isn't declared the gateway answers, whoever asks.
            return "[phases.coverage]\nunexpected-methods = []\n"
        users = folder / "users.json"
        entries = [
            {
                "name": name,
                "fixedHeaders": [{"name": "Authorization", "value": f"Bearer {token}"}],
            }
            for name, token in self.signed_in.items()
        ]
        users.write_text(json.dumps({"auth": entries}))
        names = [*self.signed_in]
        return (
            f"[auth.wfc]\npath = {json.dumps(str(users))}\n"
            f"user = {json.dumps(names[0])}\npeers = {json.dumps(names)}\n"
        )
