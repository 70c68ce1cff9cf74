"""Passes bulk data on: bodies from clients to engines, results from engines to clients (see `streams`).

Pure.  Laws: a body leaves its client once for all engines of its group; the stream outlives the task that names it; a
large result stays at its engine until every session that was told of it has it, or has gone.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from secure_ipp.scheduler.board import Board, ClientPeer
from secure_ipp.scheduler.engines import Engine
from secure_ipp.scheduler.outcomes import without_engine
from secure_ipp.scheduler.streams import BodyStream, ResultStream
from secure_ipp.scheduler.task import Task
from secure_ipp.wire import messages


class Relay:
    """All streams under way, by (owner, task)."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._bodies: dict[tuple[str, str], BodyStream] = {}  # by the task that names the stream
        self._of_task: dict[tuple[str, str], BodyStream] = {}
        self._results: dict[tuple[str, str], ResultStream] = {}

    # --- bodies ----------------------------------------------------------------------------------------------

    def body_wanted(self, task: Task, engine: Engine, now: float) -> None:
        """A task with a streamed body was assigned; ask its client for it, once for all tasks of the group."""
        group = self._bodies.get((task.owner, task.group))
        if group is None or group.position or group.sent:
            task.group = task.id
            group = self._bodies[(task.owner, task.id)] = BodyStream(task.id, sum(task.sizes))
            self._board.send(task.session, messages.Pull(task.id))
        group.add(task, engine, task.number, now)
        self._of_task[(task.owner, task.id)] = group

    def body_chunk(self, peer: ClientPeer, message: messages.Chunk, frame: Any, now: float) -> None:
        """A client's chunk; raises `Refused` when it is out of place."""
        stream = self._bodies.get((peer.user, message.task))
        if stream is None:
            return  # all its engines went, or the task was aborted, while it was under way
        for engine, number in stream.chunk(message.offset, len(frame), now):
            if engine.alive:
                self._board.send_to(engine.session, messages.EngineChunk(number, message.offset), frame)
        self._advance(peer.user, stream)

    def body_taken(self, engine: Engine, number: int, size: int, now: float) -> None:
        task = engine.outstanding.get(number)
        stream = self._of_task.get((task.owner, task.id)) if task is not None else None
        if task is not None and stream is not None:
            stream.taken(task.id, size, now)
            self._advance(task.owner, stream)

    def body_dropped(self, task: Task) -> None:
        """A task no longer needs its body where it was."""
        stream = self._of_task.pop((task.owner, task.id), None)
        if stream is None:
            return
        stream.drop(task.id)
        if task.id == stream.key and stream.targets and stream.sent < stream.total:
            self._rename(task.owner, stream)
        self._advance(task.owner, stream)

    def _rename(self, owner: str, stream: BodyStream) -> None:
        """The task that named it has ended: for its client, that is the end of the stream of this name."""
        heir = next(iter(stream.targets.values())).task
        del self._bodies[(owner, stream.key)]
        stream.anew(heir.id)
        self._bodies[(owner, heir.id)] = stream
        self._board.send(heir.session, messages.Pull(heir.id))

    def _advance(self, owner: str, stream: BodyStream) -> None:
        credit = stream.credit()
        if credit:
            reader = next(iter(stream.targets.values())).task
            self._board.send(reader.session, messages.Credit(stream.key, credit))
        if stream.over:
            if self._bodies.get((owner, stream.key)) is stream:
                del self._bodies[(owner, stream.key)]
            for task_id in stream.targets:
                self._of_task.pop((owner, task_id), None)

    def unfinished(self, owner: str) -> set[str]:
        """Tasks of an owner whose body has not wholly left its client."""
        return {
            task for key, stream in self._bodies.items() if key[0] == owner and stream.sent < stream.total
            for task in stream.targets
        }

    def stalled(self, now: float) -> list[tuple[str, str]]:
        """(owner, task) of engines that hold a shared body up."""
        return [(key[0], task) for key, stream in self._bodies.items() for task in stream.stalled(now)]

    # --- results ---------------------------------------------------------------------------------------------

    def result_there(self, task: Task, engine: Engine, total: int, told: Iterable[ClientPeer | None]) -> None:
        """A large result waits at its engine."""
        place = (task.owner, task.id)
        known = {peer for peer in told if peer is not None and peer.present}
        self._results[place] = ResultStream(engine, task.number, total, known)
        engine.results[task.number] = place

    def has_result(self, owner: str, task_id: str) -> bool:
        return (owner, task_id) in self._results

    def told(self, peer: ClientPeer, task_id: str) -> None:
        """One more session knows of a large result, and will fetch it."""
        stream = self._results.get((peer.user, task_id))
        if stream is not None:
            stream.told.add(peer)

    def pull(self, peer: ClientPeer, task_id: str) -> None:
        """A client wants a large result."""
        stream = self._results.get((peer.user, task_id))
        if stream is None:
            text = "its result was fetched already, or its engine is gone"
            self._board.send(peer, without_engine(task_id, "lost", "EngineError", text))
            return
        stream.told.add(peer)
        if stream.reader is None or not stream.reader.present or stream.reader is peer:
            self._begin(stream, peer)
        elif peer not in stream.waiting:
            stream.waiting.append(peer)

    def _begin(self, stream: ResultStream, peer: ClientPeer) -> None:
        stream.begin(peer)
        self._board.send_to(stream.engine.session, messages.EnginePull(stream.number), None)

    def result_chunk(self, engine: Engine, message: messages.EngineChunk, frame: Any) -> None:
        """An engine's chunk; raises `Refused` when it is out of place."""
        place = engine.results.get(message.number)
        stream = self._results.get(place) if place is not None else None
        if place is None or stream is None or stream.engine is not engine:
            return
        if stream.chunk(message.offset, len(frame)):
            self._board.send(stream.reader, messages.Chunk(place[1], message.offset), frame)

    def result_taken(self, peer: ClientPeer, task_id: str, size: int) -> None:
        stream = self._results.get((peer.user, task_id))
        if stream is not None and stream.reader is peer:
            credit = stream.taken(size)
            if credit:
                self._board.send_to(stream.engine.session, messages.EngineCredit(stream.number, credit), None)

    def received(self, peer: ClientPeer, task_id: str) -> None:
        """A client has a large result whole, or does not want it; when all have, the engine may drop it."""
        stream = self._results.get((peer.user, task_id))
        if stream is None or peer not in stream.told:
            return
        stream.told.discard(peer)
        if stream.reader is peer:
            stream.reader = None
            self._next_reader(stream)
        if stream.reader is None and not any(other.present for other in stream.told):
            del self._results[(peer.user, task_id)]
            stream.engine.results.pop(stream.number, None)
            self._board.send_to(stream.engine.session, messages.Kept([stream.number]), None)

    def reader_gone(self, peer: ClientPeer) -> None:
        """A client's session ended; who waited behind it goes on."""
        for key, stream in self._results.items():
            if key[0] != peer.user:
                continue
            stream.told.discard(peer)
            if stream.reader is peer:
                stream.reader = None
                self._next_reader(stream)

    def owner_gone(self, owner: str) -> None:
        """Nobody may have its large results any more: their engines drop them."""
        for place in [place for place in self._results if place[0] == owner]:
            stream = self._results.pop(place)
            if stream.engine.results.pop(stream.number, None) is not None and stream.engine.alive:
                self._board.send_to(stream.engine.session, messages.Kept([stream.number]), None)

    def _next_reader(self, stream: ResultStream) -> None:
        while stream.waiting:
            peer = stream.waiting.pop(0)
            if peer.present and peer in stream.told:
                self._begin(stream, peer)
                return

    def results_lost(self, engine: Engine) -> None:
        """An engine died with results that nobody had fetched."""
        for place in engine.results.values():
            stream = self._results.get(place)
            if stream is None or stream.engine is not engine:
                continue
            del self._results[place]
            text = f"engine {engine.id} died before its result was fetched"
            lost = without_engine(place[1], "lost", "EngineError", text)
            for peer in {stream.reader, *stream.waiting}:  # who has not asked yet is told when it asks
                self._board.send(peer, lost)
        engine.results.clear()
