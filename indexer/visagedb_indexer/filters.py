"""Filters on labels: a small part of the filter language of AIP-160.

labels.site = "north"          has the label with this value
labels.role != "guest"         has it not (or has no such label)
labels.badge:*                 has the label, whatever its value
NOT (a) , a AND b , a OR b     AND and OR mix only with parentheses
"""

import re
from dataclasses import dataclass
from typing import Final, TypeAlias

from visagedb_indexer import limits
from visagedb_indexer.errors import InvalidFilterError


@dataclass(frozen=True, slots=True)
class HasLabel:
    """Identities with this label; with any value of it when `value` is None."""

    key: str
    value: str | None


@dataclass(frozen=True, slots=True)
class Not:
    """All other identities."""

    term: "Filter"


@dataclass(frozen=True, slots=True)
class And:
    """Identities that pass every term."""

    terms: tuple["Filter", ...]


@dataclass(frozen=True, slots=True)
class Or:
    """Identities that pass at least one term."""

    terms: tuple["Filter", ...]


Filter: TypeAlias = HasLabel | Not | And | Or

_TOKEN: Final = re.compile(
    r"""\s*(?:(?P<quoted>"(?:[^"\\]|\\.)*")|(?P<symbol>!=|[=:()*])|(?P<word>[\w.@-]+))""", re.ASCII
)
_PREFIX: Final = "labels."


def parse_filter(text: str) -> Filter | None:
    """A filter from its text; None for an empty one.

    Raises:
        InvalidFilterError: It cannot be read; the message says where.
    """
    if len(text) > limits.FILTER_LENGTH_MAX:
        raise InvalidFilterError(
            f"a filter has at most {limits.FILTER_LENGTH_MAX} characters", {"field": "filter"}
        )
    tokens = _tokens(text)
    if not tokens:
        return None
    parser = _Parser(tokens)
    result = parser.expression(depth=0)
    parser.end()
    return result


def _tokens(text: str) -> list[str]:
    tokens: list[str] = []
    position, end = 0, len(text.rstrip())
    while position < end:
        match = _TOKEN.match(text, position)
        if match is None:
            raise InvalidFilterError(
                f"the filter cannot be read at {text[position : position + 20]!r}",
                {"field": "filter", "position": str(position)},
            )
        tokens.append(match.group().strip())
        position = match.end()
    return tokens


class _Parser:
    def __init__(self, tokens: list[str]) -> None:
        self._tokens = tokens
        self._next = 0

    def end(self) -> None:
        if self._peek() is not None:
            raise self._error(f"unexpected {self._peek()!r}")

    def expression(self, depth: int) -> Filter:
        if depth > limits.FILTER_DEPTH_MAX:
            raise self._error("it is nested too deeply")
        terms = [self._term(depth)]
        joiner = self._peek()
        if joiner not in {"AND", "OR"}:
            return terms[0]
        while self._peek() in {"AND", "OR"}:
            if self._take() != joiner:
                raise self._error("AND and OR mix only with parentheses")
            terms.append(self._term(depth))
        return And(tuple(terms)) if joiner == "AND" else Or(tuple(terms))

    def _term(self, depth: int) -> Filter:
        if self._peek() == "NOT":
            self._take()
            if depth > limits.FILTER_DEPTH_MAX:
                raise self._error("it is nested too deeply")
            return Not(self._term(depth + 1))
        if self._peek() == "(":
            self._take()
            inner = self.expression(depth + 1)
            if self._take() != ")":
                raise self._error("a parenthesis is not closed")
            return inner
        return self._comparison()

    def _comparison(self) -> Filter:
        name = self._take()
        if not name.startswith(_PREFIX) or len(name) == len(_PREFIX):
            raise self._error(f"expected labels.KEY, found {name!r}")
        key, operator, value = name[len(_PREFIX) :], self._take(), self._take()
        if operator == ":" and value == "*":
            return HasLabel(key, None)
        if operator not in {"=", "!="}:
            raise self._error(f"after {name} expected =, != or :*, found {operator + value!r}")
        if value in {"=", "!=", ":", "(", ")", "*"}:
            raise self._error(f"expected a value, found {value!r}")
        term = HasLabel(key, _unquoted(value))
        return term if operator == "=" else Not(term)

    def _peek(self) -> str | None:
        return self._tokens[self._next] if self._next < len(self._tokens) else None

    def _take(self) -> str:
        token = self._peek()
        if token is None:
            raise self._error("it ends too early")
        self._next += 1
        return token

    def _error(self, message: str) -> InvalidFilterError:
        return InvalidFilterError(f"the filter cannot be read: {message}", {"field": "filter"})


def _unquoted(token: str) -> str:
    return re.sub(r"\\(.)", r"\1", token[1:-1]) if token.startswith('"') else token
