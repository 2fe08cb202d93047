from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class TunnelFrame(_message.Message):
    __slots__ = ("greeting", "open", "data", "taken", "end", "reset")
    GREETING_FIELD_NUMBER: _ClassVar[int]
    OPEN_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    TAKEN_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    RESET_FIELD_NUMBER: _ClassVar[int]
    greeting: TunnelGreeting
    open: TunnelOpen
    data: TunnelData
    taken: TunnelTaken
    end: TunnelEnd
    reset: TunnelReset
    def __init__(self, greeting: _Optional[_Union[TunnelGreeting, _Mapping]] = ..., open: _Optional[_Union[TunnelOpen, _Mapping]] = ..., data: _Optional[_Union[TunnelData, _Mapping]] = ..., taken: _Optional[_Union[TunnelTaken, _Mapping]] = ..., end: _Optional[_Union[TunnelEnd, _Mapping]] = ..., reset: _Optional[_Union[TunnelReset, _Mapping]] = ...) -> None: ...

class TunnelGreeting(_message.Message):
    __slots__ = ("session", "window", "newest", "positions", "reach")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    WINDOW_FIELD_NUMBER: _ClassVar[int]
    NEWEST_FIELD_NUMBER: _ClassVar[int]
    POSITIONS_FIELD_NUMBER: _ClassVar[int]
    REACH_FIELD_NUMBER: _ClassVar[int]
    session: bytes
    window: int
    newest: int
    positions: _containers.RepeatedCompositeFieldContainer[TunnelPosition]
    reach: str
    def __init__(self, session: _Optional[bytes] = ..., window: _Optional[int] = ..., newest: _Optional[int] = ..., positions: _Optional[_Iterable[_Union[TunnelPosition, _Mapping]]] = ..., reach: _Optional[str] = ...) -> None: ...

class TunnelPosition(_message.Message):
    __slots__ = ("connection", "received", "taken")
    CONNECTION_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_FIELD_NUMBER: _ClassVar[int]
    TAKEN_FIELD_NUMBER: _ClassVar[int]
    connection: int
    received: int
    taken: int
    def __init__(self, connection: _Optional[int] = ..., received: _Optional[int] = ..., taken: _Optional[int] = ...) -> None: ...

class TunnelOpen(_message.Message):
    __slots__ = ("connection",)
    CONNECTION_FIELD_NUMBER: _ClassVar[int]
    connection: int
    def __init__(self, connection: _Optional[int] = ...) -> None: ...

class TunnelData(_message.Message):
    __slots__ = ("connection", "offset", "bytes")
    CONNECTION_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    connection: int
    offset: int
    bytes: bytes
    def __init__(self, connection: _Optional[int] = ..., offset: _Optional[int] = ..., bytes: _Optional[bytes] = ...) -> None: ...

class TunnelTaken(_message.Message):
    __slots__ = ("connection", "taken")
    CONNECTION_FIELD_NUMBER: _ClassVar[int]
    TAKEN_FIELD_NUMBER: _ClassVar[int]
    connection: int
    taken: int
    def __init__(self, connection: _Optional[int] = ..., taken: _Optional[int] = ...) -> None: ...

class TunnelEnd(_message.Message):
    __slots__ = ("connection", "offset")
    CONNECTION_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    connection: int
    offset: int
    def __init__(self, connection: _Optional[int] = ..., offset: _Optional[int] = ...) -> None: ...

class TunnelReset(_message.Message):
    __slots__ = ("connection",)
    CONNECTION_FIELD_NUMBER: _ClassVar[int]
    connection: int
    def __init__(self, connection: _Optional[int] = ...) -> None: ...
