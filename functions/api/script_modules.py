"""A page's modules as one script: a browser gets them by one request in place of two dozen.

Each request for a file is a call of the function, and those that come at once start environments of
their own. The modules are what JavaScript calls so, and would run as they stand; what they are
written in is plain: imports by name from beside them, exports where something is declared.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

_IMPORT: Final = re.compile(
    r'^import (?:\{(?P<names>[^}]*)\}|\* as (?P<whole>\w+)) from "\./(?P<module>[\w.]+)";\n',
    re.MULTILINE,
)
_EXPORT: Final = re.compile(
    r"^export (?=(?:async )?(?:function|class|const) (?P<name>\w+))", re.MULTILINE
)
_LEFT_OVER: Final = re.compile(r"^(?:import|export)\b.*", re.MULTILINE)


class ScriptUnclear(Exception):
    """A module imports or exports in a way that isn't understood here."""


def one_script(folder: Path, start: str) -> str:
    """The module of this name and all that it needs, each once and after what it needs itself.

    Raises:
        ScriptUnclear: see there.
    """
    parts: dict[str, str] = {}
    _add(parts, folder, start)
    return "const modules = {};\n" + "".join(parts.values())


def _add(parts: dict[str, str], folder: Path, name: str) -> None:
    text = (folder / name).read_text(encoding="utf-8")
    for needed in _IMPORT.finditer(text):
        if needed["module"] not in parts:
            _add(parts, folder, needed["module"])
    parts[name] = _as_part(name, text)


def _as_part(name: str, text: str) -> str:
    """A module as a function's body: what it declares is its own, but for what it returns."""
    exported = ", ".join(found["name"] for found in _EXPORT.finditer(text))
    body = _EXPORT.sub("", _IMPORT.sub(_taken, text))
    if unclear := _LEFT_OVER.search(body):
        raise ScriptUnclear(f"{name}: {unclear[0]}")
    return f'modules["{name}"] = (() => {{\n{body}return {{ {exported} }};\n}})();\n'


def _taken(imported: re.Match[str]) -> str:
    whole, module = imported["whole"], imported["module"]
    names = whole or f"{{ {' '.join(imported['names'].split())} }}"
    return f'const {names} = modules["{module}"];\n'
