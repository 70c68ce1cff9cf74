"""Both ends of a link on loopback, and what may lie between them: a proxy that cuts, stalls and records."""

import contextlib
import queue
import select
import socket
import threading
import time

import zmq

from secure_ipp import limits
from secure_ipp.access.gate import Gate
from secure_ipp.access.proof_checks import ProofDesk
from secure_ipp.access.proof_file import ProofFile
from secure_ipp.access.table import Admission, TableBuilder
from secure_ipp.keys.curve import KeyPair
from secure_ipp.wire import messages, sockets
from secure_ipp.wire.codec import encode_message
from secure_ipp.wire.connection import Connection
from secure_ipp.wire.door import Door, new_incarnation
from secure_ipp.wire.loop import Loop

PATIENT = 10.0  # seconds that a test waits for what must come, on a busy machine too
ANYWHERE = "tcp://127.0.0.1:*"
CLUSTER_ID = "c" * 22


class Record:
    """What happened, as (name, details...) tuples; tests wait for what they expect."""

    def __init__(self):
        self._entries = []
        self._changed = threading.Condition()

    def add(self, *entry):
        with self._changed:
            self._entries.append(entry)
            self._changed.notify_all()

    def all(self, name):
        with self._changed:
            return [entry for entry in self._entries if entry[0] == name]

    def wait(self, name, count=1, timeout=PATIENT):
        """The entries of this name, as soon as there are `count`."""
        with self._changed:
            found = self._changed.wait_for(
                lambda: [e for e in self._entries if e[0] == name][count - 1 :], timeout
            )
            assert found, f"no {name!r} (x{count}) within {timeout} s; there are {self._entries[-20:]}"
            return [entry for entry in self._entries if entry[0] == name]


class LoopThread:
    """A loop in a thread of its own; an exception that ends it is kept and shown."""

    def __init__(self):
        self.loop = Loop()
        self.error = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self):
        self._thread.start()

    def _run(self):
        try:
            self.loop.run()
        except BaseException as error:
            self.error = error
            raise

    def call(self, function):
        """Its result, from the loop's thread."""
        answers = queue.SimpleQueue()

        def call():
            try:
                answers.put((function(), None))
            except Exception as error:
                answers.put((None, error))

        self.loop.call_threadsafe(call)
        result, error = answers.get(timeout=PATIENT)
        if error is not None:
            raise error
        return result

    @property
    def alive(self):
        return self._thread.is_alive()

    def stop(self):
        self.loop.stop()
        self._thread.join(PATIENT)
        assert not self._thread.is_alive()


class DoorSide:
    """A door with its gate.  Answers `Ask` with an `Answer` of the same body and sends every `Chunk` back."""

    def __init__(
        self, guests=(), *, domain="client", receives=None, endpoint=ANYWHERE, server=None, gate=True, proofs_file=None,
    ):
        """With a `proofs_file` it is a Unix socket that takes proofs (S25), beside that file unless told otherwise."""
        self.record = Record()
        self.server = server or KeyPair.generate()
        self.sessions = []
        self.echo = True
        self.refuse = None
        self._thread = LoopThread()
        self.loop = self._thread.loop
        self.desk = self.memory = None
        if proofs_file is not None:
            endpoint = f"ipc://{proofs_file.parent / 'door'}" if endpoint == ANYWHERE else endpoint
            self.memory = ProofFile(proofs_file, CLUSTER_ID)
            self.memory.open(time.time())
            self.desk = ProofDesk(self.server, CLUSTER_ID, frozenset({domain}), self.memory)
        self.gate = Gate(self._decided, stale_after=float("inf"), proofs=self.desk)
        self.admit(*guests)
        if gate:
            self.gate.run_in_thread(sockets.zap_socket(self.loop.context))
        self.door = Door(
            self.loop, gate=self.gate if gate else AlwaysAlive(), domain=domain, endpoints=[endpoint],
            keys=self.server, cluster="test", receives=receives or {"client": messages.FromClient}, handler=self,
            incarnation=new_incarnation(), by_proof=self.desk is not None,
        )
        self.socket = self.door._socket
        self.endpoint = self.socket.getsockopt_string(zmq.LAST_ENDPOINT)
        self.port = int(self.endpoint.rpartition(":")[2]) if self.endpoint.startswith("tcp") else None
        self.call = self._thread.call

    def start(self):
        self._thread.start()
        return self

    def admit(self, *guests):
        """(domain, public key, user id, role) each; nobody else is known any more."""
        table = TableBuilder()
        for domain, key, user, role in guests:
            table.add(domain, key.raw, Admission(user, role, "label-of-" + user))
        self.gate.replace(table.build())

    def _decided(self, event):
        self.record.add("gate", event.status)
        self.record.add("decided", event)

    def on_open(self, session):
        if self.refuse is not None:
            raise self.refuse
        self.sessions.append(session)
        self.record.add("open", session)

    def on_message(self, session, message, frame):
        self.record.add("message", session.user, message, None if frame is None else len(frame))
        if not self.echo:
            return
        if isinstance(message, messages.Ask):
            session.send(messages.Answer(message.request, message.body))
        elif isinstance(message, messages.Chunk):
            session.send(message, frame)

    def on_acknowledged(self, session, tokens):
        self.record.add("acknowledged", *tokens)

    def on_resumed(self, session):
        self.record.add("resumed", session)

    def on_lost(self, session):
        self.record.add("lost", session)

    def on_gone(self, session, reason):
        self.record.add("gone", session, reason)

    def on_incident(self, event, details):
        self.record.add("incident", event, details)

    def reasons(self):
        return [details["reason"] for _, _, details in self.record.all("incident")]

    @property
    def serving(self):
        return self._thread.alive and self._thread.error is None

    def close(self):
        if self._thread.alive:
            self.call(self.door.close)
            self._thread.stop()
        else:
            self.door.close()
        self.gate.stop()
        if self.memory is not None:
            self.memory.close()
        self.loop.close()
        assert self._thread.error is None, f"the door's process would have ended: {self._thread.error!r}"


class AlwaysAlive:
    """Says that there is a gate where there is none."""

    def alive(self):
        return True


class Peer:
    """A connection and its handler."""

    def __init__(
        self, doors, server_key, keys, *, role="client", receives=messages.ToClient, first_patience=PATIENT,
        patience=PATIENT, proves=None,
    ):
        self.record = Record()
        self.payload = Record()
        self.on_new_session = lambda connection: None
        self._thread = LoopThread()
        self.loop = self._thread.loop
        self.call = self._thread.call
        self.connection = Connection(
            self.loop, doors=doors, server_key=server_key, keys=keys, role=role, receives=receives, handler=self,
            first_patience=first_patience, patience=patience, proves=proves,
        )

    def start(self):
        self._thread.start()
        self.call(self.connection.start)
        return self

    def ask(self, number, body=b""):
        self.call(lambda: self.connection.send(messages.Ask(number, body)))

    def answers(self):
        return [message.request for _, message, _ in self.record.all("message")]

    def on_welcome(self, welcome):
        if not welcome.resumed:
            self.on_new_session(self.connection)
        self.record.add("welcome", welcome.resumed)

    def on_message(self, message, frames):
        self.record.add("message", message, [bytes(frame) for frame in frames])

    def on_acknowledged(self, tokens):
        for token in tokens:
            self.record.add("acknowledged", token)

    def on_lost(self, reason):
        self.record.add("lost", reason)

    def on_failed(self, error):
        self.record.add("failed", error)

    def on_closed(self):
        self.record.add("closed")

    def failure(self, timeout=PATIENT):
        return self.record.wait("failed", timeout=timeout)[0][1]

    def close(self):
        if self._thread.alive:
            self.call(self.connection.abandon)
            self._thread.stop()
        self.loop.close()
        assert self._thread.error is None, f"the peer's process would have ended: {self._thread.error!r}"


class Proxy:
    """Passes TCP on, on loopback; cuts, stalls and records on demand."""

    def __init__(self, port):
        self.target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.endpoint = f"tcp://127.0.0.1:{self.port}"
        self.sent_up, self.sent_down = bytearray(), bytearray()
        self.recording = False
        self.damage_next = False  # change one byte of what goes up next
        self.accepted = 0
        self.budgets = []  # bytes after which the next connections are cut; without one they live
        self._left = {}
        self._pairs = {}  # socket -> the other one
        self._upward = set()
        self._stalled = False
        self._deaf = False
        self._lock = threading.Lock()
        self._over = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def cut(self):
        """Cut every connection, both ways, at once."""
        with self._lock:
            for end in list(self._pairs):
                self._drop(end)

    def stall(self):
        """Pass nothing on, until `flow`."""
        self._stalled = True

    def flow(self):
        self._stalled = False

    def deafen(self):
        """Cut what comes from now on."""
        self._deaf = True

    def hear(self):
        self._deaf = False

    def close(self):
        self._over = True
        self._thread.join(PATIENT)
        self.cut()
        self._listener.close()

    def _drop(self, end):
        other = self._pairs.pop(end, None)
        if other is not None:
            self._pairs.pop(other, None)
            for side in (end, other):
                self._upward.discard(side)
                self._left.pop(side, None)
                with contextlib.suppress(OSError):
                    side.shutdown(socket.SHUT_RDWR)
                side.close()

    def _run(self):
        while not self._over:
            with self._lock:
                sources = [self._listener, *([] if self._stalled else self._pairs)]
            readable, _, _ = select.select(sources, [], [], 0.002)
            for source in readable:
                with self._lock:
                    if source is self._listener:
                        self._accept()
                    elif source in self._pairs:
                        self._pass(source)

    def _accept(self):
        near, _ = self._listener.accept()
        self.accepted += 1
        if self._deaf:
            near.close()
            return
        far = socket.create_connection(("127.0.0.1", self.target))
        self._pairs[near], self._pairs[far] = far, near
        self._upward.add(near)
        if self.budgets:
            self._left[near] = self._left[far] = [self.budgets.pop(0)]

    def _pass(self, source):
        try:
            piece = source.recv(1 << 16)
        except OSError:
            piece = b""
        if not piece:
            self._drop(source)
            return
        if self.damage_next and source in self._upward:
            self.damage_next = False
            piece = piece[:-1] + bytes([piece[-1] ^ 1])
        budget = self._left.get(source)
        if budget is not None:
            budget[0] -= len(piece)
            if budget[0] < 0:
                self._drop(source)
                return
        if self.recording:
            (self.sent_up if source in self._upward else self.sent_down).extend(piece)
        try:
            self._pairs[source].sendall(piece)
        except OSError:
            self._drop(source)


class Intruder:
    """A raw DEALER of the test's own: says what no honest peer says."""

    def __init__(self, endpoint, server_key, keys, *, identity=b"", options=()):
        self._context = zmq.Context()
        self.socket = self._context.socket(zmq.DEALER)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.setsockopt(zmq.RECONNECT_IVL, -1)
        self.socket.setsockopt(zmq.SNDHWM, 0)
        if keys is not None:
            self.socket.setsockopt(zmq.CURVE_SERVERKEY, server_key.raw)
            self.socket.setsockopt(zmq.CURVE_SECRETKEY, keys.secret.raw)
            self.socket.setsockopt(zmq.CURVE_PUBLICKEY, keys.public.raw)
        if identity:
            self.socket.setsockopt(zmq.ROUTING_ID, identity)
        for option, value in options:
            self.socket.setsockopt(option, value)
        self._watch = self.socket.get_monitor_socket()
        self.socket.connect(endpoint)

    def say(self, *frames):
        """One message; into the void if the connection has fallen."""
        with contextlib.suppress(zmq.Again):
            self.socket.send_multipart(list(frames), zmq.NOBLOCK)

    def greet(self, role="client", **changes):
        self.say(encode_message(hello(role, **changes)))

    def hear(self, timeout=PATIENT):
        """One message, or None."""
        return self.socket.recv_multipart() if self.socket.poll(int(timeout * 1000)) else None

    def welcome(self):
        """Say hello and be welcome; returns the session's token."""
        self.greet()
        reply = self.hear()
        assert reply is not None, "the door did not answer"
        from secure_ipp.wire.codec import decode_greeting_reply

        welcome = decode_greeting_reply(reply[0])
        assert isinstance(welcome, messages.Welcome), welcome
        return welcome.session

    def event(self, *wanted, timeout=PATIENT):
        """The first of these monitor events to come, or None."""
        from zmq.utils.monitor import recv_monitor_message

        end = time.monotonic() + timeout
        while (left := end - time.monotonic()) > 0:
            if self._watch.poll(int(left * 1000) + 1):
                event = recv_monitor_message(self._watch)["event"]
                if event in wanted:
                    return event
        return None

    def is_cut(self, timeout=PATIENT):
        return self.event(zmq.EVENT_DISCONNECTED, zmq.EVENT_CLOSED, timeout=timeout) is not None

    def close(self):
        self.socket.disable_monitor()
        self._watch.close(0)
        self.socket.close(0)
        self._context.destroy(0)


def hello(role="client", **changes):
    fields = {
        "protocol": limits.PROTOCOL, "role": role, "package": "0", "python": "3.11.7", "host": "here", "pid": 1,
    }
    return messages.Hello(**{**fields, **changes})
