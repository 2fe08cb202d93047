"""The walls are held by import-linter: an import that would go round one breaks a contract of
``pyproject.toml``.

Each import is put into the graph of the real packages, one at a time, and the real contracts are asked.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import grimp
import pytest
from importlinter import configuration
from importlinter.application.use_cases import read_user_options
from importlinter.contracts.forbidden import ForbiddenContract
from importlinter.contracts.layers import LayersContract
from importlinter.domain.contract import Contract

ROOT = Path(__file__).parents[2]
KINDS: dict[str, type[Contract]] = {"layers": LayersContract, "forbidden": ForbiddenContract}

#: Who must not import what, one line for each; the first ones went unseen once.
REFUSED = [
    ("registry.fhir.negotiate", "registry.index.read"),
    ("registry.fhir.negotiate", "registry.index.write"),
    ("registry.fhir.negotiate", "registry.identity.rows"),
    ("node.serve.rendered", "node.archive.store"),
    ("node.serve.stow", "node.archive.archive"),
    ("node.serve.retrieve", "crosslight.runtime.db"),
    ("node.serve.iti43", "node.publish.store"),
    ("node.dimse.services.store", "node.archive.ingest"),
    ("node.dimse.services.store", "node.dimse.upper"),
    ("node.dimse.association", "node.dimse.server"),
    ("node.publish.revise", "node.archive.store"),
    ("node.membership.joined", "node.publish.build"),
    ("node.health", "node.membership.joined"),
    ("node.publish.build", "node.membership.link"),
    ("node.membership.membership", "node.config"),
    ("node.membership.joined", "node.archive.archive"),
    ("node.archive.ingest", "node.serve.release"),
    ("node.archive.store", "node.publish.model"),
    ("node.holdings", "node.archive.model"),
    ("registry.intake.accept", "registry.ihe.iti42"),
    ("registry.ask.ask", "registry.portal.face"),
    ("registry.members.model", "registry.index.model"),
    ("registry.portal.face", "registry.identity.store"),
    ("node.serve.release", "registry.ask.ask"),
    ("crosslight.standards.ids", "crosslight.runtime.clock"),
    ("crosslight.runtime.http", "node.app"),
]  # fmt: skip


@pytest.fixture(scope="module")
def broken() -> Callable[[tuple[str, str] | None], list[str]]:
    """The names of the contracts that break when an import is added."""
    configuration.configure()
    options = read_user_options(str(ROOT / "pyproject.toml"))
    packages = options.session_options["root_packages"]
    graph = grimp.build_graph(*packages, include_external_packages=True, cache_dir=None)
    contracts = [
        KINDS[one["type"]](name=one["name"], session_options=options.session_options, contract_options=one)
        for one in options.contracts_options
    ]

    def check(added: tuple[str, str] | None) -> list[str]:
        tried = deepcopy(graph)
        if added is not None:
            importer, imported = added
            assert {importer, imported} <= tried.modules, "it was renamed: name it here anew"
            tried.add_import(
                importer=importer, imported=imported, line_number=1, line_contents=f"import {imported}"
            )
        return [one.name for one in contracts if not one.check(deepcopy(tried), verbose=False).kept]

    return check


def test_as_it_stands_every_contract_is_kept(broken: Callable[[tuple[str, str] | None], list[str]]) -> None:
    assert broken(None) == []


@pytest.mark.parametrize("added", REFUSED, ids=" -> ".join)
def test_an_import_round_a_wall_breaks_a_contract(
    added: tuple[str, str], broken: Callable[[tuple[str, str] | None], list[str]]
) -> None:
    assert broken(added) != []
