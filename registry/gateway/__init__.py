"""The gateway: who holds it, can it be reached, stream it (D11, D21). Keeps nothing on the way."""

from registry.gateway.config import GatewayConfig
from registry.gateway.gateway import Gateway, Holder
from registry.gateway.relay import Relay
from registry.gateway.routes import routes
from registry.gateway.sessions import MemberSessions

__all__ = ["Gateway", "GatewayConfig", "Holder", "MemberSessions", "Relay", "routes"]
