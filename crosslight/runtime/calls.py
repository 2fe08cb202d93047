"""Whose end a CancelledError is: gRPC cancels whoever waits for a call whose channel is closed."""

from __future__ import annotations

import asyncio


def call_given_up() -> bool:
    """Asked while a CancelledError is handled: whether the call was given up, and nobody has told this task to end."""
    task = asyncio.current_task()
    return task is not None and not task.cancelling()
