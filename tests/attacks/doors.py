"""A door under attack, an honest peer beside the attackers, and attackers of both kinds: raw pyzmq, and no libzmq."""

from secure_ipp.keys.curve import KeyPair
from secure_ipp.wire import messages
from secure_ipp.wire.codec import decode_greeting_reply, encode_message, join_packet
from tests.attacks.raw_curve import DEALER, NO_IDENTITY, RawCurve
from tests.wire.conftest import Stage
from tests.wire.stage import hello

ASK = messages.Ask(1, b"")


def packet(number, ack, *sent):
    """The first frame of a packet."""
    return join_packet(number, ack, [encode_message(message) for message in sent])


class Siege(Stage):
    """`mallory` holds a good key of her own, and breaks every rule; `alice` is honest."""

    def __init__(self):
        super().__init__()
        self.mallory = KeyPair.generate()
        self._asked = 0

    def door(self, *guests, **options):
        self.target = super().door(("client", self.mallory.public, "mallory", "client"), *guests, **options)
        self.alice = self.peer(self.target).start()
        self.alice.record.wait("welcome")
        return self.target

    def attacker(self, door, **options):
        return self.intruder(door, keys=options.pop("keys", self.mallory), **options)

    def raw(self, door, *extra, keys=None, **options):
        keys = keys or self.mallory
        metadata = options.pop("metadata", (DEALER, NO_IDENTITY, *extra))
        return self._keep(RawCurve(
            door.port, door.server.public.raw, keys.public.raw, keys.secret.raw, metadata, **options
        ))

    def assert_undisturbed(self):
        """The door serves, and the honest peer was never so much as reconnected."""
        assert self.target.serving
        self._asked += 1
        self.alice.ask(self._asked, b"still there?")
        self.alice.record.wait("message", self._asked)
        assert self.alice.record.all("lost") == [] and self.alice.record.all("failed") == []
        assert len(self.alice.record.all("welcome")) == 1


def raw_welcome(raw):
    """Greet over a raw connection; returns the door's reply."""
    raw.say(encode_message(hello()))
    return decode_greeting_reply(raw.hear())
