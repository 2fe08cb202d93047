"""The members' link without gRPC.

Its stubs and servicers over connections in memory, one connection for each call.

The shapes are those of ``grpc.aio`` (that is the seam); what passes is protobuf's bytes in frames of our own:
a length of four bytes, then a kind (``h`` method and metadata, ``m`` message, ``e`` no more messages, ``s``
status) and the content.
"""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import suppress
from typing import Any

import grpc
import grpc.aio

from simulations.virtual.network import Network

Metadata = Iterable[tuple[str, str]]
_EMPTY = grpc.aio.Metadata()


def _frame(kind: bytes, data: bytes) -> bytes:
    return (len(data) + 1).to_bytes(4, "big") + kind + data


class _Frames:
    """One connection as frames."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def send(self, kind: bytes, data: bytes = b"") -> None:
        """Raises ConnectionError when it is gone."""
        self._writer.write(_frame(kind, data))
        await self._writer.drain()

    async def next(self) -> tuple[bytes, bytes]:
        """Raises ConnectionError, IncompleteReadError when it is gone."""
        length = int.from_bytes(await self._reader.readexactly(4), "big")
        data = await self._reader.readexactly(length)
        return data[:1], data[1:]

    def close(self) -> None:
        """Let go."""
        self._writer.close()

    def abort(self) -> None:
        """Let go at once."""
        self._writer.transport.abort()


def _error(code: grpc.StatusCode, details: str) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(code, _EMPTY, _EMPTY, details)


# --- the calling end ----------------------------------------------------------------------------------------


class _Call:
    """A call under way, as ``grpc.aio`` shows it."""

    def __init__(
        self,
        channel: MemoryChannel,
        method: str,
        serialise: Callable[[Any], bytes],
        parse: Callable[[bytes], Any],
        metadata: Metadata,
    ) -> None:
        self._channel, self._method, self._metadata = channel, method, list(metadata)
        self._serialise, self._parse = serialise, parse
        self._opened: asyncio.Task[_Frames] = asyncio.create_task(self._open())
        self._opened.add_done_callback(lambda task: task.cancelled() or task.exception())
        self._status: tuple[grpc.StatusCode, str] | None = None
        channel.calls.append(self)

    async def _open(self) -> _Frames:
        try:
            frames = await self._channel.connect(self._method)
            await frames.send(b"h", json.dumps([self._method, self._metadata]).encode())
        except OSError as error:
            raise self._end(grpc.StatusCode.UNAVAILABLE, f"failed to connect: {error}") from None
        return frames

    def _end(self, code: grpc.StatusCode, details: str) -> grpc.aio.AioRpcError:
        if self._status is None:
            self._status = (code, details)
            if self in self._channel.calls:
                self._channel.calls.remove(self)
            if self._opened.done() and not self._opened.cancelled() and self._opened.exception() is None:
                self._opened.result().close()
        return _error(*self._status)

    async def write(self, message: Any) -> None:
        """Send a message."""
        frames = await asyncio.shield(self._opened)
        if self._status is not None:
            raise asyncio.InvalidStateError("RPC already finished.")
        try:
            await frames.send(b"m", self._serialise(message))
        except OSError as error:
            raise self._end(grpc.StatusCode.UNAVAILABLE, str(error)) from None

    async def done_writing(self) -> None:
        """No more messages."""
        frames = await asyncio.shield(self._opened)
        with suppress(OSError):
            await frames.send(b"e")

    async def read(self) -> Any:
        """The next message, or EOF after an end that is well.

        Raises:
            AioRpcError: after any other.
        """
        frames = await asyncio.shield(self._opened)
        if self._status is None:
            try:
                kind, data = await frames.next()
            except (OSError, EOFError):
                raise self._end(grpc.StatusCode.UNAVAILABLE, "connection lost") from None
            if kind == b"m":
                return self._parse(data)
            name, details = json.loads(data)
            self._end(grpc.StatusCode[name], details)
        assert self._status is not None  # noqa: S101 - set just now
        if self._status[0] is not grpc.StatusCode.OK:
            raise _error(*self._status)
        return grpc.aio.EOF

    async def __aiter__(self) -> AsyncIterator[Any]:
        while (message := await self.read()) is not grpc.aio.EOF:
            yield message

    def cancel(self) -> bool:
        """Give it up."""
        was = self._status is None
        self._opened.cancel()
        self._end(grpc.StatusCode.CANCELLED, "Locally cancelled by application!")
        return was

    async def code(self) -> grpc.StatusCode:
        """How it ended."""
        return self._status[0] if self._status is not None else grpc.StatusCode.UNKNOWN

    async def details(self) -> str:
        """Why."""
        return self._status[1] if self._status is not None else ""


class MemoryChannel:
    """What generated stubs are made of."""

    def __init__(self, network: Network, who: str, address: str) -> None:
        self._network, self._who = network, who
        host, _, port = address.rpartition(":")
        self._host, self._port = host, int(port)
        self.calls: list[_Call] = []

    async def connect(self, method: str) -> _Frames:
        """A connection for one call."""
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(loop=loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
        transport, _ = await self._network.connect(lambda: protocol, self._who, self._host, self._port)
        transport.about = method
        return _Frames(reader, asyncio.StreamWriter(transport, protocol, reader, loop))

    def unary_unary(
        self,
        method: str,
        request_serializer: Any = None,
        response_deserializer: Any = None,
        _registered_method: bool = False,
    ) -> Callable[..., Any]:
        """One message, one answer."""

        async def call(request: Any, *, timeout: float | None = None, metadata: Metadata = ()) -> Any:
            self._network.trace.note(self._who, f"calls {method}")
            under_way = _Call(self, method, request_serializer, response_deserializer, metadata)
            try:
                async with asyncio.timeout(timeout):
                    await under_way.write(request)
                    await under_way.done_writing()
                    reply = await under_way.read()
                    if reply is grpc.aio.EOF:
                        raise _error(grpc.StatusCode.INTERNAL, "no answer")
                    return reply
            except TimeoutError:
                raise _error(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded") from None
            finally:
                under_way.cancel()

        return call

    def stream_stream(
        self,
        method: str,
        request_serializer: Any = None,
        response_deserializer: Any = None,
        _registered_method: bool = False,
    ) -> Callable[..., Any]:
        """Messages both ways."""

        def call(
            request_iterator: AsyncIterator[Any] | None = None, *, metadata: Metadata = (), **more: Any
        ) -> _Call:
            self._network.trace.note(self._who, f"calls {method}")
            under_way = _Call(self, method, request_serializer, response_deserializer, metadata)
            if request_iterator is not None:
                self._network.keep(asyncio.create_task(_pour(request_iterator, under_way)))
            return under_way

        return call

    async def close(self, grace: float | None = None) -> None:
        """End what is under way, after ``grace`` seconds."""
        if self.calls and grace:
            until = asyncio.get_running_loop().time() + grace
            while self.calls and asyncio.get_running_loop().time() < until:
                await asyncio.sleep(0.05)
        for call in list(self.calls):
            call.cancel()


async def _pour(messages: AsyncIterator[Any], call: _Call) -> None:
    with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
        async for message in messages:
            await call.write(message)
        await call.done_writing()


# --- the answering end --------------------------------------------------------------------------------------


class _Context:
    """What a servicer sees of a call."""

    def __init__(self, frames: _Frames, metadata: Metadata, serialise: Callable[[Any], bytes]) -> None:
        self._frames, self._metadata, self._serialise = frames, metadata, serialise
        self.ended = False

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        """What the caller sent with the call."""
        return tuple((str(name), str(value)) for name, value in self._metadata)

    def peer(self) -> str:
        """Who calls."""
        return "memory"

    def auth_context(self) -> dict[str, Any]:
        """There is no TLS."""
        return {}

    async def write(self, message: Any) -> None:
        """Answer with a message."""
        await self._frames.send(b"m", self._serialise(message))

    async def abort(self, code: grpc.StatusCode, details: str = "", trailing_metadata: Any = ()) -> None:
        """End the call with a status."""
        await self.end(code, details)
        raise grpc.aio.AbortError("Locally aborted.")

    async def end(self, code: grpc.StatusCode, details: str = "") -> None:
        """Say how it ended, once."""
        if not self.ended:
            self.ended = True
            with suppress(OSError):
                await self._frames.send(b"s", json.dumps([code.name, details]).encode())


class MemoryMemberServer:
    """What generated servicers are added to."""

    def __init__(self, network: Network, who: str) -> None:
        self._network, self._who = network, who
        self._handlers: dict[str, Any] = {}
        self._port = 0
        self._host = ""
        self._listening: Any = None
        self._tasks: set[asyncio.Task[None]] = set()

    def add_generic_rpc_handlers(self, handlers: Any) -> None:
        """The same once more, for older callers."""

    def add_registered_method_handlers(self, service: str, handlers: dict[str, Any]) -> None:
        """A service's methods."""
        self._handlers |= {f"/{service}/{name}": handler for name, handler in handlers.items()}

    def add_insecure_port(self, address: str) -> int:
        """Where to listen; port 0 takes a free one."""
        host, _, port = address.rpartition(":")
        self._host, self._port = host, int(port) or self._network.new_port()
        self._network.owns(self._who, self._port)
        return self._port

    async def start(self) -> None:
        """Listen."""
        loop = asyncio.get_running_loop()

        def factory() -> asyncio.StreamReaderProtocol:
            reader = asyncio.StreamReader(loop=loop)
            return asyncio.StreamReaderProtocol(reader, self._connected, loop=loop)

        self._listening = self._network.listen(factory, self._host, self._port)

    async def stop(self, grace: float | None = None) -> None:
        """Listen no more, and end what is under way."""
        if self._listening is not None:
            self._listening.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(_Frames(reader, writer)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, frames: _Frames) -> None:
        try:
            _, head = await frames.next()
            method, metadata = json.loads(head)
            handler = self._handlers[method]
            context = _Context(frames, metadata, handler.response_serializer)
            await self._answer(handler, frames, context)
        except (OSError, EOFError):
            pass
        finally:
            frames.close()

    async def _answer(self, handler: Any, frames: _Frames, context: _Context) -> None:
        incoming: asyncio.Queue[Any] = asyncio.Queue()
        work = asyncio.create_task(self._run(handler, _messages(incoming), context))
        reading: asyncio.Future[tuple[bytes, bytes]] | None = None
        try:
            while True:
                reading = asyncio.ensure_future(frames.next())
                await asyncio.wait([work, reading], return_when=asyncio.FIRST_COMPLETED)
                if work.done():
                    return
                kind, data = reading.result()
                incoming.put_nowait(handler.request_deserializer(data) if kind == b"m" else None)
        finally:
            ending: list[asyncio.Future[Any]] = [work] if reading is None else [work, reading]
            for task in ending:
                task.cancel()
            await asyncio.gather(*ending, return_exceptions=True)

    async def _run(self, handler: Any, requests: AsyncIterator[Any], context: _Context) -> None:
        try:
            if handler.stream_stream is not None:
                answering = handler.stream_stream(requests, context)
                if inspect.isasyncgen(answering):
                    async for message in answering:
                        await context.write(message)
                else:
                    await answering
            else:
                await context.write(await handler.unary_unary(await anext(requests), context))
            await context.end(grpc.StatusCode.OK)
        except grpc.aio.AbortError:
            pass
        except OSError:
            pass  # the caller has gone
        except Exception as error:  # noqa: BLE001 - as gRPC does
            await context.end(grpc.StatusCode.UNKNOWN, f"Unexpected {type(error)}: {error}")


async def _messages(incoming: asyncio.Queue[Any]) -> AsyncIterator[Any]:
    while (message := await incoming.get()) is not None:
        yield message


class MemoryLink:
    """The seam's simulated twin, for one service."""

    def __init__(self, network: Network, who: str) -> None:
        self._network, self._who = network, who

    async def prove(self, address: str, credentials: Any, *asked: Any) -> bytes:
        """Everybody is who they are on virtual lines."""
        return b""

    def channel(self, address: str, credentials: Any, options: Any, *, peer: bytes = b"") -> grpc.aio.Channel:
        """A channel to ``address``; there is no TLS."""
        channel: Any = MemoryChannel(self._network, self._who, address)
        return channel  # type: ignore[no-any-return]  # made of no type but Any

    def server(self, options: Any) -> grpc.aio.Server:
        """A server."""
        server: Any = MemoryMemberServer(self._network, self._who)
        return server  # type: ignore[no-any-return]  # made of no type but Any
