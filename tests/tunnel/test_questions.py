"""What is asked, what is remembered, and that nobody waits in vain."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

from secure_ipp.tunnel.messages import Question, Reply
from secure_ipp.tunnel.questions import Questions


class Users:
    """Those who are asked: each answer of the list once, then silence."""

    def __init__(self, *answers: str | None) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []
        self.questions = Questions(self.put)

    def put(self, question: Question) -> None:
        self.asked.append(question.prompt)
        if self.answers:
            self.questions.answered(Reply(question.number, self.answers.pop(0)))


def test_an_answer_is_kept_for_the_next_login_and_asked_anew_when_it_was_wrong() -> None:
    users = Users("first", "second")
    assert users.questions.ask("password: ") == "first"
    users.questions.new_login()  # the tunnel fell at once, say
    assert users.questions.ask("password: ") == "first"
    assert users.questions.ask("password: ") == "second"  # twice in one login: it was refused
    users.questions.new_login()
    assert users.questions.ask("password: ") == "second"
    assert users.asked == ["password: ", "password: "]


def test_nobody_knows_is_an_answer_and_not_kept() -> None:
    users = Users(None, "now")
    assert users.questions.ask("x") is None
    assert users.questions.ask("x") == "now"


def test_who_waits_is_let_go_when_the_last_user_leaves() -> None:
    users = Users()
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(users.questions.ask, "x")
        while not users.asked:
            """Until it is asked."""
        users.questions.somebody_left(somebody_is_there=True)
        assert not waiting.done()
        users.questions.somebody_left(somebody_is_there=False)
        assert waiting.result(5) is None


def test_who_comes_later_is_asked_what_is_open() -> None:
    users = Users()
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(users.questions.ask, "x")
        while not users.asked:
            """Until it is asked."""
        users.answers.append("late")
        users.questions.somebody_came()
        assert waiting.result(5) == "late"


def test_at_the_end_nothing_is_asked_and_nothing_is_kept() -> None:
    users = Users("secret")
    assert users.questions.ask("x") == "secret"
    users.questions.end()
    assert users.questions.ask("x") is None
    assert "secret" not in repr(vars(users.questions))


def test_an_answer_to_a_question_that_is_not_open_changes_nothing() -> None:
    users = Users()
    users.questions.answered(Reply(17, "x"))
    users.questions.somebody_left(somebody_is_there=False)
    thread = threading.Thread(target=users.questions.ask, args=("y",), daemon=True)
    thread.start()
    while not users.asked:
        """Until it is asked."""
    users.questions.end()
    thread.join(5)
    assert not thread.is_alive()
