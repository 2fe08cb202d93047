"""Each template has one dataclass of what it shows: it uses those names and the frame's, and no value is made
for nothing.
"""

from __future__ import annotations

from dataclasses import fields

import jinja2
import pytest
from jinja2 import meta, nodes

from registry.portal.pages import identity, patient, problem, search, viewer
from registry.portal.render import Frame, View

LOADER = jinja2.PackageLoader("registry.portal")
GLOBALS = {"asset", "count", "day", "plain"}
#: What a shared part asks for only where the page around it has it (``is defined``, ``default``).
ASKED_FOR = {"banner", "row", "strip", "holder", "by_local", "by_number", "own_disputed"}
VIEWS: tuple[type[View], ...] = (
    identity.CaseView,
    identity.QueueView,
    patient.PatientView,
    problem.ProblemView,
    search.NobodyView,
    search.PersonsView,
    search.SearchView,
    viewer.CopiesView,
    viewer.ViewerView,
)


def _used(environment: jinja2.Environment, template: str) -> set[str]:
    """Every name that a template uses and does not set, with the templates that it extends and includes.

    A part that is included sees what is set around it, so a name set by whoever includes is no name of the
    page.
    """
    tree = environment.parse(LOADER.get_source(environment, template)[0])
    bound = {name.name for name in tree.find_all(nodes.Name) if name.ctx in ("store", "param")}
    bound |= {macro.name for macro in tree.find_all(nodes.Macro)}
    names = meta.find_undeclared_variables(tree)
    for part in meta.find_referenced_templates(tree):
        assert part is not None, "a template is named by a constant"
        names |= _used(environment, part)
    return names - bound


def _names(kind: type) -> set[str]:
    return {one.name for one in fields(kind)}


def test_every_view_is_looked_at() -> None:
    assert {kind.template for kind in VIEWS} == {kind.template for kind in View.__subclasses__()}
    pages = {name for name in LOADER.list_templates() if not name.startswith("_")} - {"base.html"}
    assert {kind.template for kind in VIEWS} == pages


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.__name__)
def test_a_template_shows_what_its_view_has_and_the_frame(view: type[View]) -> None:
    used = _used(jinja2.Environment(autoescape=True), view.template)
    known = _names(view) | _names(Frame) | GLOBALS
    assert used - known <= ASKED_FOR, "a name that nobody gives"
    assert _names(view) <= used, "a value that nobody sees"
    assert not _names(view) & _names(Frame), "one name, two meanings"
