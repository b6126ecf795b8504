"""A bar on a terminal; elsewhere lines, few and whole."""

import io
import sys
from contextlib import redirect_stderr
from itertools import islice

import pytest
from tqdm import tqdm

from cace_pyg import progress
from cace_pyg.progress import progress_bar, write_line


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    """Seconds since some time; a test lets them pass."""
    seconds = [100.0]
    monkeypatch.setattr(progress, "perf_counter", lambda: seconds[0])
    return seconds


def walk(bar, clock, seconds):
    for _ in bar:
        clock[0] += seconds


def test_a_short_loop_is_one_line(clock, capsys):
    bar = progress_bar(range(45), desc="joint 7/60", unit="step")
    for _ in bar:
        clock[0] += 0.2
        bar.set_postfix({"identity": "5.55", "triplet": "0.58"})
    assert capsys.readouterr().err == "joint 7/60: 45/45 step, 9.0 s, identity=5.55, triplet=0.58\n"


def test_a_long_loop_has_a_line_each_half_minute(clock, capsys):
    walk(progress_bar(range(9), desc="decode", unit="picture"), clock, 10.0)
    done = ("3/9 picture, 30.0 s", "6/9 picture, 60.0 s", "9/9 picture, 90.0 s")
    assert capsys.readouterr().err == "".join(f"decode: {line}\n" for line in done)  # the last is not said twice


@pytest.mark.parametrize(("seconds", "lines"), [(1.0, []), (8.0, ["4/5 batch, 32.0 s", "5/5 batch, 40.0 s"])])
def test_what_does_not_stay_has_lines_if_it_is_long(clock, capsys, seconds, lines):
    walk(progress_bar(range(5), desc="extract", unit="batch", leave=False), clock, seconds)
    assert capsys.readouterr().err.splitlines() == [f"extract: {line}" for line in lines]


def test_counted_by_hand(clock, capsys):
    with progress_bar(total=8, desc="ablation", unit="run") as bar:
        bar.set_postfix_str("mix-up, seed0")
        bar.update(3)
        clock[0] += 31
        bar.update()
        assert capsys.readouterr().err == "ablation: 4/8 run, 31.0 s, mix-up, seed0\n"
        bar.update(4)
    bar.close()
    assert capsys.readouterr().err == "ablation: 8/8 run, 31.0 s, mix-up, seed0\n"


def test_a_loop_that_fails_says_how_far_it_came(clock, capsys):
    with pytest.raises(KeyboardInterrupt):
        for step in progress_bar(range(9), desc="joint 1/2", unit="step"):
            if step == 4:
                raise KeyboardInterrupt
    assert capsys.readouterr().err == "joint 1/2: 4/9 step, 0.0 s\n"


def test_a_number_that_is_not_known_is_left_out(clock, capsys):
    assert list(progress_bar(islice("abc", 2), desc="parse", unit="picture")) == ["a", "b"]
    assert capsys.readouterr().err == "parse: 2 picture, 0.0 s\n"


@pytest.mark.parametrize("file", [io.StringIO, Terminal])
def test_disabled_is_silent(monkeypatch, file):
    monkeypatch.setattr(sys, "stderr", file())
    assert list(progress_bar("abc", desc="parse", unit="picture", disable=True)) == ["a", "b", "c"]
    assert sys.stderr.getvalue() == ""


def test_a_terminal_has_the_bar_of_tqdm(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    bar = progress_bar(range(3), desc="decode", unit="picture")
    assert type(bar) is tqdm and list(bar) == [0, 1, 2]
    assert "\rdecode: 100%|" in sys.stderr.getvalue()


def test_an_output_that_is_turned_to_a_file_holds_lines(monkeypatch, tmp_path):
    """A run of an ablation, whose own bar is on the terminal."""
    monkeypatch.setattr(sys, "stderr", Terminal())
    path = tmp_path / "run.txt"
    with progress_bar(total=1, desc="ablation", unit="run") as outer, path.open("w") as file:
        with redirect_stderr(file):
            list(progress_bar("abc", desc="joint 1/1", unit="step"))
            assert path.read_text().startswith("joint 1/1: 3/3 step, ")  # at once: the run goes on
        outer.update()
    assert "joint" not in sys.stderr.getvalue() and "\r" not in path.read_text()


def test_messages_are_plain_lines_in_their_place(monkeypatch, clock):
    file = io.StringIO()
    monkeypatch.setattr(sys, "stdout", file)
    monkeypatch.setattr(sys, "stderr", file)
    bar = progress_bar(total=2, desc="joint 1/1", unit="step")
    bar.update()
    write_line("going on, after epoch 3 of 9")
    bar.update()
    bar.close()
    assert file.getvalue() == "going on, after epoch 3 of 9\njoint 1/1: 2/2 step, 0.0 s\n"
