from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Version(_message.Message):
    __slots__ = ("epoch", "n")
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    N_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    n: int
    def __init__(self, epoch: _Optional[int] = ..., n: _Optional[int] = ...) -> None: ...

class Identifier(_message.Message):
    __slots__ = ("value", "authority", "namespace")
    VALUE_FIELD_NUMBER: _ClassVar[int]
    AUTHORITY_FIELD_NUMBER: _ClassVar[int]
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    value: str
    authority: str
    namespace: str
    def __init__(self, value: _Optional[str] = ..., authority: _Optional[str] = ..., namespace: _Optional[str] = ...) -> None: ...

class Coded(_message.Message):
    __slots__ = ("value", "scheme", "meaning")
    VALUE_FIELD_NUMBER: _ClassVar[int]
    SCHEME_FIELD_NUMBER: _ClassVar[int]
    MEANING_FIELD_NUMBER: _ClassVar[int]
    value: str
    scheme: str
    meaning: str
    def __init__(self, value: _Optional[str] = ..., scheme: _Optional[str] = ..., meaning: _Optional[str] = ...) -> None: ...

class StudyTime(_message.Message):
    __slots__ = ("date", "time", "zone", "zone_source")
    DATE_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    ZONE_FIELD_NUMBER: _ClassVar[int]
    ZONE_SOURCE_FIELD_NUMBER: _ClassVar[int]
    date: str
    time: str
    zone: str
    zone_source: str
    def __init__(self, date: _Optional[str] = ..., time: _Optional[str] = ..., zone: _Optional[str] = ..., zone_source: _Optional[str] = ...) -> None: ...

class Patient(_message.Message):
    __slots__ = ("local", "others", "name", "birth_date", "sex", "postcode", "traced")
    LOCAL_FIELD_NUMBER: _ClassVar[int]
    OTHERS_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    BIRTH_DATE_FIELD_NUMBER: _ClassVar[int]
    SEX_FIELD_NUMBER: _ClassVar[int]
    POSTCODE_FIELD_NUMBER: _ClassVar[int]
    TRACED_FIELD_NUMBER: _ClassVar[int]
    local: Identifier
    others: _containers.RepeatedCompositeFieldContainer[Identifier]
    name: str
    birth_date: str
    sex: str
    postcode: str
    traced: bool
    def __init__(self, local: _Optional[_Union[Identifier, _Mapping]] = ..., others: _Optional[_Iterable[_Union[Identifier, _Mapping]]] = ..., name: _Optional[str] = ..., birth_date: _Optional[str] = ..., sex: _Optional[str] = ..., postcode: _Optional[str] = ..., traced: _Optional[bool] = ...) -> None: ...

class SopClassCount(_message.Message):
    __slots__ = ("uid", "count")
    UID_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    uid: str
    count: int
    def __init__(self, uid: _Optional[str] = ..., count: _Optional[int] = ...) -> None: ...

class Series(_message.Message):
    __slots__ = ("series_uid", "modality", "number", "description", "body_site", "laterality", "n_instances", "sop_classes", "time", "digest")
    SERIES_UID_FIELD_NUMBER: _ClassVar[int]
    MODALITY_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    BODY_SITE_FIELD_NUMBER: _ClassVar[int]
    LATERALITY_FIELD_NUMBER: _ClassVar[int]
    N_INSTANCES_FIELD_NUMBER: _ClassVar[int]
    SOP_CLASSES_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    series_uid: str
    modality: str
    number: str
    description: str
    body_site: str
    laterality: str
    n_instances: int
    sop_classes: _containers.RepeatedCompositeFieldContainer[SopClassCount]
    time: StudyTime
    digest: str
    def __init__(self, series_uid: _Optional[str] = ..., modality: _Optional[str] = ..., number: _Optional[str] = ..., description: _Optional[str] = ..., body_site: _Optional[str] = ..., laterality: _Optional[str] = ..., n_instances: _Optional[int] = ..., sop_classes: _Optional[_Iterable[_Union[SopClassCount, _Mapping]]] = ..., time: _Optional[_Union[StudyTime, _Mapping]] = ..., digest: _Optional[str] = ...) -> None: ...

class Study(_message.Message):
    __slots__ = ("study_uid", "patient", "accessions", "orders", "study_id", "description", "procedure_codes", "reason", "referrer", "institution", "time", "modalities", "body_sites", "series", "n_series", "n_instances", "detail", "progress")
    STUDY_UID_FIELD_NUMBER: _ClassVar[int]
    PATIENT_FIELD_NUMBER: _ClassVar[int]
    ACCESSIONS_FIELD_NUMBER: _ClassVar[int]
    ORDERS_FIELD_NUMBER: _ClassVar[int]
    STUDY_ID_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    PROCEDURE_CODES_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    REFERRER_FIELD_NUMBER: _ClassVar[int]
    INSTITUTION_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    MODALITIES_FIELD_NUMBER: _ClassVar[int]
    BODY_SITES_FIELD_NUMBER: _ClassVar[int]
    SERIES_FIELD_NUMBER: _ClassVar[int]
    N_SERIES_FIELD_NUMBER: _ClassVar[int]
    N_INSTANCES_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    study_uid: str
    patient: Patient
    accessions: _containers.RepeatedCompositeFieldContainer[Identifier]
    orders: _containers.RepeatedCompositeFieldContainer[Identifier]
    study_id: str
    description: str
    procedure_codes: _containers.RepeatedCompositeFieldContainer[Coded]
    reason: str
    referrer: str
    institution: str
    time: StudyTime
    modalities: _containers.RepeatedScalarFieldContainer[str]
    body_sites: _containers.RepeatedScalarFieldContainer[str]
    series: _containers.RepeatedCompositeFieldContainer[Series]
    n_series: int
    n_instances: int
    detail: str
    progress: str
    def __init__(self, study_uid: _Optional[str] = ..., patient: _Optional[_Union[Patient, _Mapping]] = ..., accessions: _Optional[_Iterable[_Union[Identifier, _Mapping]]] = ..., orders: _Optional[_Iterable[_Union[Identifier, _Mapping]]] = ..., study_id: _Optional[str] = ..., description: _Optional[str] = ..., procedure_codes: _Optional[_Iterable[_Union[Coded, _Mapping]]] = ..., reason: _Optional[str] = ..., referrer: _Optional[str] = ..., institution: _Optional[str] = ..., time: _Optional[_Union[StudyTime, _Mapping]] = ..., modalities: _Optional[_Iterable[str]] = ..., body_sites: _Optional[_Iterable[str]] = ..., series: _Optional[_Iterable[_Union[Series, _Mapping]]] = ..., n_series: _Optional[int] = ..., n_instances: _Optional[int] = ..., detail: _Optional[str] = ..., progress: _Optional[str] = ...) -> None: ...

class Manifest(_message.Message):
    __slots__ = ("document_uid", "sha1", "size_bytes", "creation_time")
    DOCUMENT_UID_FIELD_NUMBER: _ClassVar[int]
    SHA1_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    CREATION_TIME_FIELD_NUMBER: _ClassVar[int]
    document_uid: str
    sha1: str
    size_bytes: int
    creation_time: str
    def __init__(self, document_uid: _Optional[str] = ..., sha1: _Optional[str] = ..., size_bytes: _Optional[int] = ..., creation_time: _Optional[str] = ...) -> None: ...

class Act(_message.Message):
    __slots__ = ("version", "study_uid", "publish", "availability", "withdraw")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    STUDY_UID_FIELD_NUMBER: _ClassVar[int]
    PUBLISH_FIELD_NUMBER: _ClassVar[int]
    AVAILABILITY_FIELD_NUMBER: _ClassVar[int]
    WITHDRAW_FIELD_NUMBER: _ClassVar[int]
    version: Version
    study_uid: str
    publish: PublishStudy
    availability: SetAvailability
    withdraw: Withdraw
    def __init__(self, version: _Optional[_Union[Version, _Mapping]] = ..., study_uid: _Optional[str] = ..., publish: _Optional[_Union[PublishStudy, _Mapping]] = ..., availability: _Optional[_Union[SetAvailability, _Mapping]] = ..., withdraw: _Optional[_Union[Withdraw, _Mapping]] = ...) -> None: ...

class PublishStudy(_message.Message):
    __slots__ = ("study", "manifest", "submission_time", "digest", "packed")
    STUDY_FIELD_NUMBER: _ClassVar[int]
    MANIFEST_FIELD_NUMBER: _ClassVar[int]
    SUBMISSION_TIME_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    PACKED_FIELD_NUMBER: _ClassVar[int]
    study: Study
    manifest: Manifest
    submission_time: str
    digest: str
    packed: bytes
    def __init__(self, study: _Optional[_Union[Study, _Mapping]] = ..., manifest: _Optional[_Union[Manifest, _Mapping]] = ..., submission_time: _Optional[str] = ..., digest: _Optional[str] = ..., packed: _Optional[bytes] = ...) -> None: ...

class SetAvailability(_message.Message):
    __slots__ = ("approved",)
    APPROVED_FIELD_NUMBER: _ClassVar[int]
    approved: bool
    def __init__(self, approved: _Optional[bool] = ...) -> None: ...

class Withdraw(_message.Message):
    __slots__ = ("reason",)
    REASON_FIELD_NUMBER: _ClassVar[int]
    reason: str
    def __init__(self, reason: _Optional[str] = ...) -> None: ...

class PublishRequest(_message.Message):
    __slots__ = ("acts",)
    ACTS_FIELD_NUMBER: _ClassVar[int]
    acts: _containers.RepeatedCompositeFieldContainer[Act]
    def __init__(self, acts: _Optional[_Iterable[_Union[Act, _Mapping]]] = ...) -> None: ...

class PublishReply(_message.Message):
    __slots__ = ("incarnation", "results", "packed")
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    PACKED_FIELD_NUMBER: _ClassVar[int]
    incarnation: str
    results: _containers.RepeatedCompositeFieldContainer[ActResult]
    packed: int
    def __init__(self, incarnation: _Optional[str] = ..., results: _Optional[_Iterable[_Union[ActResult, _Mapping]]] = ..., packed: _Optional[int] = ...) -> None: ...

class ActResult(_message.Message):
    __slots__ = ("version", "outcome", "error_code", "message")
    class Outcome(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        OUTCOME_UNSPECIFIED: _ClassVar[ActResult.Outcome]
        ACCEPTED: _ClassVar[ActResult.Outcome]
        ALREADY: _ClassVar[ActResult.Outcome]
        STALE: _ClassVar[ActResult.Outcome]
        REFUSED: _ClassVar[ActResult.Outcome]
        RETRY: _ClassVar[ActResult.Outcome]
        EPOCH: _ClassVar[ActResult.Outcome]
    OUTCOME_UNSPECIFIED: ActResult.Outcome
    ACCEPTED: ActResult.Outcome
    ALREADY: ActResult.Outcome
    STALE: ActResult.Outcome
    REFUSED: ActResult.Outcome
    RETRY: ActResult.Outcome
    EPOCH: ActResult.Outcome
    VERSION_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    ERROR_CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    version: Version
    outcome: ActResult.Outcome
    error_code: str
    message: str
    def __init__(self, version: _Optional[_Union[Version, _Mapping]] = ..., outcome: _Optional[_Union[ActResult.Outcome, str]] = ..., error_code: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...

class CompareRequest(_message.Message):
    __slots__ = ("held",)
    HELD_FIELD_NUMBER: _ClassVar[int]
    held: _containers.RepeatedCompositeFieldContainer[HeldVersion]
    def __init__(self, held: _Optional[_Iterable[_Union[HeldVersion, _Mapping]]] = ...) -> None: ...

class HeldVersion(_message.Message):
    __slots__ = ("study_uid", "version", "digest", "approved", "patient")
    STUDY_UID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    APPROVED_FIELD_NUMBER: _ClassVar[int]
    PATIENT_FIELD_NUMBER: _ClassVar[int]
    study_uid: str
    version: Version
    digest: str
    approved: bool
    patient: Identifier
    def __init__(self, study_uid: _Optional[str] = ..., version: _Optional[_Union[Version, _Mapping]] = ..., digest: _Optional[str] = ..., approved: _Optional[bool] = ..., patient: _Optional[_Union[Identifier, _Mapping]] = ...) -> None: ...

class CompareReply(_message.Message):
    __slots__ = ("incarnation", "send", "unknown_here", "have")
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    SEND_FIELD_NUMBER: _ClassVar[int]
    UNKNOWN_HERE_FIELD_NUMBER: _ClassVar[int]
    HAVE_FIELD_NUMBER: _ClassVar[int]
    incarnation: str
    send: _containers.RepeatedScalarFieldContainer[str]
    unknown_here: _containers.RepeatedScalarFieldContainer[str]
    have: _containers.RepeatedCompositeFieldContainer[HeldVersion]
    def __init__(self, incarnation: _Optional[str] = ..., send: _Optional[_Iterable[str]] = ..., unknown_here: _Optional[_Iterable[str]] = ..., have: _Optional[_Iterable[_Union[HeldVersion, _Mapping]]] = ...) -> None: ...
