"""The greeting: alone in the first zmq message of a connection."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from secure_ipp.wire.messages.fields import Count, Message, SessionToken, Text, Version

Answer = Annotated[bytes, Meta(max_length=32)]  # to the proof that a connection came in by; empty with Curve (S25)


class Hello(Message, frozen=True, tag="hello"):
    """First words of the connecting end."""

    protocol: Count
    role: Literal["client", "agent", "engine", "scheduler", "probe"]
    package: Version
    python: Version  # "3.11.7"
    resume: SessionToken = b""  # the session to go on with; empty for a new one
    received: Count = 0  # number of the last packet received in it
    host: Text = ""
    pid: Count = 0
    user: Text = ""  # login name, for people to read; proves nothing


class Welcome(Message, frozen=True, tag="welcome"):
    session: SessionToken
    resumed: bool
    received: Count  # last packet the door has from this session
    incarnation: SessionToken  # this run of the answering process; another one has forgotten what was not resent
    cluster: Text
    package: Version
    python: Version
    proof: Answer = b""


class Refusal(Message, frozen=True, tag="refusal"):
    """Last words before a connection is cut; also the answer to a request."""

    code: Text
    reason: Text
    advice: Text = ""
    proof: Answer = b""


Greeting = Hello
GreetingReply = Welcome | Refusal
