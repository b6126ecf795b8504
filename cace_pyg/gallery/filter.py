"""Filters that users write: parsed as SQL, checked part by part, and written out again for LanceDB."""

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
_TYPES = {  # LanceDB's: what a value is, and how one is written
    "Utf8": ("text", "text is in quotes, 'like this'"),
    "Int64": ("a whole number", "numbers are without quotes"),
    "Float64": ("a number", "numbers are without quotes"),
    "Boolean": ("TRUE or FALSE", "write TRUE or FALSE without quotes"),
    "Timestamp": ("a time", "write timestamp '2026-01-31 12:00:00'"),
}


def checked_filter(where: str, columns: Sequence[str]) -> str:
    """An equivalent SQL condition in which every part was checked.

    It may contain columns, literals (numbers, ``'text'``, TRUE, FALSE, ``timestamp '…'``), comparisons, IN with a list
    of literals, LIKE, BETWEEN, IS NULL, AND, OR, NOT and parentheses. Everything else in SQL, functions above all, is
    refused, because it can take any amount of memory and time.

    Args:
        where: the condition as the user wrote it. Upper and lower case of column names do not matter, unless they are
            quoted.
        columns: names that it may contain.

    Returns:
        SQL as LanceDB reads it: names in backticks, parentheses around everything that is joined.

    Raises:
        FilterError: it is not such a condition, or it is longer or deeper than a person would write.
    """
    try:
        return _condition(_parsed(where, columns), columns)
    except _Refusal as refusal:
        shown = where if len(where) <= _SHOWN else f"{where[:_SHOWN]}…"
        raise FilterError(
            f"cannot filter by {shown!r}: {refusal}. Expected SQL such as \"camera = 'c3' and time > timestamp "
            "'2026-01-31 12:00:00'\", made of columns, literals, comparisons, IN, LIKE, BETWEEN, IS NULL, AND, OR, NOT "
            f"and parentheses; columns: {', '.join(columns)}"
        ) from None


def refusal_in_words(text: str) -> str:
    """What LanceDB refuses in a checked filter, above all a comparison of different types; otherwise its own words."""
    if found := re.search(r"Received literal (\w+)\((.*)\) and could not convert to literal of type '(\w+)", text):
        (got, _), (wanted, remedy) = (_TYPES.get(name, (name, "")) for name in (found[1], found[3]))
        return f"{found[2]} is {got}, and the column contains {wanted}; {remedy}"
    if "does not return a boolean" in text:
        return "a column alone is no condition; compare it with a value"
    if "in LIKE expression" in text:
        return "LIKE is for columns of text"
    if "Cannot cast" in text:
        return "the two columns contain values of different types"
    return text


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
        raise _Refusal("it is not Unicode text") from None
    except ParseError as error:
        told = error.errors[0] if error.errors else {}
        near = f" near {told['highlight']!r}" if told.get("highlight") else ""
        raise _Refusal(f"it is not an SQL condition ({told.get('description', 'broken')}{near})") from None
    except SqlglotError:
        raise _Refusal("it is not valid SQL, perhaps because a quote is open") from None
    if condition is None:
        raise _Refusal("it is empty")
    return condition


def _check_size(tokens: Sequence[Token]) -> None:
    """Refuse conditions that are too large or too deep for the recursive parser."""
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
    """The checked tokens of a condition, with every column as a quoted name, even if it is an SQL keyword."""
    by_case = {name.lower(): name for name in columns} | {name: name for name in columns}
    found = []
    for token, after in zip(tokens, [*tokens[1:], None], strict=False):
        kind, text, follows = token.token_type, token.text, after.token_type if after else None
        if token.comments:
            raise _Refusal(f"it contains a comment, {token.comments[0].strip()[:_SHOWN]!r}")
        if kind is TokenType.SEMICOLON:  # what follows would be another statement
            raise _Refusal("expected one condition, without a ; outside quotes")
        if kind is TokenType.IDENTIFIER:
            if text not in columns:
                raise _Refusal(f"No field named {text[:_SHOWN]}; text is written in single quotes: 'text'")
        elif kind is TokenType.DASH:
            if follows is not TokenType.NUMBER:
                raise _Refusal("- can only stand before a number")
        elif kind is TokenType.LIKE and follows is not TokenType.STRING:
            raise _Refusal("LIKE takes only a pattern in single quotes")
        elif kind not in _ALLOWED and (kind, follows) not in _ALLOWED_BEFORE:
            name = by_case.get(text) or by_case.get(text.lower())
            if follows is TokenType.L_PAREN and re.match(r"\w", text):
                raise _Refusal(f"{text[:_SHOWN]}(…) is a function, which a filter cannot contain")
            if not name:
                word = kind is TokenType.VAR and text.isidentifier()
                raise _Refusal(
                    f"No field named {text[:_SHOWN]}" if word else f"{text[:_SHOWN]} is not allowed in a filter"
                )
            token = Token(TokenType.IDENTIFIER, name, token.line, token.col, token.start, token.end)
        found.append(token)
    return found


def _condition(node: exp.Expr, columns: Sequence[str]) -> str:
    """A part that is true or false for a row."""
    node = node.unnest()
    kind = type(node)
    if kind in _JOINTS:
        return f"({_JOINTS[kind].join(_condition(part, columns) for part in node.flatten())})"
    if kind is exp.Not and _has(node, "this"):
        return f"(NOT {_condition(node.this, columns)})"
    if kind in _COMPARISONS and _has(node, "this", "expression"):
        return f"{_value(node.this, columns)} {_COMPARISONS[kind]} {_value(node.expression, columns)}"
    if kind is exp.In and _has(node, "this", "expressions"):
        if len(node.expressions) > MOST_LISTED:
            raise _Refusal(f"IN has {len(node.expressions):,} values, and {MOST_LISTED:,} are the most")
        listed = ", ".join(_value(value, ()) for value in node.expressions)
        return f"{_value(node.this, columns)} IN ({listed})"
    if kind is exp.Like and (_has(node, "this", "expression") or _has(node, "this", "expression", "negate")):
        inverted = "NOT " if node.args.get("negate") else ""
        return f"{_value(node.this, columns)} {inverted}LIKE {_value(node.expression, ())}"
    if kind is exp.Between and _has(node, "this", "low", "high"):
        low, high = (_value(node.args[name], columns) for name in ("low", "high"))
        return f"{_value(node.this, columns)} BETWEEN {low} AND {high}"
    if kind is exp.Is and _has(node, "this", "expression"):
        if not isinstance(node.expression, exp.Null):
            raise _Refusal("IS takes only NULL or NOT NULL; compare TRUE and FALSE with =")
        return f"{_value(node.this, columns)} IS NULL"
    if kind in (exp.Column, exp.Boolean):
        return _value(node, columns)
    raise _Refusal(f"{node.sql()[:_SHOWN]} is not a condition")


def _value(node: exp.Expr, columns: Sequence[str]) -> str:
    """A column or a literal."""
    node = node.unnest()
    if isinstance(node, exp.Column) and _has(node, "this") and _has(node.this, "this", "quoted"):
        if node.name in columns:
            return f"`{node.name.replace('`', '``')}`"
        raise _Refusal(f"expected a literal instead of {node.name}")
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
        raise _Refusal(f"{text[:_SHOWN]} is not a number")
    return text


def _text(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _has(node: exp.Expr, *names: str) -> bool:
    """Whether a node has these parts and no others, so that nothing is lost when it is written out again."""
    return {name for name, part in node.args.items() if part} == set(names)
