"""
What a policy file gets wrong, in words for the person who edits it: one line for each mistake.

    PolicyError                        (include.sync_health.errors) path, value, what is allowed
    ├── PolicyMistake                  the same, with the file and line where it stands
    ├── PolicyFileError                the file as a whole: unreadable, no YAML, no mapping
    └── PolicyErrors                   all mistakes of a policy together
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence

from include.sync_health.errors import MonitorError, PolicyError

# Nobody should paste a URL with a password, a webhook or a token into the policy; if somebody does, no log repeats it.
_SECRET_LIKE = re.compile(r"://|\bxox[a-z]-", re.IGNORECASE)


class PolicyMistake(PolicyError):
    """
    One mistake at one key.

    Args:
        path: dotted path of the key, such as ``routes[0].to``.
        value: what stands there.
        allowed: what may stand there, in words.
        problem: what is wrong, when "VALUE is not allowed" would not say it ("unknown key", "missing").
        where: file and line, such as ``monitor.yaml line 12``; empty when the key stands nowhere.
    """

    def __init__(self, *, path: str, value: object, allowed: str, problem: str = "", where: str = "") -> None:
        shown = "(hidden: it looks like a secret)" if looks_secret(value) else value
        super().__init__(path=path, value=shown, allowed=allowed)
        self.problem, self.where = problem, where
        text = f"{path}: {problem}; {allowed}" if problem else str(self)
        self.args = (f"{text} ({where})" if where else text,)


class PolicyFileError(PolicyError):
    """The file as a whole cannot be used; ``path`` is its name."""

    def __init__(self, *, file: str, problem: str) -> None:
        super().__init__(path=file, value=None, allowed=problem)
        self.args = (f"{file}: {problem}",)


class PolicyErrors(PolicyError):
    """
    All mistakes of a policy; its text has one line for each.

    ``path``, ``value`` and ``allowed`` are those of the first.
    """

    def __init__(self, mistakes: Sequence[PolicyError]) -> None:
        if not mistakes:
            raise ValueError("a policy without mistakes is no error")
        first = mistakes[0]
        super().__init__(path=first.path, value=first.value, allowed=first.allowed)
        self.mistakes: tuple[PolicyError, ...] = tuple(mistakes)
        self.args = ("\n".join(str(mistake) for mistake in mistakes),)


def looks_secret(value: object) -> bool:
    """Return True for what holds a URL or a Slack token."""
    return _SECRET_LIKE.search(str(value)) is not None


def lines_of(error: MonitorError) -> list[str]:
    """Return the error's text as lines for a person: one for each mistake."""
    return str(error).splitlines() or [type(error).__name__]


def choose_from(names: Iterable[str], *, wrong: object = None) -> str:
    """Return "use one of a, b, c", led by the name that ``wrong`` was probably meant to be."""
    choices = sorted(names)
    near = difflib.get_close_matches(str(wrong), choices, n=1, cutoff=0.6) if wrong is not None else []
    hint = f"did you mean {near[0]}? " if near else ""
    return f"{hint}use one of {', '.join(choices)}" if choices else f"{hint}there is nothing to choose from yet"
