"""What `execute` gives back."""

from __future__ import annotations

import base64
import json

import pytest

from secure_ipp.client.replies import ExecuteReply
from secure_ipp.client.tasks import Call, Task

from .fake import outcome

_PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01\0\0\0\x01\x08\0\0\0\0" + bytes(4)).decode()
_RICH = {
    "data": {"text/plain": "<Image>", "image/png": _PNG, "text/html": "<script>bad()</script>"},
    "metadata": {"image/png": {"width": 10}},
}


def reply(trust="any", result=None, kind="execute", **fields):
    task = Task("t", Call("execute", kind), 1000.0)
    if result is not None:
        task.output().add_display("execute_result", json.dumps(result))
    task.output().stdout.append("said")
    task.outcome = outcome("t", body=[], **{"execution_count": 3, **fields})
    return task.result(trust)


def test_the_value_and_the_metadata_are_attributes_and_items():
    made = reply(result={"data": {"text/plain": "5"}, "metadata": {}})
    assert isinstance(made, ExecuteReply)
    assert made.data == made.execute_result["data"] == {"text/plain": "5"}
    assert made.stdout == made["stdout"] == made.metadata.stdout == "said"
    assert (made.engine_id, made.execution_count, made.status) == (0, 3, "ok")
    assert str(made) == "<ExecuteReply[3]: 5>"
    with pytest.raises(AttributeError):
        _ = made.nothing_like_it


def test_a_cell_without_a_value():
    made = reply()
    assert made.data == {} and made.execute_result is None
    assert str(made) == "<ExecuteReply[3]: >"
    assert made._repr_png_() is None


def test_a_cell_that_another_session_ran_is_known_by_its_count():
    assert isinstance(reply(kind="apply"), ExecuteReply)
    assert reply(kind="apply", execution_count=0) is None


def test_rich_representations_come_with_their_metadata():
    made = reply(result=_RICH)
    assert made._repr_png_() == (_PNG, {"width": 10})
    assert made._repr_html_() == "<script>bad()</script>"
    data, about = made._repr_mimebundle_()
    assert data["text/plain"] == "Out[0:3]: <Image>"
    assert about == _RICH["metadata"]


def test_active_content_of_untrusted_engines_is_not_offered():
    made = reply(trust="data", result=_RICH)
    assert made._repr_html_() is None
    assert made._repr_png_() == (_PNG, {"width": 10})
    assert "text/html" not in made._repr_mimebundle_()[0]


def test_control_sequences_are_not_shown():
    made = reply(result={"data": {"text/plain": "\x1b]0;title\x07x"}, "metadata": {}})
    assert "\x1b" not in str(made) + made._repr_mimebundle_()[0]["text/plain"]


def test_ipython_prints_it_with_its_engine_and_count():
    class Printer:
        said = ""

        def text(self, text):
            self.said += text

    printer = Printer()
    reply(result={"data": {"text/plain": "1\n2"}, "metadata": {}})._repr_pretty_(printer, False)
    assert printer.said == "Out[0:3]: \n1\n2"
