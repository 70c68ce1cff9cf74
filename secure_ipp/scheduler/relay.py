"""Passes bulk data on: bodies from clients to engines, results from engines to clients (see `streams`)."""

from __future__ import annotations

from typing import Any

from secure_ipp.scheduler.board import Board, ClientPeer
from secure_ipp.scheduler.engines import Engine
from secure_ipp.scheduler.streams import BodyStream, ResultStream
from secure_ipp.scheduler.task import Task
from secure_ipp.wire import messages
from secure_ipp.wire.messages import ErrorInfo, Outcome


class Relay:
    """All streams under way, by (owner, task)."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._bodies: dict[tuple[str, str], BodyStream] = {}
        self._of_task: dict[tuple[str, str], tuple[str, str]] = {}  # (owner, task) -> key of its body's stream
        self._results: dict[tuple[str, str], ResultStream] = {}

    # --- bodies ----------------------------------------------------------------------------------------------

    def body_wanted(self, task: Task, engine: Engine, now: float) -> None:
        """A task with a streamed body was assigned; ask its client for it, once for all tasks of the group."""
        key = (task.owner, task.group)
        stream = self._bodies.get(key)
        if stream is None or stream.sent:
            stream = self._bodies[key] = BodyStream(task.group, sum(task.sizes))
            self._board.send(task.session, messages.Pull(task.group))
        stream.add(task.id, engine, task.number, now)
        self._of_task[(task.owner, task.id)] = key

    def body_chunk(self, peer: ClientPeer, message: messages.Chunk, frame: Any) -> None:
        """A client's chunk; raises `Refused` when it is out of place."""
        stream = self._bodies.get((peer.user, message.task))
        if stream is None:
            return  # all its engines went, or the task was aborted, while it was under way
        for engine, number in stream.chunk(message.offset, len(frame)):
            if engine.alive:
                self._board.send_to(engine.session, messages.EngineChunk(number, message.offset), frame)

    def body_taken(self, engine: Engine, number: int, size: int, now: float) -> None:
        task = engine.outstanding.get(number)
        key = self._of_task.get((task.owner, task.id)) if task is not None else None
        if task is None or key is None:
            return
        stream = self._bodies[key]
        credit = stream.taken(task.id, size, now)
        if credit:
            self._board.send(task.session, messages.Credit(stream.key, credit))
        if stream.over:
            self._close(key)

    def body_dropped(self, task: Task) -> None:
        """A task no longer needs its body where it was."""
        key = self._of_task.pop((task.owner, task.id), None)
        stream = self._bodies.get(key) if key is not None else None
        if key is None or stream is None:
            return
        credit = stream.drop(task.id)
        if credit:
            self._board.send(task.session, messages.Credit(stream.key, credit))
        if stream.over:
            self._close(key)

    def unfinished(self, owner: str) -> set[str]:
        """Tasks of an owner whose body has not wholly left its client."""
        return {
            task for key, stream in self._bodies.items() if key[0] == owner and stream.sent < stream.total
            for task in stream.targets
        }

    def stalled(self, now: float) -> list[tuple[str, str]]:
        """(owner, task) of engines that hold a shared body up."""
        return [(key[0], task) for key, stream in self._bodies.items() for task in stream.stalled(now)]

    def _close(self, key: tuple[str, str]) -> None:
        stream = self._bodies.pop(key)
        for task_id in stream.targets:
            self._of_task.pop((key[0], task_id), None)

    # --- results ---------------------------------------------------------------------------------------------

    def result_there(self, task: Task, engine: Engine, total: int) -> None:
        """A large result waits at its engine."""
        self._results[(task.owner, task.id)] = ResultStream(engine, task.number, total)
        engine.results[task.number] = (task.owner, task.id)

    def pull(self, peer: ClientPeer, task_id: str) -> None:
        """A client wants a large result."""
        stream = self._results.get((peer.user, task_id))
        if stream is None:
            self._board.send(peer, _lost(task_id, "its result was fetched already, or its engine is gone"))
        elif stream.reader is None or not stream.reader.present or stream.reader is peer:
            self._begin(stream, peer)
        else:
            stream.waiting.append(peer)

    def _begin(self, stream: ResultStream, peer: ClientPeer) -> None:
        stream.begin(peer)
        self._board.send_to(stream.engine.session, messages.EnginePull(stream.number), None)

    def result_chunk(self, engine: Engine, message: messages.EngineChunk, frame: Any) -> None:
        """An engine's chunk; raises `Refused` when it is out of place."""
        place = engine.results.get(message.number)
        if place is None:
            return
        stream = self._results[place]
        if stream.chunk(message.offset, len(frame)):
            self._board.send(stream.reader, messages.Chunk(place[1], message.offset), frame)

    def result_taken(self, peer: ClientPeer, task_id: str, size: int) -> None:
        stream = self._results.get((peer.user, task_id))
        if stream is not None and stream.reader is peer:
            credit = stream.taken(size)
            if credit:
                self._board.send_to(stream.engine.session, messages.EngineCredit(stream.number, credit), None)

    def received(self, peer: ClientPeer, task_id: str) -> None:
        """A client has a large result whole; unless another session waits for it, the engine may drop it."""
        stream = self._results.get((peer.user, task_id))
        if stream is None or stream.reader is not peer:
            return
        stream.reader = None
        self._next_reader((peer.user, task_id), stream)
        if stream.reader is None:
            del self._results[(peer.user, task_id)]
            stream.engine.results.pop(stream.number, None)
            self._board.send_to(stream.engine.session, messages.Kept([stream.number]), None)

    def reader_gone(self, peer: ClientPeer) -> None:
        """A client's session ended; who waited behind it goes on."""
        for key, stream in self._results.items():
            if key[0] == peer.user and stream.reader is peer:
                stream.reader = None
                self._next_reader(key, stream)

    def _next_reader(self, key: tuple[str, str], stream: ResultStream) -> None:
        while stream.waiting:
            peer = stream.waiting.pop(0)
            if peer.present:
                self._begin(stream, peer)
                return

    def results_lost(self, engine: Engine, now: float) -> None:
        """An engine died with results that nobody had fetched."""
        for place in engine.results.values():
            stream = self._results.pop(place)
            for peer in {stream.reader, *stream.waiting} - {None}:
                self._board.send(peer, _lost(place[1], f"engine {engine.id} died before its result was fetched"))
        engine.results.clear()


def _lost(task_id: str, text: str) -> Outcome:
    return Outcome(
        task=task_id, status="lost", engine=-1, engine_uuid="", submitted=0.0, started=0.0, completed=0.0, body=[],
        sizes=[], error=ErrorInfo("EngineError", text, [f"EngineError: {text}"]),
    )
