"""The demo looks after its processes: what is killed comes back, what is told to end ends, nothing outlives
it.
"""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from scenario_demo import SECOND_START_S, STORY_S, Demo, assert_story_told
from scenario_processes import ROOT, Family, signal_to, until, wait_for

from crosslight.standards.problem import CrosslightError
from simulations.__main__ import main
from simulations.story import STEPS

pytestmark = [pytest.mark.scenario, pytest.mark.timeout(2 * STORY_S)]
GONE_S = 5.0  # "within a few seconds"


async def test_a_killed_child_comes_back_with_its_ports_and_data(secured: Demo) -> None:
    before = secured.up()
    study = before.traveller()["studies"][0]
    code = study["node"]
    signal_to(before.node(code)["pid"], signal.SIGKILL)
    killed, torn = time.monotonic(), 0

    async def replaced() -> bool:
        nonlocal torn
        try:
            content = json.loads(secured.json_path.read_bytes())  # at any moment: whole, old or new
        except (ValueError, OSError):
            torn += 1
            raise
        return bool(
            content["nodes"][[n["code"] for n in content["nodes"]].index(code)]["pid"]
            != before.node(code)["pid"]
        )

    _, took = await until("the file names another pid", replaced, 15, every_s=0.005)
    assert took >= 2 - 0.2, "restarted before --restart-after"
    assert torn == 0
    after = secured.told()

    async def holds() -> bool:
        async with after.dicomweb(after.node(code)["dicomweb"], "integrator") as own:
            rows, _ = await own.search("studies", StudyInstanceUID=study["study_uid"])
        return len(rows) == 1

    await until("the node answers with its data", holds, 30)
    assert time.monotonic() - killed < 45
    unchanged = {**after.content, "nodes": [{**n, "pid": 0} for n in after["nodes"]]}
    assert unchanged == {
        **before.content,
        "nodes": [{**n, "pid": 0} for n in before["nodes"]],
    }, "only one pid changed"
    assert {c for c in before.pids if before.pids[c] != after.pids[c]} == {code}

    async def live() -> bool:
        return not [w for w in (await after.study(study["study_uid"])).warnings if "unreachable" in w]

    await until("the member is live", live, 20)


async def test_a_killed_registry_comes_back(secured: Demo) -> None:
    before = secured.up()
    number = before.traveller()["nhs_number"]
    found = set((await before.by_number(number)).study_uids)
    signal_to(before.registry["pid"], signal.SIGKILL)

    async def gone() -> bool:
        try:
            await before.by_number(number)
        except CrosslightError:
            return True
        return False

    await until("the registry is down", gone, 5)

    async def back() -> bool:
        answer = await before.by_number(number)
        return set(answer.study_uids) == found and not [w for w in answer.warnings if "unreachable" in w]

    await until("the registry answers as before, every member live", back, 40)
    after = secured.told()
    assert {c for c in before.pids if before.pids[c] != after.pids[c]} == {"registry"}
    assert after["tokens"] == before["tokens"], "tokens hold across a restart"


async def test_restart_after_0_never_restarts(opened: Demo) -> None:
    before = opened.up()
    code = "RYR"
    signal_to(before.node(code)["pid"], signal.SIGKILL)
    number = before.traveller()["nhs_number"]

    async def shown() -> bool:
        return any("RYR" in w and "unreachable" in w for w in (await before.by_number(number)).warnings)

    await until("it is shown as unreachable", shown, 8)
    deadline = time.monotonic() + 4
    while time.monotonic() < deadline:
        assert f"--dir {opened.data}/nodes/{code} serve" not in " ".join(opened.family.alive().values())
        await asyncio.sleep(0.2)
    assert opened.running is not None
    assert opened.running.alive, "the region goes on without it"
    opened.end()  # the next test starts it with all its nodes
    assert not opened.family.alive()


async def _with_workers(demo: Demo) -> dict[int, str]:
    """The family, once a node has worker children too: a preview is rendered in one."""
    told = demo.up()
    study = next(s for s in told.traveller()["studies"] if s["modality"] in ("CT", "MR"))
    async with told.dicomweb(told.node(study["node"])["dicomweb"]) as own:
        rows = await own.metadata(f"studies/{study['study_uid']}")
        series, sop = (rows[0][tag]["Value"][0] for tag in ("0020000E", "00080018"))
        async with own.rendered(
            f"studies/{study['study_uid']}/series/{series}/instances/{sop}/rendered"
        ) as image:
            assert image[:2] == b"\xff\xd8"
    family = demo.family.alive()
    assert len(family) > 2 + len(told["nodes"]), "a forkserver and a worker at least"
    assert set(told.pids.values()) <= set(family)
    return family


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 0), (signal.SIGTERM, 0)])
async def test_a_signal_ends_every_process(secured: Demo, number: signal.Signals, status: int) -> None:
    await _with_workers(secured)
    if number == signal.SIGTERM:
        signal_to(secured.told().node("RXC")["pid"], signal.SIGSTOP)  # one that cannot hear
    assert secured.end(number) == status
    assert not secured.family.alive()


async def test_sigkill_leaves_no_child(secured: Demo) -> None:
    await _with_workers(secured)
    assert secured.running is not None
    signal_to(secured.told().node("RXC")["pid"], signal.SIGSTOP)
    secured.running.process.kill()
    secured.running.process.wait()
    wait_for("nobody left", lambda: not secured.family.alive(), GONE_S)
    assert not secured.family.alive()


OWNER = """
import asyncio
from crosslight.runtime.workers import SystemWorkers

async def main():
    workers = SystemWorkers(children=1)
    print(await workers.run_bounded(len, b"abc"), flush=True)
    await asyncio.sleep(600)

if __name__ == "__main__":
    asyncio.run(main())
"""


def test_children_of_a_pool_end_with_its_owner(tmp_path: Path) -> None:
    family = Family()
    (tmp_path / "owner.py").write_text(OWNER)
    process = subprocess.Popen(
        [sys.executable, str(tmp_path / "owner.py")],
        env=family.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"3\n"
        assert len(family.alive()) >= 3, "owner, forkserver, worker"
        process.kill()
        process.wait()
        wait_for("nobody left", lambda: not family.alive(), GONE_S)
    finally:
        process.kill()
        process.wait()
        family.end()


def test_a_second_start_shows_its_table_and_plays_nothing(secured: Demo) -> None:
    if secured.running is not None and secured.running.alive:
        secured.end()
    before = len(json.loads((secured.data / "ledger.json").read_bytes())["studies"])
    running = secured.start()
    _, took = wait_for(
        "the table", lambda: "The region stays up" in running.output or not running.alive, SECOND_START_S
    )
    assert running.alive, running.output
    print(f"second start: {took:.1f} s")
    for title in ("What is where", "Patients to try", "The registry", "Sign-ins"):
        assert title in running.output
    assert not [s for s in STEPS if s.title in running.output], "the story is not played again"
    assert len(secured.wait_told(5)["patients"]) > 5
    assert len(json.loads((secured.data / "ledger.json").read_bytes())["studies"]) == before


def test_another_demos_folder_is_not_taken(secured: Demo) -> None:
    other = secured.family.run(
        "simulations", "demo", "--once", "--data", str(secured.data), "--port-base", "9990", "--open"
    )
    assert other.status == 1
    assert "holds another demo" in other.output
    assert (secured.data / "demo.json").exists()


def test_a_second_demo_beside_the_first_is_refused(secured: Demo, tmp_path: Path) -> None:
    """It would show the first one's answers as its own."""
    secured.up()
    told = secured.json_path.read_bytes()
    same = secured.family.run("simulations", *secured.arguments())
    assert same.status == 1
    assert "Another demo runs on" in same.output
    elsewhere = ("--data", str(tmp_path / "d"), "--port-base", str(secured.base))
    over = secured.family.run("simulations", "demo", *elsewhere, within_s=60)
    assert over.status == 1
    assert f"Something else listens on 127.0.0.1:{secured.base}." in over.output
    assert not (tmp_path / "d").exists()
    assert secured.json_path.read_bytes() == told


def test_once_on_kept_state_plays_again(opened: Demo) -> None:
    if opened.running is not None and opened.running.alive:
        opened.end()
    chapters = json.loads((opened.data / "ledger.json").read_bytes())["chapters"]
    assert_story_told(opened.once())
    assert json.loads((opened.data / "ledger.json").read_bytes())["chapters"] == chapters + 1
    assert not opened.family.alive()


@pytest.mark.parametrize("bind", ["0.0.0.0", "::", "192.0.2.1", "example.org"])
@pytest.mark.parametrize("mode", ["--open", "--once"])
def test_no_other_address_than_loopback(tmp_path: Path, bind: str, mode: str) -> None:
    done = CliRunner().invoke(main, ["demo", "--data", str(tmp_path / "d"), "--bind", bind, mode])
    assert done.exit_code == 2
    assert "loopback only" in done.output
    assert not (tmp_path / "d").exists()


def test_the_open_demo_says_so_loudly(opened: Demo) -> None:
    opened.up()
    assert opened.running is not None
    assert "OPEN DEMO: no sign-in, no TLS" in opened.running.output


def test_make_demo_clean_removes_it(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    (kept / "registry").mkdir(parents=True)
    done = subprocess.run(
        ["make", "-C", str(ROOT), "demo-clean", f"DEMO_DATA={kept}"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert not kept.exists()
