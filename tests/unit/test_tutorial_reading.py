"""What the tutorial's test is worth: it reads every block, and sees what isn't kept."""

from __future__ import annotations

import pytest

from tutorial import TUTORIAL, Step, broken_promises, outputs_of, script_of, steps_in

DOCUMENT = """
Say two things:

```sh
echo one
echo two
```

```text
one
t…
```

```sh
echo three
```
"""


def test_commands_are_taken_with_what_is_promised_of_them() -> None:
    assert steps_in(DOCUMENT) == [
        Step("echo one\necho two\n", ("one", "t…")),
        Step("echo three\n"),
    ]


@pytest.mark.parametrize("kind", ["", "bash", "text"])
def test_no_block_goes_unnoticed(kind: str) -> None:
    with pytest.raises(ValueError, match="follows no commands"):
        steps_in(f"```{kind}\necho\n```\n")


def test_each_step_has_an_output_of_its_own() -> None:
    script = script_of(steps_in(DOCUMENT))
    assert script.startswith("echo one\necho two\necho '-- the end of step 0 --'\necho three\n")
    output = "one\ntwo\n-- the end of step 0 --\nthree\n-- the end of step 1 --\n"
    assert list(outputs_of(output, 2)) == ["one\ntwo\n", "\nthree\n"]


@pytest.mark.parametrize(
    ("promised", "broken"),
    [
        (("Run 1", "Saved 2 objects…"), []),
        (("Saved 2 objects, …KiB, below x", "took … s"), []),
        (("Saved 2 objects…", "Run 1"), ["Run 1"]),
        (("Run 2", "took 28 s"), ["Run 2"]),
        (("Run 1", "Run 1"), ["Run 1"]),
    ],
)
def test_a_promise_is_kept_by_a_line_in_its_place(
    promised: tuple[str, ...], broken: list[str]
) -> None:
    output = "Run 1\nSaved 2 objects, 3.0 KiB, below x\n  took        28 s   \n"
    assert broken_promises(promised, output) == broken


def test_the_tutorial_goes_from_up_to_down_and_promises_something_of_most_steps() -> None:
    steps = steps_in(TUTORIAL.read_text())
    assert (steps[0].commands, steps[-1].commands) == ("make up\n", "make down\n")
    assert sum(not step.promised for step in steps) <= 2
