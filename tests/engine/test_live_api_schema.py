"""The API tried by its own description: schemathesis makes requests from the served document, on a running server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import CHECKS, load_all_checks

from hoiclip_engine.live.openapi import OPERATIONS, Operation
from tests.engine.supervised_runs import TOKEN, SupervisedPage, supervised
from tests.engine.test_live_api import put_events

pytestmark = pytest.mark.thorough

EXAMPLES = 50
BEARER = {"Authorization": f"Bearer {TOKEN}"}
EXCLUDED = ("positive_data_acceptance", "ignored_auth")
"""Not checked: an address of the described form may still be of a file, or have no host; and who has access has a test
of its own."""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SupervisedPage]:
    folder = Path(tmp_path_factory.mktemp("schema"))
    with supervised(folder) as running:
        put_events(running, folder / "evidence")
        running.add("rtsp://host/live")
        running.add("rtsp://host/off")
        yield running


@pytest.fixture(scope="module")
def described(page: SupervisedPage) -> Any:
    return schemathesis.openapi.from_url(f"http://{page.host}/api/openapi.json")


# Not by its plugin, which newer versions of pytest break.
operations = pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.id)
modes = pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
few = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)


def strategy(described: Any, operation: Operation, mode: GenerationMode) -> Any:
    if mode.is_negative and not (operation.parameters or operation.body):
        pytest.skip("nothing that could be wrong")
    return described[operation.path][operation.method.upper()].as_strategy(generation_mode=mode)


@operations
@modes
def test_answers_are_as_described(described: Any, operation: Operation, mode: GenerationMode) -> None:
    cases = strategy(described, operation, mode)
    load_all_checks()
    excluded = CHECKS.get_by_names(EXCLUDED)

    @few
    @given(case=cases)
    def check(case: Any) -> None:
        response = case.call(headers=BEARER, timeout=10)
        case.validate_response(response, excluded_checks=excluded, headers=BEARER)

    check()


@operations
def test_no_change_is_made_without_the_token(described: Any, page: SupervisedPage, operation: Operation) -> None:
    cases = strategy(described, operation, GenerationMode.POSITIVE)
    before = lasting(page)

    @few
    @given(case=cases)
    def check(case: Any) -> None:
        response = case.call(timeout=10, headers={"Authorization": "Bearer a-wrong-token-of-some-length"})
        assert response.status_code == 401 if operation.is_write else response.status_code < 500
        assert lasting(page) == before

    check()


def lasting(page: SupervisedPage) -> Any:
    """What changes would change."""
    sources = page.request("GET", "/api/sources").json["sources"]
    return [(source["id"], source["address"]) for source in sources], page.request("GET", "/api/rules").json
