"""Output of one task: order, pieces, bounds."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from secure_ipp import limits
from secure_ipp.engine.output import Shown, TaskOutput, Text


def test_neighbours_travel_together_and_order_holds() -> None:
    output = TaskOutput(1)
    for name, text in (("stdout", "a"), ("stdout", "b"), ("stderr", "c"), ("stdout", "d")):
        output.write(name, text)  # type: ignore[arg-type]
    assert output.show("display_data", "{}")
    output.write("stdout", "e")
    assert output.take() == [
        Text("stdout", "ab"), Text("stderr", "c"), Text("stdout", "d"), Shown("display_data", "{}"),
        Text("stdout", "e"),
    ]  # fmt: skip
    assert output.take() == []
    assert not output


def test_cut_is_said_once() -> None:
    output = TaskOutput(1, bound=10)
    for _ in range(5):
        output.write("stdout", "123456")
    text = "".join(event.text for event in output.take() if isinstance(event, Text))
    assert text.startswith("1234561234\n")
    assert text.count("output cut") == 1


def test_displays_have_a_bound_of_their_own() -> None:
    output = TaskOutput(1, show_bound=10)
    assert output.show("display_data", "12345678")
    assert not output.show("display_data", "12345678")
    assert not TaskOutput(1).show("display_data", "x" * limits.FRAME_BYTES)


@given(st.lists(st.tuples(st.sampled_from(["stdout", "stderr"]), st.text(st.characters(), max_size=50)), max_size=20))
def test_every_event_can_be_sent(pieces: list[tuple[str, str]]) -> None:
    output = TaskOutput(1)
    for name, text in pieces:
        output.write(name, text)  # type: ignore[arg-type]
    for event in output.take():
        assert isinstance(event, Text)
        event.text.encode()
        assert len(event.text) <= limits.OUTPUT_EVENT_BYTES
