"""
The policy as files hold it: `include/monitor.yaml`, and one file laid over it.

    YAML --policy_document--> trees --merge--> policy_schema + policy_contradictions --> the core's `Policy`

The overlay is named by the environment variable ``SERVICETITAN_MONITOR_CONFIG`` or an argument, and may hold only what
differs. Maps merge deeply, lists replace. All mistakes are told together, each with its dotted path, value, what is
allowed, file and line.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from include.orchestration.policy_contradictions import contradictions
from include.orchestration.policy_document import (
    Document,
    KeyPath,
    dotted,
    line_of,
    merge,
    parse_document,
    read_document,
)
from include.orchestration.policy_mistakes import PolicyErrors, PolicyMistake, choose_from
from include.orchestration.policy_schema import PolicySection, keys_of, policy_of, section_at, tree_of
from include.sync_health.errors import PolicyError
from include.sync_health.policy import Policy

OVERLAY_VARIABLE = "SERVICETITAN_MONITOR_CONFIG"
SHIPPED_FILE = Path(__file__).resolve().parents[1] / "monitor.yaml"
VERSION_DIGITS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedPolicy:
    """
    A policy and where it comes from.

    ``version`` is a hash of the effective policy (12 hex digits): equal policies have equal versions, however their
    files are written. ``sources`` are the files, lowest first; none for one that was remembered.
    """

    policy: Policy
    version: str
    sources: tuple[Path, ...]


def load_policy(*, overlay: Path | None = None, environ: Mapping[str, str] | None = None) -> LoadedPolicy:
    """
    Return the shipped policy with the overlay laid over it.

    Args:
        overlay: the file to lay over; None: the one that ``SERVICETITAN_MONITOR_CONFIG`` names, if it does.
        environ: the environment; None: the process's own.

    Raises:
        PolicyError: anything wrong in either file. `PolicyErrors` has all mistakes of a readable file,
            `PolicyFileError` speaks of an unreadable one.
    """
    overlay = overlay or _named_overlay(environ)
    sources = (SHIPPED_FILE,) if overlay is None else (SHIPPED_FILE, overlay)
    documents = tuple(read_document(source) for source in sources)
    return _loaded(documents, sources=sources)


def load_policy_or_last_good(
    *, remembered: str | None, overlay: Path | None = None, environ: Mapping[str, str] | None = None
) -> tuple[LoadedPolicy, PolicyError | None]:
    """
    Return the policy of the files and None; when they are wrong, the remembered policy and what is wrong.

    Args:
        remembered: what `dump_policy` returned for the last good policy; keys that it lacks, because it is older than
            this code, are taken from the shipped file.
        overlay, environ: as for `load_policy`.

    Raises:
        PolicyError: the files are wrong and nothing usable is remembered; it speaks of the files.
    """
    try:
        return load_policy(overlay=overlay, environ=environ), None
    except PolicyError as error:
        if remembered is None:
            raise
        try:
            return _parse_remembered(remembered), error
        except PolicyError:
            raise error from None


def storage_connection(*, overlay: Path | None = None, environ: Mapping[str, str] | None = None) -> str:
    """
    Return ``storage.connection`` alone, from files that may be wrong elsewhere: the last good policy is kept there.

    Falls back to the shipped ``monitoring_db`` where the files say nothing that can be read.
    """
    overlay = overlay or _named_overlay(environ)
    for source in (overlay, SHIPPED_FILE) if overlay else (SHIPPED_FILE,):
        try:
            storage = read_document(source).tree.get("storage")
        except PolicyError:
            continue
        connection = storage.get("connection") if isinstance(storage, dict) else None
        if isinstance(connection, str) and connection.strip():
            return connection.strip()
    return Policy().storage_connection


def _named_overlay(environ: Mapping[str, str] | None) -> Path | None:
    named = (os.environ if environ is None else environ).get(OVERLAY_VARIABLE, "").strip()
    return Path(named).expanduser() if named else None


def parse_policy(text: str, *, name: str = "policy") -> LoadedPolicy:
    """
    Return the policy of a text that has every key, such as `dump_policy` writes.

    Raises:
        PolicyError: anything wrong in it.
    """
    return _loaded((parse_document(text, name=name),), sources=())


def dump_policy(policy: Policy) -> str:
    """
    Return the effective policy as canonical text: JSON (so YAML too), keys sorted; `parse_policy` reads it back equal.

    Raises:
        ValueError: a duration with a fraction of a second.
    """
    return json.dumps(tree_of(policy), sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def version_of(policy: Policy) -> str:
    """Return the version of a policy: the first 12 hex digits of the SHA-256 of `dump_policy`."""
    return hashlib.sha256(dump_policy(policy).encode()).hexdigest()[:VERSION_DIGITS]


def _parse_remembered(text: str) -> LoadedPolicy:
    remembered = parse_document(text, name="the last good policy")
    try:
        return _loaded((read_document(SHIPPED_FILE), remembered), sources=())
    except PolicyError:
        # It may be the shipped file that is wrong; the remembered text is usually complete.
        return _loaded((remembered,), sources=())


def _loaded(documents: tuple[Document, ...], *, sources: tuple[Path, ...]) -> LoadedPolicy:
    tree: dict[str, Any] = {}
    for document in documents:
        tree = merge(tree, document.tree)
    mistakes: list[PolicyMistake] = []
    try:
        section = PolicySection.model_validate(tree)
    except ValidationError as error:
        section = None
        mistakes += _schema_mistakes(error, documents)
    for found in contradictions(tree):
        mistakes.append(
            PolicyMistake(
                path=dotted(found.path),
                value=found.value,
                allowed=found.allowed,
                problem=found.problem,
                where=_where(found.path, found.other, documents),
            )
        )
    if section is None or mistakes:
        raise PolicyErrors(mistakes)
    policy = policy_of(section)
    return LoadedPolicy(policy=policy, version=version_of(policy), sources=sources)


def _schema_mistakes(error: ValidationError, documents: tuple[Document, ...]) -> Iterator[PolicyMistake]:
    for found in error.errors(include_url=False):
        context: Mapping[str, Any] = found.get("ctx", {})
        path: KeyPath = tuple(part for part in found["loc"] if part != "[key]")
        value, problem, other = found["input"], "", path
        match found["type"]:
            case "policy":
                allowed = context["allowed"]
            case "contradiction":
                other = (*path, context["other"])
                path = (*path, context["key"])
                value, allowed = context["value"], context["allowed"]
            case "extra_forbidden":
                section = section_at(path[:-1])
                problem = "unknown key"
                allowed = choose_from(keys_of(section) if section else (), wrong=path[-1])
            case "missing":
                problem, allowed = "missing", "give it a value"
            case "model_type" | "model_attributes_type" | "dict_type":
                section = section_at(path)
                keys = f" with {', '.join(keys_of(section))}" if section else ""
                allowed = f"use a mapping of keys to values{keys}"
            case "list_type":
                allowed = "use a list, such as [a, b]"
            case "too_short":
                allowed = "name at least one"
                if path[0] == "routes":
                    allowed += ", or leave the key out to match everything"
            case _:
                allowed = found["msg"]
        yield PolicyMistake(
            path=dotted(path), value=value, allowed=allowed, problem=problem, where=_where(path, other, documents)
        )


def _where(path: KeyPath, other: KeyPath, documents: tuple[Document, ...]) -> str:
    """Return where the mistake was probably made: of two keys that contradict, the one that the overlay sets."""
    overlay = documents[-1].lines
    return line_of(other if other in overlay and path not in overlay else path, documents)
