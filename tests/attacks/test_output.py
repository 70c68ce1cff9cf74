"""Attacks on whoever looks: what engines, hosts and controllers say, on its way to a terminal or a notebook (S31)."""

from __future__ import annotations

import base64
import io
import json
import re
import struct
import sys
import types
import warnings
import zlib
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from secure_ipp import limits
from secure_ipp.cli import demo, status
from secure_ipp.cli.running import say
from secure_ipp.client import outputs
from secure_ipp.client.connecting import warn_of_python
from secure_ipp.client.errors import CompositeError, NoSuchEngine, RemoteError, TaskAborted
from secure_ipp.client.images import IMAGE_SIDE, is_picture
from secure_ipp.client.questions import error_of
from secure_ipp.client.replies import _MIME_TYPES, ExecuteReply
from secure_ipp.client.tasks import Call, Task
from secure_ipp.client.terminal import harmless, line, show_text
from secure_ipp.wire import messages
from secure_ipp.wire.connection import Connection
from tests.client.fake import Desk, failed, outcome, welcome

ATTACKS = {
    "title": "\x1b]0;owned\x07", "title with ST": "\x1b]2;owned\x1b\\", "unended title": "\x1b]0;owned",
    "clear": "\x1b[2J",
    "cursor": "\x1b[1A\x1b[2K", "link": "\x1b]8;;http://evil\x1b\\x\x1b]8;;\x1b\\",
    "clipboard": "\x1b]52;c;ZXZpbA==\x07",
    "device control": "\x1bP+q544e\x1b\\", "reset": "\x1bc", "bell": "\x07", "C1 CSI": "\x9b2J",
    "C1 OSC": "\x9d0;owned\x9c",
    "C1 DCS": "\x90q\x9c", "next line": "\x85", "charset": "\x1b(0", "answerback": "\x05", "report": "\x1b[6n",
    "insert": "\x1b[?1049h", "nested": "\x1b\x1b[31m\x1b[2J", "hidden": "\x1b[8m", "hidden among": "\x1b[1;8;31m",
    "hidden behind": "\x1b[38;5;1;8m",
    "hidden with a zero": "\x1b[08m", "hidden in parts": "\x1b[8:1m", "hidden in no colour": "\x1b[38;8m",
    "split": "\x1b[\x1b[2J", "backspace": "rm x\b\b\b\bls  ", "return": "innocent\rrm -rf", "vertical tab": "\x0b",
    "form feed": "\x0c", "delete": "\x7f", "override": "a\u202etxt.exe", "isolate": "\u2067a\u2069",
    "embedding": "\u202bx",
    "line separator": "\u2028forged", "half a character": "\ud800", "NUL": "\x00",
}  # fmt: skip
EACH = "|".join(ATTACKS.values())
ALL = EACH.replace("\ud800", "")  # no decoder of ours lets half a character in
_ALLOWED_COLOUR = re.compile(r"\x1b\[[0-9;:]*m")
_DRIVES = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def assert_harmless(text: str, *, colours: bool = True) -> None:
    left = _ALLOWED_COLOUR.sub("", text) if colours else text
    assert not _DRIVES.search(left), ascii(left)
    for colour in _ALLOWED_COLOUR.findall(text):
        left = re.sub("0*(38|48|58);0*(5;[0-9:]*|2(;[0-9:]*){3})(?=;|$)", "", colour[2:-1])
        assert not re.search("(^|;)0*8(?=[;:]|$)", left), ascii(colour)


# --- the text itself --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_s31_no_sequence_drives_a_terminal(attack: str) -> None:
    for text in (attack, f"before {attack} after", attack * 3, f"\x1b[31m{attack}\x1b[0m", f"a\n{attack}\nb"):
        assert_harmless(harmless(text))
        assert harmless(harmless(text)) == harmless(text)
        assert_harmless(line(text), colours=False)
        assert "\n" not in line(text)


_SPECIAL = "\x1b[]m;0138P\\\x07\x9b\x9d\x9c\r\n\b\t\u202e\ud800ab?"


@given(st.text(st.sampled_from(_SPECIAL) | st.characters(), max_size=60))
def test_s31_no_text_drives_a_terminal(text: str) -> None:
    shown = harmless(text)
    assert_harmless(shown)
    assert harmless(shown) == shown
    shown.encode()


def test_s31_colours_stay_and_end_with_their_text() -> None:
    assert harmless("\x1b[31mred\x1b[0m plain") == "\x1b[31mred\x1b[0m plain"
    assert harmless("\x1b[31mred\n") == "\x1b[31mred\x1b[0m\n"
    assert harmless("\x1b[38;5;8mgrey\x1b[39m\x1b[0m") == "\x1b[38;5;8mgrey\x1b[39m\x1b[0m"
    assert harmless("tab\tand\nline") == "tab\tand\nline"
    assert harmless("\x1b[48;2;8;8;8;1mdark\x1b[0m") == "\x1b[48;2;8;8;8;1mdark\x1b[0m"
    first = str(CompositeError("f", [RemoteError("E", "\x1b[31mred\nmore")])).splitlines()[1]
    assert first.endswith("\x1b[0m"), "nor do they run from a line that was cut into the next"


def test_s31_what_was_written_over_is_shown_as_it_was_left() -> None:
    assert harmless("10%\r50%\r100%\n") == "100%\n"
    assert harmless("a\r\nb\r\n") == "a\nb\n"
    assert harmless("approved: no\rapproved: yes") == "approved: yes"
    assert harmless("ab\b\bXY") == "XY" and harmless("\b\b\bx") == "x"
    assert harmless("kept\na\rb") == "kept\nb", "nothing reaches an earlier line"


def test_s31_long_texts_take_no_long_time() -> None:
    for text in ("a\b" * 200_000, "a" * 200_000 + "\b" * 200_000, "\x1b[" * 200_000, "\x1b]" * 200_000, "\r" * 400_000,
                 "\x1b]0;" + "a" * 400_000, "\x1b[31m" * 80_000, "\u202e" * 100_000):  # fmt: skip
        assert_harmless(harmless(text))


def test_s31_what_a_terminal_cannot_write_is_no_error(capsys: pytest.CaptureFixture[str]) -> None:
    narrow = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    show_text("é \u4e2d", narrow)
    narrow.seek(0)
    assert narrow.read() == "\\xe9 \\u4e2d\n"


# --- errors -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status_word", ["error", "lost", "aborted"])
def test_s31_errors_from_engines_are_harmless(status_word: str, capsys: pytest.CaptureFixture[str]) -> None:
    desk = Desk()
    tasks = desk.tasks(2)
    result = desk.result(tasks)
    for task in tasks:
        ended = failed(task.id, ename=ALL, evalue=ALL)
        error = messages.ErrorInfo(ALL, ALL, [ALL, f"{ALL}\n"])
        desk.say(messages.Outcome(**{
            **{name: getattr(ended, name) for name in ended.__struct_fields__}, "status": status_word, "error": error,
        }))
    desk.loop.turn()
    with pytest.raises(CompositeError) as caught:
        result.get()
    composite = caught.value
    composite.print_traceback()
    composite.print_traceback(1)
    shown = [capsys.readouterr().out, str(composite), repr(composite), *composite.render_traceback()]
    for error in composite._errors:
        assert isinstance(error, RemoteError | TaskAborted)
        shown += [str(error), repr(error), str(error.args)]
        if isinstance(error, RemoteError):
            error.print_traceback()
            shown += [error.ename, error.evalue, error.traceback, *error._render_traceback_(), capsys.readouterr().out]
    for text in shown:
        assert_harmless(text)


def test_s31_errors_made_from_texts_are_harmless_too() -> None:
    error = CompositeError("in f", [(EACH, EACH, EACH, {}), ValueError(EACH)])
    assert_harmless(str(error))
    assert_harmless("\n".join(error.render_traceback()))


def test_s31_words_of_a_controller_are_harmless() -> None:
    """A file from a stranger leads to a stranger's controller: its words, too, end at a terminal."""
    assert_harmless(str(error_of(messages.Failure(1, ALL, ALL, ALL))), colours=False)
    with pytest.warns(RuntimeWarning) as caught:
        warn_of_python(messages.Welcome(
            session=b"s", resumed=False, received=0, incarnation=b"i", cluster="c", package="1", python="1.\x1b]0;x\x07"
        ))
    assert_harmless(str(caught[0].message), colours=False)
    refusals: list[Any] = []
    reply = messages.Refusal("refused", ALL[:500], ALL[:500])
    connection = types.SimpleNamespace(_fail=refusals.append, _trial=None)
    from secure_ipp.wire.codec import encode_message

    frame = types.SimpleNamespace(bytes=encode_message(reply))
    Connection._on_greeting(connection, [frame])  # type: ignore[arg-type]
    (refusal,) = refusals
    assert_harmless(refusal.message + refusal.advice + refusal.code, colours=False)


def test_s31_notices_goodbyes_and_reasons_are_harmless() -> None:
    desk = Desk()
    desk.receiver.on_welcome(welcome())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        desk.say(messages.Notice("warning", ALL[:1000]))
        desk.receiver.callbacks.settle(5)
    assert_harmless(str(caught[0].message), colours=False)
    desk.say(messages.Roster([], [3], False, {3: ALL[:1000]}))
    from secure_ipp.client.client import Client

    asker = types.SimpleNamespace(session=desk.session)
    with pytest.raises(NoSuchEngine) as gone:
        Client._engine(asker, 3, (0,))  # type: ignore[arg-type]
    assert_harmless(str(gone.value), colours=False)
    desk.say(messages.Goodbye(ALL[:1000]))
    assert desk.receiver.error is not None
    assert_harmless(str(desk.receiver.error), colours=False)


# --- outputs in a terminal --------------------------------------------------------------------------------------


def shown_tasks(desk: Desk, *, trust: str, data: Any = None) -> Any:
    """Two engines that print and display attacks of every kind."""
    desk.session.trust = trust
    tasks = desk.tasks(2, kind="execute")
    result = desk.result(tasks)
    bundle = {"data": {"text/plain": ALL} if data is None else data, "metadata": {}}
    for engine, task in enumerate(tasks):
        for name in ("stdout", "stderr"):
            desk.say(messages.Output(task.id, engine, name, ALL))  # type: ignore[arg-type]
        for kind in ("display_data", "execute_result"):
            desk.say(messages.Display(task.id, engine, kind, json.dumps(bundle)))  # type: ignore[arg-type]
        desk.end(task.id, engine=engine, execution_count=1)
    return result


@pytest.mark.parametrize("trust", ["any", "data"])
def test_s31_outputs_in_a_terminal_are_harmless(trust: str, capsys: pytest.CaptureFixture[str]) -> None:
    result = shown_tasks(Desk(), trust=trust)
    for groupby in ("type", "engine", "order"):
        result.display_outputs(groupby)
    with result.stream_output():
        pass
    for reply in result.get():
        print(reply)
        reply.display()
    seen = capsys.readouterr()
    assert "owned" not in seen.out + seen.err and "yes" not in seen.out
    assert_harmless(seen.out)
    assert_harmless(seen.err)


def test_s31_output_that_comes_while_it_is_shown_is_harmless(capsys: pytest.CaptureFixture[str]) -> None:
    desk = Desk()
    tasks = desk.tasks(2)
    result = desk.result(tasks)
    with result.stream_output():
        for task in tasks:
            desk.say(messages.Output(task.id, 0, "stdout", ALL))
            desk.say(messages.Display(task.id, 0, "display_data", json.dumps({"data": {"text/plain": ALL}})))
    assert_harmless(capsys.readouterr().out)


def test_s31_texts_that_a_program_prints_itself_are_harmless_too() -> None:
    """`print(result.stdout)` is what people write."""
    result = shown_tasks(Desk(), trust="data")
    for text in [*result.stdout, *result.stderr, *(reply.stdout for reply in result.get())]:
        assert_harmless(text)
    assert shown_tasks(Desk(), trust="any").stdout == [ALL, ALL], "a trusted engine's text is as it came"


@pytest.mark.parametrize("bundle", [
    [], {"data": []}, {"data": None}, {"data": {"text/plain": ["a", 1]}}, {"data": {"text/plain": None}}, {},
    {"data": {"text/plain": {}}, "metadata": []}, {"data": {"text/html": "x"}, "metadata": {"text/html": 1}}, "x", 5,
    {"data": {"\x1b]0;x\x07": "y"}}, {"data": {"image/png": 5}}, "[" * 300_000, '{"a":' * 60_000, '{"data": 1}{',
])  # fmt: skip
def test_s31_bundles_that_are_none_are_no_error(bundle: object, capsys: pytest.CaptureFixture[str]) -> None:
    desk = Desk()
    desk.session.trust = "data"
    (task,) = desk.tasks(1, kind="execute")
    result = desk.result([task], single=True)
    for kind in ("display_data", "execute_result", "data"):
        content = bundle if isinstance(bundle, str) else json.dumps(bundle)
        desk.say(messages.Display(task.id, 0, kind, content))  # type: ignore[arg-type]
    desk.end(task.id, execution_count=1)
    result.display_outputs()
    reply = result.get()
    reply._repr_mimebundle_()
    repr(reply)
    assert_harmless(capsys.readouterr().out)


# --- notebooks --------------------------------------------------------------------------------------------------


def png(width: int = 2, height: int = 2) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunk = b"IHDR" + header
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk)) + b"rest"


def jpeg(width: int = 2, height: int = 2, marker: int = 0xC0) -> bytes:
    frame = bytes([0xFF, marker]) + struct.pack(">HBHH", 11, 8, height, width) + b"\x01\x11\x00\x00"
    return b"\xff\xd8\xff\xe0\x00\x04ab" + frame


def text_of(data: bytes) -> str:
    return base64.b64encode(data).decode()


ACTIVE = {
    "text/html": "<script>steal()</script>", "image/svg+xml": "<svg onload=steal()>",
    "text/markdown": "<img onerror=x>",
    "application/javascript": "steal()", "text/latex": "\\href{javascript:steal()}", "application/json": {"a": 1},
    "application/vnd.jupyter.widget-view+json": {"model_id": "x"}, "application/vnd.plotly.v1+json": {},
    "image/gif": "x", "application/pdf": "x", "text/vnd.graphviz": "x", "image/bmp": "x",
}  # fmt: skip


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """What a front end is given."""
    given_to_it: list[tuple[dict[str, Any], dict[str, Any]]] = []
    display = types.ModuleType("IPython.display")
    display.publish_display_data = lambda data, about: given_to_it.append((data, about))  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    monkeypatch.setattr(outputs, "in_notebook", lambda: True)
    return given_to_it


def test_s31_an_untrusted_engine_shows_text_and_pictures(notebook: list[Any]) -> None:
    data = {**ACTIVE, "text/plain": ALL, "image/png": text_of(png()), "image/jpeg": text_of(jpeg())}
    shown_tasks(Desk(), trust="data", data=data).display_outputs()
    assert len(notebook) == 4
    for shown, about in notebook:
        assert set(shown) == {"text/plain", "image/png", "image/jpeg"} and about == {}
        assert_harmless(shown["text/plain"])
        assert "not shown: text/html, image/svg+xml" in shown["text/plain"] and 'results="any"' in shown["text/plain"]
        assert "steal" not in str(shown)


def test_s31_what_is_dropped_is_said_even_if_it_was_all(notebook: list[Any], monkeypatch: pytest.MonkeyPatch,
                                                        capsys: pytest.CaptureFixture[str]) -> None:
    outputs.display_bundle({"data": {"text/html": "x", "<b>\x1b[2J": "y", "a/" + "b" * 99: 1}}, trusted=False)
    ((shown, _),) = notebook
    assert shown["text/plain"].startswith("[not shown: text/html, a kind without a proper name;")
    outputs.display_bundle({"data": {f"a/b{number}": 1 for number in range(1000)}}, trusted=False)
    assert "and 992 more" in notebook[-1][0]["text/plain"]
    monkeypatch.setattr(outputs, "in_notebook", lambda: False)
    outputs.display_bundle({"data": {"text/html": "x"}}, trusted=False)
    assert capsys.readouterr().out.startswith("[not shown: text/html;")


def test_s31_all_is_shown_where_it_was_said(notebook: list[Any]) -> None:
    data = {**ACTIVE, "text/plain": "x"}
    shown_tasks(Desk(), trust="any", data=data).display_outputs()
    assert all(shown == data for shown, _ in notebook)
    notebook.clear()
    result = shown_tasks(Desk(), trust="data", data=data)
    result.display_outputs(results="any")
    assert all(shown == data for shown, _ in notebook)
    notebook.clear()
    result.display_outputs()
    assert all("text/html" not in shown for shown, _ in notebook), "what was said for one call holds for it"
    notebook.clear()
    shown_tasks(Desk(), trust="any", data=data).display_outputs(results="data")
    assert all("text/html" not in shown for shown, _ in notebook)


def test_s31_metadata_of_a_picture_is_its_size(notebook: list[Any]) -> None:
    about = {"image/png": {"width": 10, "height": -1, "class": "x", "style": "position:fixed"},
             "text/html": {"isolated": 1}, "text/plain": {"x": 1}, "width": 5}  # fmt: skip
    outputs.display_bundle({"data": {"image/png": text_of(png())}, "metadata": about}, trusted=False)
    assert notebook[-1][1] == {"image/png": {"width": 10}}
    for wrong in (True, 10**9, "10", None):
        outputs.display_bundle({"data": {"image/png": text_of(png())}, "metadata": {"image/png": {"width": wrong}}},
                               trusted=False)
        assert notebook[-1][1] == {}


@pytest.mark.parametrize("method", [f"_repr_{name}_" for name in _MIME_TYPES])
def test_s31_no_representation_of_a_reply_is_active(method: str) -> None:
    task = Task("t", Call("execute", "execute"), 1000.0)
    data = {**ACTIVE, "text/plain": ALL, "image/png": text_of(b"<svg onload=x>"), "image/jpeg": "javascript:x"}
    bundle = {"data": data, "metadata": {kind: {"x": 1} for kind in data}}
    task.output().add_display("execute_result", json.dumps(bundle))
    task.outcome = outcome("t", body=[], execution_count=3)
    reply = task.result("data")
    assert isinstance(reply, ExecuteReply)
    assert getattr(reply, method)() is None
    shown, about = reply._repr_mimebundle_()
    assert set(shown) == {"text/plain"} and about == {}
    assert_harmless(shown["text/plain"])
    task.result("any")
    assert task.result("any")._repr_html_() is not None, "unless that was said"


def test_s31_there_is_no_way_to_open_a_comm() -> None:
    kinds = messages.Display.__annotations__["kind"]
    assert "comm" not in str(kinds)
    desk = Desk()
    (task,) = desk.tasks(1)
    desk.result([task])
    desk.say(messages.Display(task.id, 0, "data", json.dumps({"target_name": "x", "comm_id": "y"})))
    assert task.printed is not None and not task.printed.displays


@pytest.mark.parametrize(
    "size", [(0, 5), (5, 0), (IMAGE_SIDE + 1, 1), (1, IMAGE_SIDE + 1), (16000, 16000), (2**31, 2**31)]
)
def test_s31_a_picture_that_would_fill_the_memory_is_none(size: tuple[int, int]) -> None:
    assert not is_picture("image/png", text_of(png(*size)))
    assert not is_picture("image/jpeg", text_of(jpeg(*(side & 0xFFFF for side in size))))


def test_s31_a_picture_is_what_it_says() -> None:
    assert is_picture("image/png", text_of(png())) and is_picture("image/jpeg", text_of(jpeg()))
    assert is_picture("image/png", base64.encodebytes(png() * 5).decode()), "lines are usual"
    assert is_picture("image/jpeg", text_of(jpeg(marker=0xC2)))
    wrong: list[object] = [
        text_of(jpeg()), text_of(b"GIF89a" + bytes(50)), text_of(b"<svg/>" * 20), text_of(png()[:20]), "", None, 5, [],
        png(), "javascript:alert(1)", text_of(png()) + "<script>", "=" * 8, "\ud800",
        text_of(b"\x89PNG\r\n\x1a\n" + bytes(60)),
    ]  # fmt: skip
    assert not any(is_picture("image/png", data) for data in wrong)
    assert not any(is_picture("image/jpeg", text_of(data)) for data in (
        png(), b"\xff\xd8\xff", b"\xff\xd8" + b"\xff" * 500_000, jpeg(marker=0xDA), jpeg(marker=0xC4),
        b"\xff\xd8" + b"\xff\xe0\x00\x00" * 100_000,
    ))  # fmt: skip
    assert not is_picture("image/svg+xml", text_of(png())) and not is_picture("text/html", text_of(png()))
    assert not is_picture("image/png", "A" * (limits.FRAME_BYTES * 64))


@given(st.sampled_from(["image/png", "image/jpeg"]), st.binary(max_size=80), st.sampled_from([b"", png(), jpeg()]))
def test_s31_any_bytes_are_a_picture_or_none(kind: str, data: bytes, head: bytes) -> None:
    is_picture(kind, text_of(head[: len(data)] + data))
    is_picture(kind, data.decode("latin1"))


# --- commands ---------------------------------------------------------------------------------------------------


def test_s31_status_shows_hosts_and_names_harmlessly(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {
        "cluster": "c", "hub": {"pid": 1}, "records": {"records": 0}, "audit": {"problem": ALL},
        "controller": {
            "started": 0, "supervisor": 1, "restarts": 0, "client_port": 1, "engine_port": 2, "client_socket": ALL,
            "engine_socket": ALL,
        },
        "scheduler": {"pid": 1}, "registry": {"problem": ALL},
        "engines": [
            {"id": 1, "host": ALL, "pid": 1, "state": ALL, "reads_cluster_dir": True, "reads_join_file": False}
        ],
        "clients": [{"name": ALL, "host": ALL, "address": ALL, "pid": 1}],
        "clock": {"trusted": 0.0, "wall": 0.0, "jump": 0.0, "behind": 0.0},
    }
    monkeypatch.setattr(status, "gather", lambda place: found)
    done = CliRunner().invoke(status.status, [])
    assert done.exit_code == 0, done.output
    assert_harmless(done.output, colours=False)
    done = CliRunner().invoke(status.status, ["--json"])
    assert_harmless(done.output, colours=False)
    assert json.loads(done.output) == json.loads(json.dumps(found))


def test_s31_commands_pass_on_what_others_said_harmlessly(capsys: pytest.CaptureFixture[str]) -> None:
    say(f"the engine host said:\n{ALL}")
    assert_harmless(capsys.readouterr().err, colours=False)
    tally = demo.Tally({"/x/\x1b]0;owned\x07.py"})
    tally.add(demo.Module("/x/\x1b]0;owned\x07.py", 1, 1, 1, ALL))
    demo.show(demo.Report("/x", tally, 1, 1.0, 1.0, "refused", "refused"))
    assert_harmless(capsys.readouterr().out, colours=False)
