"""What a client does with the scheduler's messages."""

from __future__ import annotations

import gc
import weakref

import pytest

from secure_ipp import limits
from secure_ipp.client.errors import EngineError, KernelError, TaskAborted, UnknownTask
from secure_ipp.client.ledger import Request
from secure_ipp.errors import ControllerUnreachable, PeerError, ProtocolError, Refused
from secure_ipp.payload.body import Stream
from secure_ipp.payload.objects import dumps
from secure_ipp.wire import messages

from .fake import Desk, direct, failed, outcome, welcome


@pytest.fixture
def desk():
    return Desk()


def test_an_outcome_ends_its_task_and_a_second_one_changes_nothing(desk):
    [task] = desk.tasks()
    result = desk.result([task], single=True)
    desk.end(task.id, 42)
    desk.end(task.id, 43)
    assert result.get(0) == 42


def test_an_outcome_of_nobody_is_ignored_and_its_bytes_are_let_go(desk):
    desk.say(outcome("stranger", body=[], sizes=[5]))
    assert desk.connection.take() == [messages.Received(["stranger"])]


def test_a_large_result_is_fetched_with_credit_before_the_task_ends(desk):
    [task] = desk.tasks()
    result = desk.result([task], single=True)
    desk.connection.take()
    value = bytes(2 * limits.CHUNK_BYTES)
    stream = Stream(dumps(value))
    desk.say(outcome(task.id, body=[], sizes=stream.sizes))
    assert desk.connection.take() == [messages.Pull(task.id)]
    pieces = list(stream)
    for offset, piece in pieces[:-1]:
        desk.say(messages.Chunk(task.id, offset), bytes(piece))
        assert desk.connection.take() == [messages.Credit(task.id, piece.nbytes)]
        assert not result.done()
    offset, piece = pieces[-1]
    desk.say(messages.Chunk(task.id, offset), bytes(piece))
    assert desk.connection.take() == [messages.Credit(task.id, piece.nbytes), messages.Received([task.id])]
    assert result.get(0) == value


def test_chunks_out_of_order_break_the_protocol(desk):
    [task] = desk.tasks()
    desk.result([task])
    desk.say(outcome(task.id, body=[], sizes=[limits.CHUNK_BYTES * 2]))
    with pytest.raises(ProtocolError):
        desk.say(messages.Chunk(task.id, 7), b"xx")


def test_a_result_lost_on_its_way_ends_as_the_second_outcome_says(desk):
    [task] = desk.tasks()
    result = desk.result([task], single=True)
    desk.say(outcome(task.id, body=[], sizes=[10]))
    desk.say(outcome(task.id, body=[], status="lost"))
    assert isinstance(result.exception(0), EngineError)
    desk.say(messages.Chunk(task.id, 0), b"0123456789")  # comes late, of nobody any more


def test_errors_get_their_local_class(desk):
    kinds = {
        "ValueError": KernelError, "EngineError": EngineError, "TaskAborted": TaskAborted,
    }
    for name, kind in kinds.items():
        [task] = desk.tasks()
        result = desk.result([task], single=True)
        desk.say(failed(task.id, name))
        assert isinstance(result.exception(0), kind)
    [task] = desk.tasks()
    result = desk.result([task], single=True)
    desk.say(failed(task.id, known=False))
    assert isinstance(result.exception(0), UnknownTask)


def test_a_new_session_hears_of_functions_and_tasks_again(desk):
    [task] = desk.tasks()
    [request] = desk.submit([task], function=b"d" * 32)
    desk.receiver.on_acknowledged([request])
    desk.connection.take()
    desk.receiver.on_welcome(welcome())
    said = desk.connection.take()
    assert [type(one) for one in said] == [messages.Function, messages.Submit]
    assert said[1].resend == 2


def test_a_resumed_session_hears_nothing_twice(desk):
    desk.submit(desk.tasks())
    desk.connection.take()
    desk.receiver.on_welcome(welcome(resumed=True))
    assert desk.connection.take() == []


def test_a_function_that_was_lost_is_said_again_while_a_task_needs_it(desk):
    [task] = desk.tasks()
    desk.submit([task], function=b"d" * 32)
    desk.connection.take()
    desk.say(messages.NeedFunction(b"d" * 32))
    assert desk.connection.take() == [messages.Function(b"d" * 32, b"code")]
    desk.end(task.id)
    desk.say(messages.NeedFunction(b"d" * 32))
    assert desk.connection.take() == []


def test_arguments_are_streamed_on_request(desk):
    [task] = desk.tasks()
    stream = Stream([b"x" * 10, b"y" * 5])
    request = Request(direct([task.id], sizes=stream.sizes), [task], b"", stream)
    desk.receiver.ledger.open[task.id] = task
    desk.receiver.take(request)
    desk.receiver.send_ready()
    desk.say(messages.Pull(task.id))
    assert desk.connection.take()[1:] == [messages.Chunk(task.id, 0), messages.Chunk(task.id, 10)]
    assert b"".join(desk.connection.frames) == b"x" * 10 + b"y" * 5


def test_arguments_asked_for_after_they_were_let_go_end_the_task(desk):
    [task] = desk.tasks()
    stream = Stream([b"x" * 10])
    desk.receiver.ledger.open[task.id] = task
    desk.receiver.take(Request(direct([task.id], sizes=stream.sizes), [task], b"", stream))
    desk.receiver.send_ready()
    desk.say(messages.Pull(task.id))
    desk.say(messages.Credit(task.id, 10))
    desk.connection.take()
    desk.say(messages.Pull(task.id))
    assert task.outcome is not None and task.outcome.status == "lost"
    assert desk.connection.take() == [messages.Abort(0, [task.id])]


def test_when_there_will_be_no_connection_everything_ends_in_that_error(desk):
    tasks = desk.tasks(2)
    result = desk.result(tasks)
    question = desk.receiver.questions.new(lambda n: messages.QueueStatus(n, []), repeatable=True)
    desk.receiver.on_failed(ControllerUnreachable("gone"))
    assert [type(error) for error in result.get(return_exceptions=True)] == [ControllerUnreachable] * 2
    assert isinstance(question.future.exception(0), ControllerUnreachable)
    assert desk.receiver.closed.is_set()
    late = desk.tasks()
    later = desk.result(late, single=True)
    assert isinstance(later.exception(0), ControllerUnreachable)


def test_a_goodbye_ends_everything_at_once(desk):
    [task] = desk.tasks()
    result = desk.result([task], single=True)
    desk.say(messages.Goodbye("stopped by its owner"))
    assert desk.connection.abandoned
    assert "stopped by its owner" in str(result.exception(0))
    assert isinstance(desk.receiver.error, PeerError)


def test_a_roster_is_whole_or_a_change(desk):
    def info(n):
        return messages.EngineInfo(n, f"u{n}", "h", 1)

    desk.say(messages.Roster([info(1), info(0)], [], True))
    assert desk.receiver.roster.ids == (0, 1)
    desk.say(messages.Roster([info(2)], [0], reasons={0: "it was stopped"}))
    assert desk.receiver.roster.ids == (1, 2)
    assert desk.receiver.roster.reasons == {0: "it was stopped"}
    desk.say(messages.Roster([info(5)], [], True))
    assert desk.receiver.roster.ids == (5,)


def test_output_is_kept_with_its_task_and_output_of_nobody_is_dropped(desk):
    [task] = desk.tasks()
    result = desk.result([task], single=True)
    for text in ("a\n", "b\n"):
        desk.say(messages.Output(task.id, 0, "stdout", text))
    desk.say(messages.Output(task.id, 0, "stderr", "e"))
    desk.say(messages.Output("stranger", 0, "stdout", "x"))
    desk.say(messages.Display(task.id, 0, "display_data", '{"data": {"text/plain": "1"}}'))
    desk.say(messages.Display(task.id, 0, "data", '{"data": {"step": 3}}'))
    desk.say(messages.Display(task.id, 0, "display_data", "no json"))
    assert (result.stdout, result.stderr) == ("a\nb\n", "e")
    assert result.outputs == [{"data": {"text/plain": "1"}}]
    assert result.data == {"step": 3}


def test_answers_reach_their_questions(desk):
    from msgspec.msgpack import encode

    ask = desk.receiver.questions.new
    status = ask(lambda n: messages.QueueStatus(n, []), repeatable=True)
    desk.say(messages.Answer(status.message.request, encode({"engines": {}})))
    assert status.future.result(0) == {"engines": {}}
    refused = ask(lambda n: messages.Signal(n, [], 2), repeatable=False)
    desk.say(messages.Failure(refused.message.request, "refused", "the right `control` is missing", "ask the owner"))
    error = refused.future.exception(0)
    assert isinstance(error, Refused)
    assert error.advice == "ask the owner"
    desk.say(messages.Answer(999, b""))  # nobody waits for it


def test_harmless_questions_are_asked_again_in_a_new_session_and_others_end(desk):
    ask = desk.receiver.questions.new
    status = ask(lambda n: messages.QueueStatus(n, []), repeatable=True)
    signal = ask(lambda n: messages.Signal(n, [], 2), repeatable=False)
    unsent = ask(lambda n: messages.QueueStatus(n, []), repeatable=True)
    status.sent = signal.sent = True
    desk.receiver.on_welcome(welcome())
    assert desk.connection.take() == [status.message]
    assert isinstance(signal.future.exception(0), PeerError)
    assert not unsent.future.done()


def test_what_nobody_holds_any_more_is_freed(desk):
    [task] = desk.tasks()
    result = desk.result([task], single=True)
    desk.end(task.id, 1)
    desk.connection.tokens.clear()  # a link holds its tokens until they are acknowledged
    gone = weakref.ref(task)
    assert task.id in desk.receiver.finished
    gc.disable()
    try:
        del task, result
        assert gone() is None, "something keeps a finished task, or a cycle does"
    finally:
        gc.enable()
    assert len(desk.receiver.finished) == 0


def test_a_pending_result_that_was_dropped_still_calls_back(desk):
    import threading

    called = threading.Event()
    [task] = desk.tasks()
    desk.result([task], single=True).add_done_callback(lambda f: called.set())
    gc.collect()
    desk.end(task.id, 1)
    assert called.wait(5)
    desk.receiver.callbacks.end()


def test_a_failing_callback_stops_nothing(desk, caplog):
    import threading

    seen = []
    done = threading.Event()
    tasks = desk.tasks(2)
    results = [desk.result([task], single=True) for task in tasks]
    results[0].add_done_callback(lambda f: 1 / 0)
    results[1].add_done_callback(lambda f: (seen.append(f.result()), done.set()))
    for task in tasks:
        desk.end(task.id, 7)
    assert done.wait(5)
    assert seen == [7]
    desk.receiver.callbacks.end()


def test_after_a_restart_engines_are_given_a_moment_to_return(desk):
    import threading

    def info(n):
        return messages.EngineInfo(n, f"u{n}", "h", 1)

    desk.receiver.on_welcome(welcome())
    desk.say(messages.Roster([info(0), info(1)], [], True))
    desk.receiver.on_welcome(welcome())
    desk.say(messages.Roster([], [], True))
    threading.Timer(0.05, lambda: desk.say(messages.Roster([info(0), info(1)], []))).start()
    desk.receiver.gather()
    assert desk.receiver.roster.ids == (0, 1)
