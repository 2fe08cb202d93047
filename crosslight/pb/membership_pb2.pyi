from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class NodeMessage(_message.Message):
    __slots__ = ("hello", "heartbeat")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    hello: Hello
    heartbeat: Heartbeat
    def __init__(self, hello: _Optional[_Union[Hello, _Mapping]] = ..., heartbeat: _Optional[_Union[Heartbeat, _Mapping]] = ...) -> None: ...

class Hello(_message.Message):
    __slots__ = ("code", "software", "epoch", "acked_n", "incarnation", "endpoints", "state_id", "made_n")
    CODE_FIELD_NUMBER: _ClassVar[int]
    SOFTWARE_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    ACKED_N_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    ENDPOINTS_FIELD_NUMBER: _ClassVar[int]
    STATE_ID_FIELD_NUMBER: _ClassVar[int]
    MADE_N_FIELD_NUMBER: _ClassVar[int]
    code: str
    software: str
    epoch: int
    acked_n: int
    incarnation: str
    endpoints: Endpoints
    state_id: str
    made_n: int
    def __init__(self, code: _Optional[str] = ..., software: _Optional[str] = ..., epoch: _Optional[int] = ..., acked_n: _Optional[int] = ..., incarnation: _Optional[str] = ..., endpoints: _Optional[_Union[Endpoints, _Mapping]] = ..., state_id: _Optional[str] = ..., made_n: _Optional[int] = ...) -> None: ...

class Endpoints(_message.Message):
    __slots__ = ("base", "systems", "dicomweb", "rad69", "xds_repository", "aet", "dimse")
    BASE_FIELD_NUMBER: _ClassVar[int]
    SYSTEMS_FIELD_NUMBER: _ClassVar[int]
    DICOMWEB_FIELD_NUMBER: _ClassVar[int]
    RAD69_FIELD_NUMBER: _ClassVar[int]
    XDS_REPOSITORY_FIELD_NUMBER: _ClassVar[int]
    AET_FIELD_NUMBER: _ClassVar[int]
    DIMSE_FIELD_NUMBER: _ClassVar[int]
    base: str
    systems: str
    dicomweb: str
    rad69: str
    xds_repository: str
    aet: str
    dimse: str
    def __init__(self, base: _Optional[str] = ..., systems: _Optional[str] = ..., dicomweb: _Optional[str] = ..., rad69: _Optional[str] = ..., xds_repository: _Optional[str] = ..., aet: _Optional[str] = ..., dimse: _Optional[str] = ...) -> None: ...

class Heartbeat(_message.Message):
    __slots__ = ("sent_unix_ms", "epoch", "acked_n", "waiting", "parked", "quarantined", "filling", "indexed_from", "census", "concern_version", "concern")
    SENT_UNIX_MS_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    ACKED_N_FIELD_NUMBER: _ClassVar[int]
    WAITING_FIELD_NUMBER: _ClassVar[int]
    PARKED_FIELD_NUMBER: _ClassVar[int]
    QUARANTINED_FIELD_NUMBER: _ClassVar[int]
    FILLING_FIELD_NUMBER: _ClassVar[int]
    INDEXED_FROM_FIELD_NUMBER: _ClassVar[int]
    CENSUS_FIELD_NUMBER: _ClassVar[int]
    CONCERN_VERSION_FIELD_NUMBER: _ClassVar[int]
    CONCERN_FIELD_NUMBER: _ClassVar[int]
    sent_unix_ms: int
    epoch: int
    acked_n: int
    waiting: int
    parked: int
    quarantined: int
    filling: bool
    indexed_from: str
    census: Census
    concern_version: bytes
    concern: Concern
    def __init__(self, sent_unix_ms: _Optional[int] = ..., epoch: _Optional[int] = ..., acked_n: _Optional[int] = ..., waiting: _Optional[int] = ..., parked: _Optional[int] = ..., quarantined: _Optional[int] = ..., filling: _Optional[bool] = ..., indexed_from: _Optional[str] = ..., census: _Optional[_Union[Census, _Mapping]] = ..., concern_version: _Optional[bytes] = ..., concern: _Optional[_Union[Concern, _Mapping]] = ...) -> None: ...

class Concern(_message.Message):
    __slots__ = ("version", "waiting", "refused", "anybody_waiting", "anybody_refused")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    WAITING_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    ANYBODY_WAITING_FIELD_NUMBER: _ClassVar[int]
    ANYBODY_REFUSED_FIELD_NUMBER: _ClassVar[int]
    version: bytes
    waiting: bytes
    refused: bytes
    anybody_waiting: bool
    anybody_refused: bool
    def __init__(self, version: _Optional[bytes] = ..., waiting: _Optional[bytes] = ..., refused: _Optional[bytes] = ..., anybody_waiting: _Optional[bool] = ..., anybody_refused: _Optional[bool] = ...) -> None: ...

class Census(_message.Message):
    __slots__ = ("studies", "digest", "taken_unix_ms")
    STUDIES_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    TAKEN_UNIX_MS_FIELD_NUMBER: _ClassVar[int]
    studies: int
    digest: bytes
    taken_unix_ms: int
    def __init__(self, studies: _Optional[int] = ..., digest: _Optional[bytes] = ..., taken_unix_ms: _Optional[int] = ...) -> None: ...

class RegistryMessage(_message.Message):
    __slots__ = ("welcome", "ack", "directory", "suspended", "reconcile")
    WELCOME_FIELD_NUMBER: _ClassVar[int]
    ACK_FIELD_NUMBER: _ClassVar[int]
    DIRECTORY_FIELD_NUMBER: _ClassVar[int]
    SUSPENDED_FIELD_NUMBER: _ClassVar[int]
    RECONCILE_FIELD_NUMBER: _ClassVar[int]
    welcome: Welcome
    ack: HeartbeatAck
    directory: Directory
    suspended: Suspended
    reconcile: Reconcile
    def __init__(self, welcome: _Optional[_Union[Welcome, _Mapping]] = ..., ack: _Optional[_Union[HeartbeatAck, _Mapping]] = ..., directory: _Optional[_Union[Directory, _Mapping]] = ..., suspended: _Optional[_Union[Suspended, _Mapping]] = ..., reconcile: _Optional[_Union[Reconcile, _Mapping]] = ...) -> None: ...

class Welcome(_message.Message):
    __slots__ = ("registry_unix_ms", "incarnation", "epoch", "reconcile", "directory")
    REGISTRY_UNIX_MS_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    RECONCILE_FIELD_NUMBER: _ClassVar[int]
    DIRECTORY_FIELD_NUMBER: _ClassVar[int]
    registry_unix_ms: int
    incarnation: str
    epoch: int
    reconcile: bool
    directory: Directory
    def __init__(self, registry_unix_ms: _Optional[int] = ..., incarnation: _Optional[str] = ..., epoch: _Optional[int] = ..., reconcile: _Optional[bool] = ..., directory: _Optional[_Union[Directory, _Mapping]] = ...) -> None: ...

class HeartbeatAck(_message.Message):
    __slots__ = ("registry_unix_ms", "node_skew_ms", "reach")
    REGISTRY_UNIX_MS_FIELD_NUMBER: _ClassVar[int]
    NODE_SKEW_MS_FIELD_NUMBER: _ClassVar[int]
    REACH_FIELD_NUMBER: _ClassVar[int]
    registry_unix_ms: int
    node_skew_ms: int
    reach: str
    def __init__(self, registry_unix_ms: _Optional[int] = ..., node_skew_ms: _Optional[int] = ..., reach: _Optional[str] = ...) -> None: ...

class Directory(_message.Message):
    __slots__ = ("version", "jws")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    JWS_FIELD_NUMBER: _ClassVar[int]
    version: int
    jws: str
    def __init__(self, version: _Optional[int] = ..., jws: _Optional[str] = ...) -> None: ...

class Suspended(_message.Message):
    __slots__ = ("reason",)
    REASON_FIELD_NUMBER: _ClassVar[int]
    reason: str
    def __init__(self, reason: _Optional[str] = ...) -> None: ...

class Reconcile(_message.Message):
    __slots__ = ("why",)
    WHY_FIELD_NUMBER: _ClassVar[int]
    why: str
    def __init__(self, why: _Optional[str] = ...) -> None: ...

class RenewRequest(_message.Message):
    __slots__ = ("csr_pem",)
    CSR_PEM_FIELD_NUMBER: _ClassVar[int]
    csr_pem: bytes
    def __init__(self, csr_pem: _Optional[bytes] = ...) -> None: ...

class RenewReply(_message.Message):
    __slots__ = ("chain_pem", "bundle_pem")
    CHAIN_PEM_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_PEM_FIELD_NUMBER: _ClassVar[int]
    chain_pem: bytes
    bundle_pem: bytes
    def __init__(self, chain_pem: _Optional[bytes] = ..., bundle_pem: _Optional[bytes] = ...) -> None: ...
