"""
Reading one YAML file of policy: a tree of plain values, and the line of every key.

YAML 1.2's words, not PyYAML's: only ``true`` and ``false`` are switches, so that ``mode: off`` is the word "off" and
``1:30`` is no number of seconds. Tags and repeated keys are refused, and an alias is only followed to the size and
depth that a policy can have.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from include.orchestration.policy_mistakes import PolicyErrors, PolicyFileError, PolicyMistake
from include.sync_health.errors import PolicyError

MAX_BYTES = 256 * 1024  # a policy of every rule, hundreds of receivers and routes takes a tenth of this
MAX_NODES = 20_000
MAX_DEPTH = 12  # the deepest key has 5 levels

KeyPath = tuple[str | int, ...]

_STR, _MAP, _SEQ = "tag:yaml.org,2002:str", "tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"
_SCALARS = (  # YAML 1.2.2, section 10.3 (core schema), decimal only
    ("null", re.compile(r"(?:~|null|Null|NULL|)\Z"), ["~", "n", "N", ""]),
    ("bool", re.compile(r"(?:true|True|TRUE|false|False|FALSE)\Z"), list("tTfF")),
    ("int", re.compile(r"[-+]?[0-9]+\Z"), list("-+0123456789")),
    ("float", re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?\Z"), list("-+.0123456789")),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A file's content: ``tree`` of dict, list, str, int, float, bool and None; ``lines`` from 1, by key path."""

    name: str
    tree: Mapping[str, Any]
    lines: Mapping[KeyPath, int] = field(default_factory=dict)


class _PlainLoader(yaml.SafeLoader):
    """SafeLoader with the scalars of YAML 1.2."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - the attribute that PyYAML reads


for _kind, _pattern, _firsts in _SCALARS:
    _PlainLoader.add_implicit_resolver(f"tag:yaml.org,2002:{_kind}", _pattern, _firsts)


def read_document(path: Path) -> Document:
    """
    Return the file's content; an empty file is an empty mapping.

    Raises:
        PolicyFileError: missing, no regular file, unreadable, too large, not UTF-8, no YAML, or no mapping.
        PolicyErrors: keys that are written twice.
    """
    try:
        if not path.is_file():
            problem = "is not a regular file" if path.exists() else "does not exist"
            raise PolicyFileError(file=str(path), problem=problem)
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise PolicyFileError(file=str(path), problem=f"is not UTF-8 text (byte {error.start})") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "not a usable path"
        raise PolicyFileError(file=str(path), problem=f"cannot be read: {reason}") from None
    if len(content) > MAX_BYTES:
        raise PolicyFileError(file=str(path), problem=f"is larger than {MAX_BYTES // 1024} KiB: not a policy")
    return parse_document(text, name=path.name)


def parse_document(text: str, *, name: str) -> Document:
    """
    Return the content of YAML (or JSON) text; ``name`` is how messages call it.

    Raises:
        PolicyFileError: no YAML, a tag, too deep or too many values, or no mapping.
        PolicyErrors: keys that are written twice.
    """
    try:
        node = yaml.compose(text, Loader=_PlainLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        problem = " ".join((error.problem or error.context or "it cannot be parsed").split())
        raise PolicyFileError(file=name, problem=f"{where}not valid YAML: {problem}") from None
    except yaml.YAMLError as error:
        raise PolicyFileError(file=name, problem=f"not valid YAML: {' '.join(str(error).split())[:200]}") from None
    except RecursionError:
        raise PolicyFileError(file=name, problem="is nested too deeply: not a policy") from None
    if node is None:
        return Document(name=name, tree={})
    builder = _TreeBuilder(name)
    tree = builder.build(node, ())
    if tree is None:
        tree = {}
    if not isinstance(tree, dict):
        kind = "a list" if isinstance(tree, list) else "a single value"
        raise PolicyFileError(file=name, problem=f"must be a mapping of keys to values, and is {kind}")
    if builder.mistakes:
        raise PolicyErrors(builder.mistakes)
    return Document(name=name, tree=tree, lines=builder.lines)


class _TreeBuilder:
    """Turns nodes into plain values, and notes the line of every key and every key that is written twice."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.lines: dict[KeyPath, int] = {}
        self.mistakes: list[PolicyError] = []
        self.nodes = 0

    def build(self, node: yaml.Node, path: KeyPath) -> Any:
        self.nodes += 1
        line = node.start_mark.line + 1
        self.lines.setdefault(path, line)
        if self.nodes > MAX_NODES or len(path) > MAX_DEPTH:
            raise PolicyFileError(file=self.name, problem=f"line {line}: too deep or too large: not a policy")
        if isinstance(node, yaml.MappingNode) and node.tag == _MAP:
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode) and node.tag == _SEQ:
            return [self.build(item, (*path, index)) for index, item in enumerate(node.value)]
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, line)
        raise self._unknown_tag(node, line)

    def _mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, Any]:
        values: dict[str, Any] = {}
        first_lines: dict[str, int] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                raise PolicyFileError(file=self.name, problem=f"line {line}: a key must be a plain word")
            key = str(key_node.value)
            if key in values:
                self.mistakes.append(
                    PolicyMistake(
                        path=dotted((*path, key)),
                        value=key,
                        problem="written twice",
                        allowed=f"keep one of lines {first_lines[key]} and {line}",
                        where=f"{self.name} line {line}",
                    )
                )
                continue
            first_lines[key] = line
            self.lines[(*path, key)] = line
            values[key] = self.build(value_node, (*path, key))
        return values

    def _scalar(self, node: yaml.ScalarNode, line: int) -> Any:
        text = str(node.value)
        match node.tag.removeprefix("tag:yaml.org,2002:"):
            case "str":
                return text
            case "null":
                return None
            case "bool" if text.lower() in ("true", "false"):
                return text.lower() == "true"
            case "int" if _SCALARS[2][1].match(text):
                # Python refuses to convert thousands of digits; no number of a policy has twenty.
                return int(text) if len(text) <= 20 else text
            case "float" if _SCALARS[3][1].match(text):
                return float(text)
        raise self._unknown_tag(node, line)

    def _unknown_tag(self, node: yaml.Node, line: int) -> PolicyFileError:
        return PolicyFileError(file=self.name, problem=f"line {line}: the tag {str(node.tag)[:60]!r} is not supported")


def dotted(path: KeyPath) -> str:
    """Return ``("routes", 0, "to")`` as ``routes[0].to``."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            named = part if part.isprintable() else repr(part)  # a terminal must not obey a key
            text += f".{named}" if text else named
    return text


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``base`` with ``over`` laid over it: maps merge deeply, everything else (lists too) replaces."""
    merged = dict(base)
    for key, value in over.items():
        under = merged.get(key)
        merged[key] = merge(under, value) if isinstance(under, Mapping) and isinstance(value, Mapping) else value
    return merged


def line_of(path: KeyPath, documents: tuple[Document, ...]) -> str:
    """
    Return where a key of the merged tree stands, such as ``monitor.yaml line 12``; empty when nowhere.

    ``documents`` are in the order in which they were laid over each other; the last that has the key wins. For a key
    that is missing, its nearest parent's place is told.
    """
    for length in range(len(path), 0, -1):
        for document in reversed(documents):
            line = document.lines.get(path[:length])
            if line is not None:
                return f"{document.name} line {line}"
            if any(isinstance(part, int) for part in path[:length]) and _holds_list(document, path[:length]):
                break  # the list stands here as a whole: an item of the file below is not in force
    return ""


def _holds_list(document: Document, path: KeyPath) -> bool:
    first_index = next(place for place, part in enumerate(path) if isinstance(part, int))
    return path[:first_index] in document.lines
