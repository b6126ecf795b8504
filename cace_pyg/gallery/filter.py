"""Filters from outside: read as SQL, checked part by part, and written anew for LanceDB."""

import math
import re
from collections.abc import Sequence

from sqlglot import Dialect, ParseError, Token, TokenType, exp
from sqlglot.errors import SqlglotError

from cace_pyg.gallery.gallery_table import FilterError

MOST_CHARACTERS = 20_000
MOST_NESTED = 10  # parentheses, or NOT NOT …
MOST_CONDITIONS = 200
MOST_LISTED = 1_000  # values of one IN
MOST_WILDCARDS = 100  # % and _ of all LIKEs together

_COMPARISONS = {exp.EQ: "=", exp.NEQ: "!=", exp.LT: "<", exp.LTE: "<=", exp.GT: ">", exp.GTE: ">="}
_JOINTS = {exp.And: " AND ", exp.Or: " OR "}
_ALLOWED = {
    *(TokenType[name] for name in ("AND", "OR", "NOT", "IN", "LIKE", "BETWEEN", "IS", "NULL", "TRUE", "FALSE")),
    *(TokenType[name] for name in ("EQ", "NEQ", "LT", "LTE", "GT", "GTE", "COMMA", "L_PAREN", "R_PAREN")),
    *(TokenType[name] for name in ("STRING", "NUMBER")),
}
_ALLOWED_BEFORE = {(TokenType.TIMESTAMP, TokenType.STRING), (TokenType.DOT, TokenType.NUMBER)}  # .5
_SHOWN = 80  # characters of a filter in an error


def checked_filter(where: str, columns: Sequence[str]) -> str:
    """A condition, in SQL that says the same and holds nothing that was not looked at.

    It may hold columns, literals (numbers, ``'text'``, TRUE, FALSE, ``timestamp '…'``), comparisons, IN with a list of
    literals, LIKE, BETWEEN, IS NULL, AND, OR, NOT and parentheses. Whatever else SQL knows, functions above all, can
    take any amount of memory and time.

    Args:
        where: the condition as it came. Names in other case than the column's are taken for it, unless they are quoted.
        columns: names that it may hold.

    Returns:
        SQL as LanceDB reads it: names in backticks, parentheses around everything that is joined.

    Raises:
        FilterError: it is no such condition, or longer or deeper than one that a person would write.
    """
    try:
        return _condition(_parsed(where, columns), columns)
    except _Refusal as refusal:
        shown = where if len(where) <= _SHOWN else f"{where[:_SHOWN]}…"
        raise FilterError(
            f"cannot filter by {shown!r}: {refusal}. Expected SQL such as \"camera = 'c3' and time > timestamp "
            "'2026-01-31 12:00:00'\", of columns, literals, comparisons, IN, LIKE, BETWEEN, IS NULL, AND, OR, NOT and "
            f"parentheses; columns: {', '.join(columns)}"
        ) from None


class _Refusal(Exception):
    """What is wrong with a filter."""


def _parsed(where: str, columns: Sequence[str]) -> exp.Expr:
    if len(where) > MOST_CHARACTERS:
        raise _Refusal(f"it has {len(where):,} characters, and {MOST_CHARACTERS:,} are the most")
    sql = Dialect.get_or_raise("sqlite")  # quotes as LanceDB does: 'text', "name", `name`, and no \ in texts
    try:
        where.encode()
        tokens = sql.tokenize(where)
        _check_size(tokens)
        (condition,) = sql.parser().parse_into(exp.Condition, _named(tokens, columns), where)
    except UnicodeEncodeError:
        raise _Refusal("it is no text in Unicode") from None
    except ParseError as error:
        told = error.errors[0] if error.errors else {}
        near = f" near {told['highlight']!r}" if told.get("highlight") else ""
        raise _Refusal(f"it is no condition in SQL ({told.get('description', 'broken')}{near})") from None
    except SqlglotError:
        raise _Refusal("it is not valid SQL, perhaps because a quote is open") from None
    if condition is None:
        raise _Refusal("it is empty")
    return condition


def _check_size(tokens: Sequence[Token]) -> None:
    """Before anything recursive looks at it."""
    opened = inverted = conditions = wildcards = 0
    for token, after in zip(tokens, [*tokens[1:], None], strict=False):
        kind = token.token_type
        opened += (kind is TokenType.L_PAREN) - (kind is TokenType.R_PAREN)
        inverted = inverted + 1 if kind is TokenType.NOT else 0
        conditions += kind in (TokenType.AND, TokenType.OR)
        if kind is TokenType.LIKE and after:
            wildcards += after.text.count("%") + after.text.count("_")
        if opened > MOST_NESTED or inverted > MOST_NESTED:
            raise _Refusal(f"its parentheses or NOTs are nested deeper than {MOST_NESTED}")
    if conditions >= MOST_CONDITIONS:
        raise _Refusal(f"it joins more than {MOST_CONDITIONS} conditions; IN takes a list")
    if wildcards > MOST_WILDCARDS:
        raise _Refusal(f"its LIKE patterns have {wildcards} of % and _, and {MOST_WILDCARDS} are the most")


def _named(tokens: Sequence[Token], columns: Sequence[str]) -> list[Token]:
    """Tokens that a condition may hold, in which every column is a quoted name, be it a word of SQL otherwise."""
    by_case = {name.lower(): name for name in columns} | {name: name for name in columns}
    found = []
    for token, after in zip(tokens, [*tokens[1:], None], strict=False):
        kind, text, follows = token.token_type, token.text, after.token_type if after else None
        if token.comments:
            raise _Refusal(f"it holds a comment, {token.comments[0].strip()[:_SHOWN]!r}")
        if kind is TokenType.SEMICOLON:  # what follows would be another statement
            raise _Refusal("one condition is expected, without a ; outside quotes")
        if kind is TokenType.IDENTIFIER:
            if text not in columns:
                raise _Refusal(f"No field named {text[:_SHOWN]}; a text stands in single quotes: 'text'")
        elif kind is TokenType.DASH:
            if follows is not TokenType.NUMBER:
                raise _Refusal("- can only stand before a number")
        elif kind is TokenType.LIKE and follows is not TokenType.STRING:
            raise _Refusal("after LIKE only a pattern in single quotes can stand")
        elif kind not in _ALLOWED and (kind, follows) not in _ALLOWED_BEFORE:
            name = by_case.get(text) or by_case.get(text.lower())
            if follows is TokenType.L_PAREN and re.match(r"\w", text):
                raise _Refusal(f"{text[:_SHOWN]}(…) is a function, which a filter cannot hold")
            if not name:
                word = kind is TokenType.VAR and text.isidentifier()
                raise _Refusal(
                    f"No field named {text[:_SHOWN]}" if word else f"{text[:_SHOWN]} cannot stand in a filter"
                )
            token = Token(TokenType.IDENTIFIER, name, token.line, token.col, token.start, token.end)
        found.append(token)
    return found


def _condition(node: exp.Expr, columns: Sequence[str]) -> str:
    """What is true or false of a row."""
    node = node.unnest()
    kind = type(node)
    if kind in _JOINTS:
        return f"({_JOINTS[kind].join(_condition(one, columns) for one in node.flatten())})"
    if kind is exp.Not and _has(node, "this"):
        return f"(NOT {_condition(node.this, columns)})"
    if kind in _COMPARISONS and _has(node, "this", "expression"):
        return f"{_value(node.this, columns)} {_COMPARISONS[kind]} {_value(node.expression, columns)}"
    if kind is exp.In and _has(node, "this", "expressions"):
        if len(node.expressions) > MOST_LISTED:
            raise _Refusal(f"IN has {len(node.expressions):,} values, and {MOST_LISTED:,} are the most")
        listed = ", ".join(_value(one, ()) for one in node.expressions)
        return f"{_value(node.this, columns)} IN ({listed})"
    if kind is exp.Like and (_has(node, "this", "expression") or _has(node, "this", "expression", "negate")):
        inverted = "NOT " if node.args.get("negate") else ""
        return f"{_value(node.this, columns)} {inverted}LIKE {_value(node.expression, ())}"
    if kind is exp.Between and _has(node, "this", "low", "high"):
        low, high = (_value(node.args[name], columns) for name in ("low", "high"))
        return f"{_value(node.this, columns)} BETWEEN {low} AND {high}"
    if kind is exp.Is and _has(node, "this", "expression"):
        if not isinstance(node.expression, exp.Null):
            raise _Refusal("after IS only NULL or NOT NULL can stand; TRUE and FALSE are compared by =")
        return f"{_value(node.this, columns)} IS NULL"
    if kind in (exp.Column, exp.Boolean):
        return _value(node, columns)
    raise _Refusal(f"{node.sql()[:_SHOWN]} is no condition")


def _value(node: exp.Expr, columns: Sequence[str]) -> str:
    """A column or a literal."""
    node = node.unnest()
    if isinstance(node, exp.Column) and _has(node, "this") and _has(node.this, "this", "quoted"):
        if node.name in columns:
            return f"`{node.name.replace('`', '``')}`"
        raise _Refusal(f"{node.name} cannot stand there, a literal can")
    if isinstance(node, exp.Boolean):
        return "TRUE" if node.this else "FALSE"
    if isinstance(node, exp.Literal):
        return _text(node.name) if node.is_string else _number(node.name)
    if isinstance(node, exp.Neg) and isinstance(node.this, exp.Literal) and not node.this.is_string:
        return f"-{_number(node.this.name)}"
    if isinstance(node, exp.Cast) and node.to.sql() == "TIMESTAMP" and node.this.is_string and _has(node, "this", "to"):
        return f"timestamp {_text(node.name)}"
    if isinstance(node, exp.Null):
        raise _Refusal("nothing equals NULL: write IS NULL or IS NOT NULL")
    raise _Refusal(f"{node.sql()[:_SHOWN]} is neither a column nor a literal")


def _number(text: str) -> str:
    if not re.fullmatch(r"\d+\.?\d*(e[+-]?\d+)?", text, re.I | re.A) or not math.isfinite(float(text)):
        raise _Refusal(f"{text[:_SHOWN]} is no number")
    return text


def _text(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _has(node: exp.Expr, *names: str) -> bool:
    """Whether these parts and no other are there, so that none is left out in what is written anew."""
    return {name for name, part in node.args.items() if part} == set(names)
