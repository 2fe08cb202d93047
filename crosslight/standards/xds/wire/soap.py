"""SOAP 1.2 and WS-Addressing as IHE uses them (ITI TF-2 Appendix V). Pure.

Envelopes are read liberally and written strictly.

Dispatch is on ``wsa:Action`` only: the ``action`` parameter of Content-Type is ignored (zeep sends ``None``
there).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from crosslight.standards.problem import (
    Busy,
    CrosslightError,
    Forbidden,
    Malformed,
    OurError,
    PeerError,
    Unavailable,
)
from crosslight.standards.xds.model.xml import (
    DEFAULT_LIMITS,
    SOAP,
    WSA,
    Element,
    XmlLimits,
    children,
    esc,
    parse_untrusted_xml,
)
from crosslight.standards.xds.model.xml import text_of as _text

ANONYMOUS = "http://www.w3.org/2005/08/addressing/anonymous"
ADDRESSING_FAULT = "http://www.w3.org/2005/08/addressing/fault"  # wsa:Action of WS-Addressing's own faults
SOAP_FAULT = "http://www.w3.org/2005/08/addressing/soap/fault"
SOAP_1_1 = "http://schemas.xmlsoap.org/soap/envelope/"
_TRUE = frozenset({"1", "true"})
_OUR_ROLES = frozenset({"", f"{SOAP}/role/next", f"{SOAP}/role/ultimateReceiver"})
_PROBLEM = "urn:crosslight:problem"
_NAMESPACES = f'xmlns:s="{SOAP}" xmlns:wsa="{WSA}"'


class SoapFault(PeerError):
    """A SOAP 1.2 fault: sent when a message cannot be processed at all, raised when a peer sends one.

    Args:
        code: ``Sender``, ``Receiver``, ``MustUnderstand``, ``VersionMismatch`` or ``DataEncodingUnknown``.
        subcode: A WS-Addressing subcode's local name, e.g. ``ActionNotSupported``; '' for none.
        own: A subcode of ours that tells what the HTTP status no longer does: ``Forbidden``, ``Unavailable``,
            ``Busy``; '' for none.
        relates_to: MessageID of the request, where it was read before the fault.
    """

    def __init__(
        self,
        what: str,
        *,
        code: str = "Sender",
        subcode: str = "",
        why: str = "",
        relates_to: str = "",
        own: str = "",
    ) -> None:
        super().__init__(what, why=why, xds_code="XDSRegistryError")
        self.code = code
        self.subcode = subcode
        self.relates_to = relates_to
        self.own = own


class ReceivedFault(SoapFault):
    """A fault that a peer answered us with."""

    http_status = 502


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """A message. ``body`` is the one child of soap:Body."""

    action: str
    message_id: str
    body: Element
    to: str = ""
    reply_to: str = ""
    relates_to: str = ""
    headers: tuple[Element, ...] = field(default=(), repr=False)
    mtom: bool = False  # it came as multipart/related; the answer goes the same way


def parse_envelope(data: bytes, limits: XmlLimits = DEFAULT_LIMITS) -> Envelope:
    """Read a request or response envelope.

    Raises:
        Malformed, TooLarge: as :func:`parse_untrusted_xml`.
        SoapFault: an envelope that SOAP or WS-Addressing forbids, or one that *is* a fault.
        Forbidden, Unavailable: a fault of ours that says so.
    """
    root = parse_untrusted_xml(data, limits)
    if root.tag != f"{{{SOAP}}}Envelope":
        if root.tag == f"{{{SOAP_1_1}}}Envelope":
            raise SoapFault(
                "This is a SOAP 1.1 message.",
                code="VersionMismatch",
                why="ITI TF-2 Appendix V: SOAP 1.2 only.",
            )
        raise Malformed("The message is not a SOAP 1.2 envelope.", why="ITI TF-2 Appendix V.")
    header, bodies = root.find(f"{{{SOAP}}}Header"), children(root, SOAP, "Body")
    if len(bodies) != 1:
        raise Malformed("The envelope must have exactly one Body.", why="SOAP 1.2 part 1, 5.1.")
    headers = tuple(header) if header is not None else ()
    values = _addressing(headers)
    elements = list(bodies[0])
    if len(elements) != 1:
        raise SoapFault(
            "The Body must have exactly one element.", why="Document/literal.", relates_to=values["MessageID"]
        )
    if elements[0].tag == f"{{{SOAP}}}Fault":
        raise _received_fault(elements[0], values["RelatesTo"])
    return Envelope(
        action=values["Action"],
        message_id=values["MessageID"],
        to=values["To"],
        reply_to=values["ReplyTo"],
        relates_to=values["RelatesTo"],
        body=elements[0],
        headers=headers,
    )


def _addressing(headers: tuple[Element, ...]) -> dict[str, str]:
    values = dict.fromkeys(("Action", "MessageID", "To", "ReplyTo", "RelatesTo", "From", "FaultTo"), "")
    seen: set[str] = set()
    for element in headers:
        namespace, _, name = str(element.tag)[1:].partition("}")
        if namespace != WSA:
            if _is_for_us(element):
                raise SoapFault(
                    f"The header {name} is not understood here.",
                    code="MustUnderstand",
                    relates_to=values["MessageID"],
                )
            continue
        if name in seen and name != "RelatesTo":
            raise SoapFault(
                f"wsa:{name} is given twice.",
                subcode="InvalidAddressingHeader",
                relates_to=values["MessageID"],
            )
        seen.add(name)
        if name in ("ReplyTo", "From", "FaultTo"):
            address = element.find(f"{{{WSA}}}Address")
            values[name] = _text(address).strip()
        elif name in values:
            values[name] = _text(element).strip()
    return values


def _is_for_us(element: Element) -> bool:
    """Whether this header must be understood here (SOAP 1.2 part 1, 2.2, 5.2.2 and 5.2.3).

    ``none`` is nobody's role.
    """
    must = element.get(f"{{{SOAP}}}mustUnderstand", "").strip().lower() in _TRUE
    return must and element.get(f"{{{SOAP}}}role", "").strip() in _OUR_ROLES


def require_request(envelope: Envelope) -> Envelope:
    """``envelope`` if it may be dispatched as a synchronous request.

    ReplyTo and MessageID may be missing (zeep).

    Raises:
        SoapFault: no Action, or an answer that is to go elsewhere (asynchronous exchange is not built).
    """
    if not envelope.action:
        raise SoapFault(
            "The message has no wsa:Action.",
            subcode="MessageAddressingHeaderRequired",
            relates_to=envelope.message_id,
        )
    if envelope.reply_to and envelope.reply_to != ANONYMOUS:
        raise SoapFault(
            "Answers go back on the connection that asked.",
            subcode="OnlyAnonymousAddressSupported",
            why="Asynchronous web services exchange is not supported.",
            relates_to=envelope.message_id,
        )
    return envelope


def action_not_supported(envelope: Envelope) -> SoapFault:
    """The fault for an Action that nothing here answers (WS-Addressing 1.0 SOAP binding 6.4.2.5)."""
    return SoapFault(
        "The action is not supported at this address.",
        subcode="ActionNotSupported",
        why=envelope.action[:200],
        relates_to=envelope.message_id,
    )


def render_envelope(
    action: str, body: bytes, *, message_id: str, to: str = "", relates_to: str = ""
) -> bytes:
    """An envelope around ``body``, which declares its own namespaces.

    Without ``relates_to`` it is a request and has ReplyTo.
    """
    parts = [
        f'<?xml version="1.0" encoding="UTF-8"?><s:Envelope {_NAMESPACES}><s:Header>'
        f'<wsa:Action s:mustUnderstand="1">{esc(action)}</wsa:Action>'
    ]
    if message_id:
        parts.append(f"<wsa:MessageID>{esc(message_id)}</wsa:MessageID>")
    if to:
        parts.append(f'<wsa:To s:mustUnderstand="1">{esc(to)}</wsa:To>')
    if relates_to:
        parts.append(f"<wsa:RelatesTo>{esc(relates_to)}</wsa:RelatesTo>")
    else:
        parts.append(
            f'<wsa:ReplyTo s:mustUnderstand="1"><wsa:Address>{ANONYMOUS}</wsa:Address></wsa:ReplyTo>'
        )
    parts.append("</s:Header><s:Body>")
    return b"".join(("".join(parts).encode(), body, b"</s:Body></s:Envelope>"))


def render_fault(fault: SoapFault, *, message_id: str = "", relates_to: str = "") -> bytes:
    """A complete fault envelope; ``relates_to`` defaults to what the fault knows."""
    relates_to = relates_to or fault.relates_to
    action = ADDRESSING_FAULT if fault.subcode else SOAP_FAULT
    named = f"<s:Value>wsa:{esc(fault.subcode)}</s:Value>" if fault.subcode else ""
    if fault.own:
        named = f'<s:Value xmlns:p="{_PROBLEM}">p:{fault.own}</s:Value>'
    subcode = f"<s:Subcode>{named}</s:Subcode>" if named else ""
    detail = f'<s:Detail><p:Why xmlns:p="{_PROBLEM}">{esc(fault.why)}</p:Why></s:Detail>' if fault.why else ""
    head = f'<wsa:Action s:mustUnderstand="1">{action}</wsa:Action>'
    if message_id:
        head += f"<wsa:MessageID>{esc(message_id)}</wsa:MessageID>"
    if relates_to:
        head += f"<wsa:RelatesTo>{esc(relates_to)}</wsa:RelatesTo>"
    return (
        '<?xml version="1.0" encoding="UTF-8"?><s:Envelope'
        f" {_NAMESPACES}><s:Header>{head}</s:Header><s:Body><s:Fault>"
        f"<s:Code><s:Value>s:{fault.code}</s:Value>{subcode}</s:Code>"
        f'<s:Reason><s:Text xml:lang="en">{esc(fault.what)}</s:Text></s:Reason>{detail}'
        "</s:Fault></s:Body></s:Envelope>"
    ).encode()


def fault_of(error: CrosslightError, relates_to: str = "") -> SoapFault:
    """How an error that is no application answer looks as a fault; nothing of ours leaks."""
    if isinstance(error, SoapFault):
        return error
    is_ours = isinstance(error, OurError | Unavailable) or not isinstance(error, PeerError)
    code = "Receiver" if is_ours else "Sender"
    own = "Unavailable" if error.http_status == 503 else "Forbidden" if isinstance(error, Forbidden) else ""
    own = "Busy" if isinstance(error, Busy) else own
    return SoapFault(error.what, code=code, why=error.why, relates_to=relates_to, own=own)


def _received_fault(element: Element, relates_to: str) -> PeerError:
    def value(path: str) -> str:
        child = element.find(path, {"s": SOAP, "p": _PROBLEM})
        return _text(child).strip()

    why = value("s:Detail/p:Why")[:500]
    code = value("s:Code/s:Value").rpartition(":")[2] or "Receiver"
    subcode = value("s:Code/s:Subcode/s:Value").rpartition(":")[2]
    told = value("s:Reason/s:Text")[:500]
    if subcode == "Busy":
        return Busy("The peer is busy.", where="answer", why=told)
    if subcode == "Unavailable":
        return Unavailable("The peer cannot answer now.", where="answer", why=told)
    if subcode == "Forbidden":
        return Forbidden("The peer does not allow this.", why=f"{told} {why}".strip())
    return ReceivedFault(
        "The peer answered with a SOAP fault.", code=code, subcode=subcode, why=told, relates_to=relates_to
    )
