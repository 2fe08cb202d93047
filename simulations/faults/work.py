"""What people and scanners do in a run, and what must hold of each answer that they get."""

from __future__ import annotations

import asyncio

from crosslight.runtime.peers import check_peer, named_peer
from crosslight.runtime.tls import Identity
from crosslight.standards.access import OPEN
from crosslight.standards.problem import CrosslightError
from node.app import NodeApp
from node.holdings import Received
from node.membership.joined import Joined
from node.membership.standing import UNHEARD, RegionWord
from simulations.faults import invariants
from simulations.faults.objects import Image
from simulations.faults.plan import REGISTRY, PlannedAct
from simulations.faults.services import Mortal
from simulations.faults.world import MortalRegion

SENT_AGAIN_S = 7.0  # until a scanner sends again what was not acknowledged


class Work:
    """The acts that are no faults."""

    def __init__(self, region: MortalRegion) -> None:
        self._region, self._record = region, region.record

    async def do(self, act: PlannedAct, image: Image) -> None:
        """One act.

        Raises:
            BrokenError: what must hold of an answer does not.
        """
        match act.kind:
            case "store":
                while not await self._stored(image, self._region.nodes[act.who]):
                    await asyncio.sleep(SENT_AGAIN_S)  # as a scanner does
            case "find":
                await self._find(image)
            case "open":
                await self._open(act, image)
            case "ask":
                self._meet_suspended(act.who)
                await self._ask(act, image)

    async def _stored(self, image: Image, node: Mortal[NodeApp]) -> bool:
        """Send it once; whether it was acknowledged."""
        if not node.up:
            return False
        machine = node.machine
        self._record.perhaps.add(image)
        with self._region.may_fail(node):
            staged = node.app.archive.stage()
            staged.write(image.part10(node.name))
            result = await node.app.archive.ingest_async(staged, Received(road="import", peer="simulation"))
            if machine.alive and result.state in ("stored", "duplicate"):
                self._record.stored(image, node.name, self._region.now())
                return True
        return False

    async def _find(self, image: Image) -> None:
        bundle = await self._region.bundle(image.person)
        if bundle is not None:
            invariants.check_answer(self._record, image.person, bundle, self._region.now())
            self._shown(REGISTRY, "search", "")

    async def _open(self, act: PlannedAct, image: Image) -> None:
        begun = self._region.now()
        status, _ = await self._region.study(image)
        invariants.check_opening(self._record, image, act.who, status, begun)
        if status == 200:
            self._shown(REGISTRY, "retrieve", image.study_uid)
            self._shown(act.who, "retrieve", image.study_uid)

    def _shown(self, service: str, action: str, study_uid: str) -> None:
        """Something was answered: its act stands in the audit by now, once for each time."""
        folder = self._region.folder / service
        if self._region.service(service).up and folder.exists():  # its answer may come after it has gone
            self._record.showed(service, action, study_uid)
            invariants.check_shown(self._record, folder / "audit.db", service, action, study_uid)

    # --- at a node itself -----------------------------------------------------------------------------------

    async def _ask(self, act: PlannedAct, image: Image) -> None:
        """By the gateway's token for a study, some time after it was given."""
        region, code = self._region, act.who
        if not region.registry.up:
            return
        token = region.registry.app.parts.access.tokens.signer.release(
            OPEN, holder=code, patient="", studies=(image.study_uid,), correlation=f"asked-{region.now():.4f}"
        )
        await asyncio.sleep(act.amount)
        node = region.nodes[code]
        if not node.up:
            return
        begun, whole_since = region.now(), region.whole_since(code)
        listen = node.app.config.listen
        url = f"http://{listen.public_host}:{listen.systems_port}/dicomweb/studies/{image.study_uid}"
        status, _ = await region.get(url, headers={"Authorization": f"Bearer {token}"})
        invariants.check_asked(self._record, code, status, begun, whole_since)
        if status == 200:
            self._shown(code, "retrieve", image.study_uid)

    def _meet_suspended(self, code: str) -> None:
        """Whether members that are suspended would be let in at a node by their certificates."""
        region, node = self._region, self._region.nodes[code]
        membership = node.app.membership
        if not node.up or not isinstance(membership, Joined):
            return
        word, hears_since = RegionWord(membership.state), region.hears_since(code)
        for other in sorted(set(self._record.suspended) - {code}):
            peer = named_peer(Identity("member", other, word.community))
            if membership.directory_age(node.clock.now()) in UNHEARD:
                heard = membership.state.directory
                region.network.trace.happened["limit"] += heard is not None and other not in heard.suspended
                continue
            try:
                check_peer(peer, word, node.clock.now())
            except CrosslightError:
                continue
            invariants.check_asked(self._record, other, 200, region.now(), hears_since)
            if not {code, REGISTRY} & self._record.skewed:
                invariants.check_limit(self._record, other, region.now())
