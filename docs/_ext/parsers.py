"""Commands, options and their help, read off the parsers of `ncharness` and `pytest claims`. Needs no Sphinx."""

import argparse
import importlib.util
from pathlib import Path
from typing import Any, NamedTuple

from ncharness.cli.main import build_parser

CLAIMS = Path(__file__).parents[2] / "claims" / "conftest.py"


class Option(NamedTuple):
    """One option or positional argument, as its help shows it."""

    names: str
    about: str


def parser() -> argparse.ArgumentParser:
    """The parser of `ncharness`."""
    return build_parser()


def commands() -> dict[str, argparse.ArgumentParser]:
    """The parser of every command, by its name."""
    (action,) = (action for action in parser()._actions if isinstance(action, argparse._SubParsersAction))
    return dict(action.choices)


def options(of: argparse.ArgumentParser) -> list[Option]:
    """Positional arguments and options of a command, without `--help`."""
    found = []
    for action in of._actions:
        if isinstance(action, argparse._HelpAction | argparse._SubParsersAction):
            continue
        name = action.metavar if isinstance(action.metavar, str) else action.dest
        value = "" if action.nargs == 0 or not action.option_strings else f" {name}"
        names = ", ".join(action.option_strings) + value if action.option_strings else name
        found.append(Option(names, _about(action, of.prog)))
    return found


def _about(action: argparse.Action, prog: str) -> str:
    values = {name: value for name, value in vars(action).items() if value is not argparse.SUPPRESS}
    return (action.help or "") % {**values, "prog": prog}


class _Recorder:
    """Stands in for pytest's parser and keeps what is added to it."""

    def __init__(self) -> None:
        self.options: list[Option] = []

    def getgroup(self, *_: str) -> "_Recorder":
        return self

    def addoption(self, *names: str, **settings: Any) -> None:
        default = settings.get("default")
        value = "" if settings.get("action") else f" {settings.get('metavar') or names[-1].lstrip('-').upper()}"
        about = str(settings.get("help", "")).replace("%(default)s", f"{default} (the default)")
        self.options.append(Option(", ".join(names) + value, about))


def claims_options() -> list[Option]:
    """Options that `pytest claims` adds to those of pytest."""
    spec = importlib.util.spec_from_file_location("claims_conftest", CLAIMS)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    recorder = _Recorder()
    module.pytest_addoption(recorder)
    return recorder.options


def sentence(name: str) -> str:
    """Purpose of a command, in one sentence."""
    (action,) = (action for action in parser()._actions if isinstance(action, argparse._SubParsersAction))
    helps = {choice.dest: choice.help or "" for choice in action._choices_actions}
    text = commands()[name].description or helps[name]
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."
