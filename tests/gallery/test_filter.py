"""Filters from outside: the right rows for good ones, a refusal that names the part for all others."""

import sys
import time
from datetime import datetime
from operator import eq, ge, gt, le, lt, ne

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from cace_pyg.gallery.filter import MOST_CHARACTERS, checked_filter
from cace_pyg.gallery.gallery_table import Entry, GalleryTable
from cace_pyg.gallery.page import gallery_page
from cace_pyg.search import main as search

COLUMNS = ["image", "sha256", "camera", "time", "added", "pid", "size", "indoors", "left", "order", "case"]
ROWS = {  # camera, minute of the time, pid, size, indoors, left, order
    "a": ("c1", 0, 1, 0.5, True, 10, "x"),
    "b": ("c2", 1, -1, 1.5, False, 20, "it's"),
    "c": ("c2", 2, 3, None, None, 30, "50%"),
    "d": (None, None, 4, -2.0, True, None, "a;b"),
}


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    made = GalleryTable.create(tmp_path_factory.mktemp("filter") / "people.lance", 2, {})
    names = ("pid", "size", "indoors", "left", "order", "case")
    made.put(
        [
            Entry(
                image, "0", [1, 0], b"", b"", camera, None if minute is None else datetime(2026, 1, 31, 12, minute),
                dict(zip(names, [*told, told[-1]], strict=True)),
            )
            for image, (camera, minute, *told) in ROWS.items()
        ]
    )  # fmt: skip
    return made


def rows_of(table, where):
    return "".join(sorted(row["image"] for row in table.rows(table.checked(where), ["image"])))


@pytest.mark.parametrize(
    ("where", "images"),
    [
        ("camera = 'c2'", "bc"),
        ("camera == 'c2'", "bc"),
        ("'c2' = camera", "bc"),
        ("camera != 'c2'", "a"),
        ("camera <> 'c2'", "a"),
        ("CAMERA = 'c1'", "a"),
        ("`camera` = 'c1' or \"camera\" = 'c2'", "abc"),
        ("camera IN ('c1')", "a"),
        ("camera not in ('c1', 'x')", "bc"),
        ("pid in (-1, 3)", "bc"),
        ("pid not in (-1, 3)", "ad"),
        ("camera LIKE '%2'", "bc"),
        ("camera not like '_2'", "a"),
        ("NOT camera LIKE '_2'", "a"),
        ("`order` LIKE '50\\%'", "c"),
        ("pid BETWEEN 1 AND 3", "ac"),
        ("pid not between 1 and 3", "bd"),
        ("pid between 1 and 3 and camera = 'c1'", "a"),
        ("camera IS NULL", "d"),
        ("camera is not null", "abc"),
        ("not camera is null", "abc"),
        ("size > 1", "b"),
        ("size >= .5 and size < 1e0", "a"),
        ("size <= -2.", "d"),
        ("pid = -1", "b"),
        ("-1 = pid", "b"),
        ("pid > size", "ad"),
        ("time > timestamp '2026-01-31 12:00:00'", "bc"),
        ("time <= timestamp '2026-01-31T12:01:00'", "ab"),
        ("time between timestamp '2026-01-31 12:01:00' and timestamp '2026-01-31 12:02:00'", "bc"),
        ("timestamp '2026-01-31' < time", "abc"),
        ("indoors", "ad"),
        ("not indoors", "b"),
        ("indoors = false", "b"),
        ("indoors = TRUE AND pid = 1", "a"),
        ("left = 20 or order = 'x'", "ab"),
        ("case = 'x'", "a"),
        ("order = 'it''s'", "b"),
        ("order = 'a;b'", "d"),
        ("order = 'a--b' or order = '/* x */' or order = ''", ""),
        ("order = '\\' or pid = 3", "c"),
        ("camera = 'c1' or camera = 'c2' and pid = 3", "ac"),
        ("(camera = 'c1' or camera = 'c2') and pid = 3", "c"),
        ("not camera = 'c1' and pid < 4", "bc"),
        ("not (camera = 'c1' or pid = 3)", "b"),
        ("not (camera = 'c1' and pid = 1) and pid > 0", "cd"),
        ("not not pid = 1", "a"),
        ("((pid) = ((1)))", "a"),
        ("TRUE", "abcd"),
        ("1 = 1", "abcd"),
        ("false or pid = 1", "a"),
        (" OR ".join(f"pid = {number}" for number in range(3, 203)), "cd"),
        ("pid IN (" + ", ".join(str(number) for number in range(3, 1003)) + ")", "cd"),
        ("(" * 10 + "not pid = 1 or pid = 1" + ")" * 10, "abcd"),
        ("not (not (" * 5 + "pid = 1" + "))" * 5, "a"),
        ("not " * 10 + "pid = 1", "a"),
    ],
)  # fmt: skip
def test_a_good_filter_gives_its_rows(table, where, images):
    assert rows_of(table, where) == images


@pytest.mark.parametrize(
    ("where", "why"),
    [
        ("length(repeat(image,20000000))>1", "length(…) is a function"),
        ("pid = 1 or repeat (image, 9) = ''", "repeat(…) is a function"),
        ("pid(1) = 1", "pid(…) is a function"),
        ("`pid`(1) = 1", "is not an SQL condition|neither"),
        ("regexp_like(image, '(a*)*b')", "regexp_like(…) is a function"),
        ("now() > time", "now(…) is a function"),
        ("cast(pid as text) = '1'", "cast(…) is a function"),
        ("pid::text = '1'", ":: is not allowed in a filter"),
        ("case when pid = 1 then true else false end", "when is not allowed in a filter"),
        ("exists (select 1)", "exists(…) is a function"),
        ("pid in (select 1)", "select is not allowed in a filter"),
        ("(select 1) = 1", "select is not allowed in a filter"),
        ("select 1", "select is not allowed in a filter"),
        ("drop table images", "drop is not allowed in a filter"),
        ("pid = any (1)", "any(…) is a function"),
        ("camera || camera = 'c1c1'", "|| is not allowed in a filter"),
        ("pid + 1 = 2", "+ is not allowed in a filter"),
        ("pid - 1 = 2", "is neither a column nor a literal"),
        ("pid - - 1 = 2", "- can only stand before a number"),
        ("-pid = 1", "- can only stand before a number"),
        ("pid * 2 = 2", "* is not allowed in a filter"),
        ("pid % 2 = 0", "% is not allowed in a filter"),
        ("pid & 1 = 1", "& is not allowed in a filter"),
        ("camera ~ 'c.*'", "~ is not allowed in a filter"),
        ("camera ilike 'C1'", "ilike is not allowed in a filter"),
        ("camera similar to 'c'", "No field named similar|is not allowed in a filter"),
        ("camera like 'c' escape 'x'", "escape is not allowed in a filter"),
        ("camera like camera", "LIKE takes only a pattern"),
        ("camera like ('%')", "LIKE takes only a pattern"),
        ("camera is true", "IS takes only NULL"),
        ("indoors is not false", "IS takes only NULL"),
        ("camera = null", "write IS NULL"),
        ("camera is distinct from 'c1'", "is not allowed in a filter|No field named"),
        ("camera collate nocase = 'c1'", "is not allowed in a filter|No field named"),
        ("(camera, pid) in (1)", "neither a column nor a literal"),
        ("pid in (camera)", "expected a literal instead of camera"),
        ("pid in ()", "is not a condition"),
        ("pid in 1", "is not a condition"),
        ("pid in camera", "is not a condition"),
        ("(pid = 1) = true", "\"pid\" = 1 is neither a column nor a literal"),
        ("pid = pid = pid", "is neither a column nor a literal"),
        ("pid is null is null", "is neither a column nor a literal"),
        ("'text'", "is not a condition"),
        ("1", "is not a condition"),
        ("pid", "a column alone is no condition"),
        ("images.pid = 1", "No field named images"),
        ("pid.pid = 1", ". is not allowed in a filter"),
        ("pid[0] = 1", "No field named 0"),
        ("embedding is null", "No field named embedding"),
        ("clues is null", "No field named clues"),
        ("thumbnail is null", "No field named thumbnail"),
        ("_rowid = 1", "No field named _rowid"),
        ('camera = "c1"', "No field named c1; text is written in single quotes"),
        ("`CAMERA` = 'c1'", "No field named CAMERA"),
        ("interval '1 day' > time", "interval is not allowed in a filter"),
        ("time > date '2026-01-31'", "date is not allowed in a filter|No field named date"),
        ("time > timestamp with time zone '2026-01-31'", "is not allowed in a filter|No field named"),
        ("time > timestamp 'noon'", "Error parsing timestamp"),
        ("time > timestamp", "No field named timestamp|is not allowed in a filter"),
        ("x'00' = camera", "is not allowed in a filter"),
        ("pid = 0x1F", "is not allowed in a filter"),
        ("pid = 1_0", "No field named _0|is not allowed in a filter"),
        ("size = 1e400", "1e400 is not a number"),
        ("pid = " + "9" * 400, "is not a number"),
        ("pid.5 = 1", "is neither|is not an SQL condition"),
        ("size = .5.5", "0.5.5 is not a number"),
        ("size = .1e999", "0.1e999 is not a number"),
        ("pid = ?", "? is not allowed in a filter"),
        ("pid = :x", ": is not allowed in a filter"),
        ("pid = $1", "is not allowed in a filter"),
        ("pid = {{ x }}", "{ is not allowed in a filter"),
        ("pid = 1 -- and camera = 'c1'", "a comment, \"and camera = 'c1'\""),
        ("pid /* x */ = 1", "a comment, 'x'"),
        ("/* x */", "it is empty"),
        ("pid = 1; drop table images", "without a ; outside quotes"),
        ("pid = 1;", "without a ; outside quotes"),
        ("pid = 1 pid = 2", "is not an SQL condition"),
        ("camera = 'c1' 'c2'", "neither a column nor a literal|is not an SQL condition"),
        ("camera = 'c1' and", "is not an SQL condition"),
        ("(pid = 1", "is not an SQL condition"),
        ("pid = 1)", "is not an SQL condition"),
        ("camera = 'c1", "a quote is open"),
        ("camera = \udcff", "not Unicode text"),
        ("camera = 'c1\x00'; x", "without a ; outside quotes"),
        (" ", "it is empty"),
        ("pid = 'x'", "is text, and the column contains a whole number; numbers are without quotes"),
        ("camera = 1", "1 is a whole number, and the column contains text; text is in quotes, 'like this'"),
        ("camera in (1, 2)", "1 is a whole number, and the column contains text"),
        ("pid = 1.5", "1.5 is a number, and the column contains a whole number"),
        ("indoors = 1", "1 is a whole number, and the column contains TRUE or FALSE"),
        ("time = '2026-01-31'", "is text, and the column contains a time; write timestamp '2026-01-31 12:00:00'"),
        ("pid = camera", "the two columns contain values of different types"),
        ("pid like '1'", "LIKE is for columns of text"),
        ("(" * 10_000 + "pid = 1" + ")" * 10_000, "20,007 characters"),
        ("(" * 9_000 + "pid = 1" + ")" * 9_000, "nested deeper than 10"),
        (")" * 9_000 + "(" * 9_000, "is not an SQL condition"),
        ("(" * 11 + "pid = 1" + ")" * 11, "nested deeper than 10"),
        ("not " * 4_000 + "indoors", "nested deeper than 10"),
        ("not(" * 4_000 + "indoors", "nested deeper than 10"),
        ("pid = " + "-" * 9_000 + "1", "comment|- can only"),
        ("pid = " + "- " * 9_000 + "1", "- can only stand before a number"),
        ("case " * 3_000, "is not an SQL condition"),
        ("[" * 9_000, "a quote is open"),
        ("pid." * 4_000 + "pid = 1", ". is not allowed in a filter"),
        ("pid = " * 3_000 + "1", "neither a column nor a literal"),
        ("pid is null " + "is null " * 2_000, "neither a column nor a literal"),
        (" and ".join(["pid = 1"] * 201), "more than 200 conditions"),
        ("pid in (" + ",".join(["1"] * 1_001) + ")", "IN has 1,001 values"),
        ("camera like '" + "%a" * 101 + "'", "101 of % and _"),
        (" or ".join(["camera like '%_'"] * 51), "102 of % and _"),
        ("camera = '" + "x" * MOST_CHARACTERS + "'", "20,011 characters, and 20,000 are the most"),
    ],
)  # fmt: skip
def test_everything_else_is_refused_by_name(table, where, why):
    started = time.perf_counter()
    with pytest.raises(ValueError) as refused:
        rows_of(table, where)
    message = str(refused.value)
    assert message.startswith("cannot filter by") and any(reason in message for reason in why.split("|")), message
    assert "columns: image, sha256, camera, time, added, pid" in message
    assert len(message) < 1_000 and message.count("\n") < 5 and time.perf_counter() - started < 2


WORDS = st.one_of(
    st.sampled_from(["camera", "pid", "indoors", "time", "`order`", "length", "x", "select", "case", "when"]),
    st.sampled_from(["'c1'", "'it''s'", "'%'", "1", "-1", "2.5", "timestamp '2026-01-31'", "true", "null"]),
    st.sampled_from(["=", "!=", "<", ">=", "and", "or", "not", "in", "like", "between", "is", "(", ")", ","]),
    st.sampled_from([".", "[", ";", "--", "/*", '"', "'", "`", "::", "\\", "-", "+", "timestamp"]),
)


@given(st.lists(WORDS, max_size=12).map(" ".join))
@settings(max_examples=600, deadline=None)
def test_any_words_at_all_give_rows_or_a_refusal(table, where):
    try:
        found = rows_of(table, where)
    except ValueError as refused:
        assert "cannot filter by" in str(refused)
    else:
        again = table.checked(where)
        assert table.checked(again) == again and rows_of(table, again) == found


LEAVES = st.one_of(
    st.sampled_from(["pid", "left"]).flatmap(
        lambda name: st.tuples(
            st.just(name), st.sampled_from(["=", "!=", "<", "<=", ">", ">="]), st.sampled_from([-1, 1, 3, 20])
        )
    ),
    st.tuples(st.sampled_from(["camera", "left"]), st.sampled_from(["IS NULL", "IS NOT NULL"])),
    st.just(("indoors",)),
)
TREES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.tuples(st.just("NOT"), inner), st.tuples(st.sampled_from(["AND", "OR"]), inner, inner, inner)
    ),
    max_leaves=8,
)
COMPARED = {"=": eq, "!=": ne, "<": lt, "<=": le, ">": gt, ">=": ge}
BINDS = {"OR": 0, "AND": 1, "NOT": 2}


def written(tree, outer=-1):
    """As a person would: parentheses only where they are needed."""
    if tree[0] not in BINDS:
        return " ".join(map(str, tree))
    parts = [written(part, BINDS[tree[0]]) for part in tree[1:]]
    text = f"NOT {parts[0]}" if tree[0] == "NOT" else f" {tree[0]} ".join(parts)
    return f"({text})" if BINDS[tree[0]] < outer or outer == 2 else text


def true_of(tree, row):
    """True, False, or None where that is not known, as SQL has it."""
    kind, *parts = tree
    if kind == "NOT":
        inner = true_of(parts[0], row)
        return None if inner is None else not inner
    if kind in ("AND", "OR"):
        found, decides = [true_of(part, row) for part in parts], kind == "OR"
        return decides if decides in found else None if None in found else not decides
    value = row[kind]
    if parts and parts[0].startswith("IS"):
        return (value is None) == (parts[0] == "IS NULL")
    if value is None or not parts:
        return value
    return COMPARED[parts[0]](value, parts[1])


@given(TREES)
@settings(max_examples=200, deadline=None)
def test_any_condition_means_what_sql_says(table, tree):
    names = ("camera", "minute", "pid", "size", "indoors", "left", "order")
    expected = [image for image, told in ROWS.items() if true_of(tree, dict(zip(names, told, strict=True)))]
    assert rows_of(table, written(tree)) == "".join(expected)


def test_what_runs_is_written_anew():
    assert checked_filter("`Odd ``Name` = 'x' AnD NoT Pid<>- 1", ["Odd `Name", "pid"]) == (
        "(`Odd ``Name` = 'x' AND (NOT `pid` != -1))"
    )
    assert checked_filter("timestamp > timestamp '2026-01-31'", ["timestamp"]) == "`timestamp` > timestamp '2026-01-31'"


def test_a_refused_filter_removes_nothing(shown_gallery, pictures):
    before = len(shown_gallery)
    with pytest.raises(ValueError, match="length.…. is a function"):
        shown_gallery.remove(pictures[:1], where="length(image) > 1")
    assert len(shown_gallery) == before


def test_the_page_and_the_command_refuse_it_too(shown_gallery, pictures, capsys):
    where = "length(repeat(image,20000000))>1"
    client = TestClient(gallery_page(shown_gallery, ["testserver"]))
    answer = client.post("/search", params={"where": where}, content=pictures[0].read_bytes())
    assert answer.status_code == 400 and "length(…) is a function" in answer.json()["error"]
    for command in (["query", str(pictures[0])], ["remove"]):
        assert search([*command, "--gallery", str(shown_gallery.path), "--where", where]) == 2
        assert "length(…) is a function" in capsys.readouterr().err


def test_without_sqlglot_the_error_names_the_extra(shown_gallery, pictures, monkeypatch):
    monkeypatch.delitem(sys.modules, "cace_pyg.gallery.filter")
    monkeypatch.setitem(sys.modules, "sqlglot", None)
    with pytest.raises(RuntimeError, match=r"sqlglot.*pip install 'cace-pyg\[gallery\]'"):
        shown_gallery.search(pictures[0], where="pid = 1")
    assert len(shown_gallery.search(pictures[0], top_k=3)) == 3
