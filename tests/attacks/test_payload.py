"""Attacks on what is carried: functions swapped on the way, bodies that overrun.

S15: a digest is recomputed by whoever receives the function.  (What pickles of hostile engines do: `test_results`.)
"""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secure_ipp.errors import ProtocolError
from secure_ipp.payload.body import Assembly
from secure_ipp.payload.functions import pack_function
from secure_ipp.payload.objects import dumps
from secure_ipp.wire import messages
from tests.engine.conftest import stage as stage  # the fixture
from tests.engine.stage import Stage

# --- bodies ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "pieces",
    [[(1, b"a")], [(0, b"abcdef"), (6, b"g")], [(0, b"abc"), (2, b"c")], [(0, b"ab"), (4, b"ef")], [(0, b"abcdefg")],
     [(-1, b"a")], [(0, b"abc"), (0, b"abc")]],
)  # fmt: skip
def test_gaps_overlaps_and_overruns_are_protocol_errors(pieces: list[tuple[int, bytes]]) -> None:
    assembly = Assembly([2, 0, 4])
    with pytest.raises(ProtocolError):
        for offset, piece in pieces:
            assembly.add(offset, piece)


@given(st.lists(st.tuples(st.integers(-2, 12), st.binary(max_size=6)), max_size=8))
def test_assembly_never_holds_more_than_was_announced(pieces: list[tuple[int, bytes]]) -> None:
    assembly = Assembly([3, 5])
    taken = b""
    for offset, piece in pieces:
        try:
            assembly.add(offset, piece)
        except ProtocolError:
            assert offset != len(taken) or len(taken) + len(piece) > 8
        else:
            taken += piece
    assert assembly.received == len(taken) <= 8
    if assembly.complete:
        assert b"".join(bytes(buffer) for buffer in assembly.buffers()) == taken


# --- functions ------------------------------------------------------------------------------------------------


@pytest.mark.live
def test_s15_poisoned_function_is_refused_at_the_engine(stage: Stage) -> None:
    """A scheduler (or whoever sits in it) swaps a function's bytes: nothing runs, the task says so, others go on."""
    (uuid,) = stage.up(1)
    good, evil = pack_function(os.getpid), pack_function(os.getcwd)
    stage.say(uuid, messages.Assign(1, "owner", "t1", 1, b"", "apply", good.digest, dumps(((), {})), []))  # type: ignore[arg-type]
    stage.wait_for(messages.EngineNeedsFunction, uuid)
    stage.say(uuid, messages.EngineFunction("owner", good.digest, evil.code))
    result = stage.result(uuid, 1)
    assert result.error is not None and result.error.ename == "ProtocolError"
    stage.say(uuid, messages.Assign(2, "somebody-else", "t2", 1, b"", "apply", evil.digest, dumps(((), {})), []))  # type: ignore[arg-type]
    asked, _ = stage.wait_for(messages.EngineNeedsFunction, uuid)
    assert asked.owner == "somebody-else", "one owner's functions never serve another's tasks"
    stage.say(uuid, messages.EngineFunction("somebody-else", evil.digest, evil.code))
    assert stage.value(uuid, 2) == str(stage.tmp_path)


@pytest.mark.live
def test_s15_body_that_overruns_ends_its_task_only(stage: Stage) -> None:
    (uuid,) = stage.up(1)
    next(stage.numbers[uuid])
    packed = pack_function(os.getpid)
    stage.say(uuid, messages.EngineFunction("owner", packed.digest, packed.code))
    stage.say(uuid, messages.Assign(1, "owner", "t1", 1, b"", "apply", packed.digest, [], [200_000]))
    stage.say(uuid, messages.EngineChunk(1, 0), bytes(200_001))
    result = stage.result(uuid, 1)
    assert result.error is not None and result.error.ename == "ProtocolError"
    assert stage.apply(uuid, os.getpid) > 0
