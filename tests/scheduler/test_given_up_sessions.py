"""An engine's try to connect that it gave up for another one: its session ends nothing but itself."""

from __future__ import annotations

import os
import random
from typing import Any

from secure_ipp.scheduler.core import Core
from secure_ipp.wire import messages


def test_a_session_that_never_reported_does_not_end_the_engines_key() -> None:
    sent: list[Any] = []
    core = Core(
        send=lambda session, message, frame: sent.append(message), to_hub=lambda message: None,
        ticket_key=os.urandom(32), scheme="leastload", rng=random.Random(1), keys_changed=lambda: None, now=0.0,
    )
    join = messages.GrantInfo("j", "engines", "agent", os.urandom(32), ["join"], 0.0)
    core.hub_message(messages.Grants(1, [join], []), 0.0)
    core.hub_message(messages.HubRoster([]), 0.0)
    agent = core.agent_joined("the agent's session", "j")
    core.agent_message(agent, messages.Join("host", 1, []), 0.0)
    core.agent_message(agent, messages.Announce([os.urandom(32)]), 0.0)
    core.turn(0.0)
    (uuid,) = (message.uuid for message in sent if isinstance(message, messages.Announced))

    core.engine_left("the session that was given up", uuid, "it did not come back", 10.0)
    core.turn(10.0)
    assert core.agents.key_of(uuid) is not None, "the engine is still trying, and may"
    core.engine_message("its second session", uuid, messages.Report("host", 2, 0, 0, [], []), None, 11.0)
    assert len(core.board.engines) == 1

    core.engine_left("its second session", uuid, "it did not come back", 30.0)
    assert core.agents.key_of(uuid) is None, "the session that spoke for it ends it"
