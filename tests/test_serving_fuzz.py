"""Schemathesis takes the OpenAPI description at its word and tries to prove a real server a liar.

    BANKLLM_FUZZ_EXAMPLES=1000 python -m pytest -s tests/test_serving_fuzz.py

No 5xx, no status that is not described, no reply that does not fit its schema, no unfit request accepted, no route open
without its token, and every 405 names what is allowed. It prints how many cases that rests on.
"""

import json
import os
import re
import subprocess
import sys

import pytest

from tests.live_server import customer, guarded, logged
from tests.test_serving_auth import token

EXAMPLES = int(os.environ.get("BANKLLM_FUZZ_EXAMPLES", "100"))
"""Random cases of each operation, beside those that walk along the limits of its schema. Read before the fixtures
take such variables away."""
# The token's customer mostly, or nearly all requests would end at a 403. Two refusals are no lie: a fit request may
# still be 422 (the last message is not the user's), and an unfit one be too large to be read at all.
CONFIG = """
[dictionaries]
customers = { values = ["CUST001"] }
roles = { values = ["user"] }
questions = { values = ["What is my account balance?", "and the last three transactions?", "show me my IBAN"] }

[parameters]
"path.customer_id" = { dictionary = "customers", probability = 0.7 }
"body.customer_id" = { dictionary = "customers", probability = 0.8 }
"body.user" = { dictionary = "customers", probability = 0.8 }
"body.message" = { dictionary = "questions", probability = 0.2 }
"body.messages[*].content" = { dictionary = "questions", probability = 0.5 }
"body.messages[*].role" = { dictionary = "roles", probability = 0.8 }

[checks]
positive_data_acceptance.expected-statuses = ["2xx", 401, 403, 404, 422]
negative_data_rejection.expected-statuses = [400, 401, 403, 404, 405, 413, 422]
"""


@pytest.mark.timeout(60 + EXAMPLES)
def test_the_description_holds(tmp_path, capsys):
    (tmp_path / "schemathesis.toml").write_text(CONFIG)
    report = tmp_path / "report.json"
    with guarded(tmp_path) as server:
        options = {
            "--header": f"Authorization: Bearer {token(exp=4e9)}",
            "--checks": "all",
            "--max-examples": str(EXAMPLES),
            "--seed": "77",
            "--report-json-path": str(report),
            "--generation-database": "none",
        }
        command = [
            sys.executable,
            "-m",
            "schemathesis.cli",
            "run",
            f"{server.url}/openapi.json",
            "--continue-on-failure",
        ]
        command += [part for option in options.items() for part in option]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        with customer(server) as client:
            answered = client.get("/metrics").text
    told = json.loads(report.read_text()) if report.exists() else {}
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    assert told["operations"]["tested"] == told["operations"]["total"] == 11
    assert not told["warnings"]["unresolvable_reference"] + told["warnings"]["missing_auth"]
    by_status = answers(answered)
    assert by_status["200"] > EXAMPLES, f"hardly anything got past the refusals: {by_status}"
    assert not [status for status in by_status if status >= "500"]
    assert logged(tmp_path / "server.log", "ERROR") == []
    with capsys.disabled():
        cases = told["test_cases"]["generated"]
        print(f"\nSchemathesis {told['schemathesis_version']}: {cases} cases of 11 operations, answers {by_status}")


def answers(metrics):
    """How many requests the API's own routes answered with each status."""
    counted = {}
    for status, count in re.findall(
        r'^http_requests_total\{.*route="/(?:api/)?v1/.*status="(\d+)"\} (.*)$', metrics, re.M
    ):
        counted[status] = counted.get(status, 0) + int(float(count))
    return dict(sorted(counted.items()))
