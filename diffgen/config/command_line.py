"""From an argument list to a checked configuration, with every mistake in one message."""

import difflib
import re
import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import (
    BaseSettings,
    CliSettingsSource,
    CliUnknownArgs,
    SettingsConfigDict,
    SettingsError,
)

from diffgen.config.base import Section
from diffgen.config.fields import help_texts
from diffgen.errors import UserError

Schema = TypeVar("Schema", bound=Section)


def parse(schema: type[Schema], argv: list[str], prog: str) -> Schema:
    """Read ``--config FILE.yaml`` and the flags that override it.

    Args:
        schema: the configuration to fill.
        argv: arguments without the program's name.
        prog: the program's name in ``--help``.

    Raises:
        UserError: anything wrong with the arguments, the file or their values, all at once.
        SystemExit: after ``--help`` or ``--dry-run`` (code 0).
    """
    flags, unknown, known = _read_flags(schema, argv, prog)
    file = flags.pop("config", None)
    dry_run = flags.pop("dry_run", False)
    values = merge(read_yaml(Path(file)), flags) if file else flags
    mistakes = [f"{name}: unknown option{_nearest(name.lstrip('-'), known)}" for name in unknown]
    config, wrong = _validate(schema, values, known)
    mistakes += wrong
    if mistakes or config is None:
        raise UserError(_tell(prog, mistakes))
    if dry_run:
        print(to_yaml(config), end="")
        sys.exit(0)
    return config


def to_yaml(config: Section) -> str:
    """The resolved configuration as YAML that ``--config`` reads back."""
    return yaml_text(config.model_dump(mode="json"))


def yaml_text(values: dict[str, Any]) -> str:
    """A mapping as YAML, in its own order."""
    return yaml.safe_dump(values, sort_keys=False)


def load(schema: type[Schema], path: Path) -> Schema:
    """Read a saved configuration back, without asking whether its paths still exist.

    Raises:
        UserError: the file is missing, no YAML, or not of this schema.
    """
    try:
        return schema.model_validate(read_yaml(path))
    except ValidationError as error:
        lines = [_sentence(detail, {}, set()) for detail in error.errors()]
        raise UserError(_tell(str(path), lines)) from None


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML mapping. Raises UserError when it is missing, broken or something else."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"config: {path} does not exist") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"config: {path} cannot be read: {error}") from None
    except yaml.YAMLError as error:
        raise UserError(f"config: {path} is not valid YAML: {error}") from None
    if not isinstance(content, dict):
        raise UserError(f"config: {path} must hold `field: value` lines")
    return content


def merge(base: dict[str, Any], override: dict[str, Any]) -> dict[str, Any]:
    """``override`` laid over ``base``; a new ``kind`` or ``size`` starts its section afresh."""
    result = dict(base)
    if "kind" in base and override.get("kind", base["kind"]) != base["kind"]:
        result = {}
    widths = ("depth", "hidden_size", "num_heads")
    if "size" in override and any(width in base for width in widths):
        result = {k: v for k, v in base.items() if k not in widths}  # the named size brings its own
    for key, value in override.items():
        below = result.get(key)
        both = isinstance(value, dict) and isinstance(below, dict)
        result[key] = merge(below, value) if both else value  # type: ignore[arg-type]
    return result


def _read_flags(
    schema: type[Section], argv: list[str], prog: str
) -> tuple[dict[str, Any], list[str], set[str]]:
    """Flags as nested values, the names of unknown ones, and every known dotted name."""

    class Flags(BaseSettings, schema):  # type: ignore[valid-type, misc]
        model_config = SettingsConfigDict(frozen=False)
        config: str | None = None
        """YAML file with any of the fields below; flags override it."""
        dry_run: bool = False
        """Print the resolved configuration and stop."""
        unknown: CliUnknownArgs

    parser = _Parser(prog=prog, description=schema.__doc__, allow_abbrev=False)
    source: CliSettingsSource[Any] = CliSettingsSource(
        Flags,
        root_parser=parser,
        cli_implicit_flags=True,
        cli_avoid_json=True,
        cli_hide_none_type=True,
        cli_kebab_case=True,
        cli_ignore_unknown_args=True,
    )
    texts = help_texts(Flags)
    for action in parser._actions:  # pydantic-settings shows one kind's text and default only
        name = action.dest.replace("-", "_")
        if name in texts:
            action.help = texts[name].replace("%", "%%")
    for group in parser._action_groups:  # of a section that the default kind lacks
        if group.description:
            group.description = group.description.replace("default: None (undefined)", "").strip()
    try:
        source(args=_normal(argv))
        given = source()
    except SettingsError as error:  # of a list or mapping that is none
        reason = str(error).split("\n")[0]
        raise UserError(f"{prog}: {reason}; a list is written a,b,c") from None
    flags = {key: value for key, value in given.items() if value is not None}
    unknown = list(flags.pop("unknown", []))
    return flags, _unknown_names(unknown), set(texts)


def _unknown_names(left_over: list[str]) -> list[str]:
    """What argparse did not know, less the values that follow an unknown flag."""
    names = []
    for before, argument in zip(["", *left_over], left_over, strict=False):
        is_value = before.startswith("--") and "=" not in before and not argument.startswith("-")
        if not is_value:
            names.append(argument.split("=")[0] if argument.startswith("--") else argument)
    return names


class _Parser(ArgumentParser):
    """An argparse parser whose complaints are ours."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{self.prog}: {message}; --help lists every option")


def _normal(argv: list[str]) -> list[str]:
    """--num_images is --num-images, --k is argparse's -k, and a negative number after a flag is
    its value."""
    result: list[str] = []
    for argument in argv:
        name, equals, value = argument.partition("=")
        if name.startswith("--"):
            short = len(name) == len("--k")
            result.append(name[short:].replace("_", "-") + equals + value)
        elif re.match(r"-\d", argument) and result and re.fullmatch(r"--[^=]+", result[-1]):
            result[-1] += f"={argument}"
        else:
            result.append(argument)
    return result


def _validate(
    schema: type[Schema], values: dict[str, Any], known: set[str]
) -> tuple[Schema | None, list[str]]:
    """The configuration, or every mistake: in single fields first, then across them."""
    mistakes: list[str] = []
    try:
        config = schema.model_validate(values)
    except ValidationError as error:
        if _read_none(error, values, known):
            return _validate(schema, values, known)
        mistakes = [_sentence(detail, values, known) for detail in error.errors()]
        # Without the wrong fields, what remains may show mistakes across fields too.
        for detail in error.errors():
            _drop(values, _path(detail, values, known))
        try:
            config = schema.model_validate(values)
        except ValidationError:
            return None, mistakes
    try:
        mistakes += config.problems()
    except UserError as error:
        mistakes.append(str(error))
    return config, mistakes


def _read_none(error: ValidationError, values: dict[str, Any], known: set[str]) -> bool:
    """Take ``none``, as help texts call what is not given, for null where it is no value itself.

    Returns:
        True if there was one.
    """
    details = [detail for detail in error.errors() if detail["input"] == "none"]
    for detail in details:
        *above, last = _path(detail, values, known)
        place = values
        for part in above:
            place = place.get(part, {})
        place[last] = None
    return bool(details)


def _path(detail: ErrorDetails, values: Any, known: set[str]) -> list[str]:
    """The error's field without the kinds pydantic puts into its location.

    Of list indices only those of sections are kept, in brackets.
    """
    path: list[str] = []
    here = values
    for part in detail["loc"]:
        name = ".".join([*path, str(part)])
        given = isinstance(here, dict) and part in here
        if isinstance(part, int) and isinstance(here, list) and isinstance(here[part], dict):
            path[-1] += f"[{part}]"
            here = here[part]
            continue
        real = any(k == name or k.startswith(f"{name}.") for k in known)
        real = real or (bool(path) and path[-1].endswith("]"))
        if isinstance(part, int) or (known and not given and not real):
            continue
        path.append(part)
        here = here[part] if given else None
    return path


def _drop(values: Any, path: list[str]) -> None:
    for part in path[:-1]:
        values = values.get(part) if isinstance(values, dict) else None
    if isinstance(values, dict) and path:
        values.pop(path[-1], None)


def _sentence(detail: ErrorDetails, values: Any, known: set[str]) -> str:
    name = ".".join(_path(detail, values, known))
    if detail["type"] == "extra_forbidden":
        if any(k == name or k.startswith(f"{name}.") for k in known):
            return f"{name}: does not belong to the kind chosen"
        return f"{name}: unknown field{_nearest(name, known)}"
    if detail["type"] == "missing":
        return f"{name}: is needed"
    message = detail["msg"].removeprefix("Value error, ")
    if detail["type"] == "union_tag_invalid":
        expected = detail.get("ctx", {}).get("expected_tags", "")
        tag = detail.get("ctx", {}).get("tag", "")
        return f"{name}.kind: {tag!r} is not one of {expected}"
    return f"{name}: {message[0].lower()}{message[1:]} (got {detail['input']!r})"


def _nearest(name: str, known: set[str]) -> str:
    name = name.replace("-", "_")
    matches = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.5)
    if not matches:  # compare the last part alone: --depth for model.depth
        matches = [k for k in sorted(known) if k.split(".")[-1] == name.split(".")[-1]][:1]
    return f"; did you mean {matches[0]}?" if matches else ""


def _tell(prog: str, mistakes: list[str]) -> str:
    if len(mistakes) == 1:
        return f"{prog}: {mistakes[0]}"
    return "\n".join([f"{prog}: {len(mistakes)} mistakes", *(f"  {line}" for line in mistakes)])
