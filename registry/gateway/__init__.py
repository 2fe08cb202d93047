"""The gateway: who holds it, can it be reached, stream it (D11, D21). Keeps nothing on the way."""
