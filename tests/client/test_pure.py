"""Partitions, dependencies, harmless text, history, errors: what needs no session."""

from __future__ import annotations

import builtins
import pickle
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secure_ipp import limits
from secure_ipp.client.chunks import for_chunks
from secure_ipp.client.dependency import Dependency
from secure_ipp.client.errors import (
    CompositeError,
    EngineError,
    ImpossibleDependency,
    InvalidDependency,
    RemoteError,
    UnmetDependency,
    collect_exceptions,
    remote_error,
)
from secure_ipp.client.history import History
from secure_ipp.client.partition import as_sequences, partition
from secure_ipp.client.tasks import Call, Task
from secure_ipp.client.terminal import harmless
from secure_ipp.errors import SecureIppError, UsageError
from secure_ipp.payload import markers

from .fake import failed, outcome


class TestPartitions:
    @given(st.lists(st.integers()), st.integers(1, 9), st.sampled_from("br"))
    def test_cut_and_joined_it_is_the_same(self, sequence, parts, dist):
        way = partition(dist)
        pieces = way.split(sequence, parts)
        assert len(pieces) == parts
        assert way.join(pieces) == sequence
        lengths = [len(piece) for piece in pieces]
        assert max(lengths) - min(lengths) <= 1
        assert lengths == sorted(lengths, reverse=True)

    @pytest.mark.parametrize("dist", ["b", "r"])
    def test_arrays_stay_arrays(self, dist):
        way = partition(dist)
        array = np.arange(14).reshape(7, 2)
        joined = way.join(way.split(array, 3))
        assert isinstance(joined, np.ndarray)
        assert (joined == array).all()

    def test_what_is_no_sequence_stands_for_itself(self):
        assert partition("b").join([1, 2]) == [1, 2]
        assert partition("b").join(["ab", "c"]) == ["ab", "c"]

    def test_an_unknown_way_is_an_error(self):
        with pytest.raises(UsageError):
            partition("x")

    def test_iterables_become_sequences_of_one_length(self):
        assert as_sequences([(i for i in range(5)), [1, 2]]) == [[0, 1], [1, 2]]
        with pytest.raises(UsageError):
            as_sequences([])


def test_what_a_function_depends_on_its_chunks_depend_on_too():
    depending = markers.depend(lambda: False)(abs)
    chunk = for_chunks(depending)
    assert isinstance(chunk, markers.dependent)
    with pytest.raises(markers.UnmetDependency):
        chunk.check_dependency()
    with pytest.raises(markers.UnmetDependency):
        chunk([-1, 2])
    assert for_chunks(markers.depend(lambda: True)(abs))([-1, 2]) == [1, 2]
    assert for_chunks(max)([1, 5], [2, 3]) == [2, 5]


class TestDependencies:
    def ended(self, **statuses):
        tasks = {}
        for name, status in statuses.items():
            tasks[name] = Task(name, Call("f", "apply"), 0.0)
            tasks[name].outcome = outcome(name) if status == "ok" else failed(name)
        return tasks.get

    def test_any_and_all(self):
        assert Dependency("ab" and ["a", "b"]).check({"a"}) is False
        assert Dependency(["a", "b"], all=False).check({"a"}) is True
        assert Dependency([]).check(set()) is True

    def test_failures_count_only_if_they_are_asked_for(self):
        assert not Dependency(["a"]).check({"a"}, {"a"})
        assert Dependency(["a"]).unreachable({"a"}, {"a"})
        assert Dependency(["a"], failure=True).check({"a"}, {"a"})
        assert Dependency(["a"], success=False, failure=True).unreachable({"a"})
        with pytest.raises(ValueError, match="successes"):
            Dependency(["a"], success=False)

    def test_as_a_dict_and_back(self):
        made = Dependency(["a"], all=False, failure=True)
        again = Dependency(made.as_dict())
        assert (again, again.all, again.failure) == (made, False, True)

    def test_only_what_names_tasks_will_do(self):
        assert Dependency("whole-id") == {"whole-id"}
        with pytest.raises(TypeError):
            Dependency([5])

    def test_what_is_known_here_to_be_fulfilled_is_not_sent(self):
        find = self.ended(a="ok")
        assert Dependency(["a", "b"]).on_wire(find) == (["b"], 5)
        assert Dependency(["a"]).on_wire(find) == ([], 5)
        assert Dependency(["a", "b"], all=False).on_wire(find) == ([], 4)

    def test_but_it_is_where_the_place_matters(self):
        assert Dependency(["a", "b"]).on_wire(self.ended(a="ok"), place=True) == (["a", "b"], 5)

    def test_what_can_never_be_fulfilled_is_an_error_at_once(self):
        with pytest.raises(ImpossibleDependency):
            Dependency(["a", "b"]).on_wire(self.ended(a="error"))


class TestHarmlessText:
    @given(st.text())
    def test_no_control_is_left_but_colour(self, text):
        left = re.sub(r"\x1b\[[0-9;:]*m", "", harmless(text))
        assert not re.search(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]", left)

    @given(st.text(st.characters(blacklist_categories=["Cc", "Cf", "Cs", "Zl", "Zp"])))
    def test_plain_text_stays(self, text):
        assert harmless(text) == text

    @pytest.mark.parametrize(
        "attack",
        ["\x1b]0;title\x07", "\x1b[2J", "\x1b]8;;http://evil\x1b\\", "\x1bP+q\x1b\\", "\x9b31;1m", "\x07", "\x1bc"],
    )
    def test_known_attacks(self, attack):
        left = harmless(f"a{attack}b")
        assert "\x1b" not in left and "\x9b" not in left and "\x07" not in left
        assert left.startswith("a") and left.endswith("b")


class TestErrors:
    def test_a_remote_error_says_what_and_where_and_survives_pickling(self):
        error = RemoteError("ValueError", "no", "trace", {"engine_id": 3, "method": "execute"})
        assert str(error) == "[3:execute] ValueError: no"
        again = pickle.loads(pickle.dumps(error))
        assert (again.ename, again.evalue, again.traceback, again.engine_info) == (
            "ValueError", "no", "trace", {"engine_id": 3, "method": "execute"}
        )

    def test_tracebacks_are_printed(self, capsys):
        error = RemoteError("ValueError", "no", "line 1\nline 2", {"engine_id": 3})
        error.print_traceback()
        assert capsys.readouterr().out == "[3:apply]\nline 1\nline 2\n"
        assert CompositeError("in f", [error] * 9).render_traceback()[-1] == "... and 5 more exceptions"

    def test_a_composite_raises_one_of_its_errors(self):
        composite = CompositeError("in f", [("A", "1", "", {}), EngineError("died")])
        with pytest.raises(EngineError):
            composite.raise_exception(1)
        with pytest.raises(RemoteError, match="A: 1"):
            composite.raise_exception()
        with pytest.raises(IndexError):
            composite.raise_exception(7)
        assert pickle.loads(pickle.dumps(composite)).elist == composite.elist

    def test_collecting(self):
        assert collect_exceptions([1, 2], "f") == [1, 2]
        with pytest.raises(CompositeError):
            collect_exceptions([1, RemoteError("A", "1")], "f")

    def test_the_classes_stand_where_programs_look_for_them(self):
        assert issubclass(InvalidDependency, ImpossibleDependency)
        assert issubclass(ImpossibleDependency, UnmetDependency)
        assert issubclass(UnmetDependency, RemoteError)
        assert issubclass(RemoteError, SecureIppError)
        import secure_ipp

        assert issubclass(secure_ipp.TimeoutError, builtins.TimeoutError)
        assert secure_ipp.error.RemoteError is RemoteError

    def test_text_from_engines_is_made_harmless(self):
        error = remote_error("E\x1b[2J", "v\x07", ["t\x1b]0;x\x07\n"], {})
        assert isinstance(error, RemoteError)
        assert (error.ename, error.evalue, error.traceback) == ("E", "v", "t")


def test_a_history_forgets_the_oldest(monkeypatch):
    monkeypatch.setattr(limits, "CLIENT_HISTORY", 3)
    history = History()
    for number in range(20):
        history.extend([str(number)])
    assert len(history) <= 6
    assert history[-1] == "19"
    assert history[-3:] == ["17", "18", "19"]
