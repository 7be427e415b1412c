"""Schemathesis tests a real server against its OpenAPI description.

    BANKLLM_FUZZ_EXAMPLES=1000 python -m pytest -s tests/serving/test_fuzz.py

No 5xx, no undocumented status, no invalid response, no invalid request accepted, no route without its token.
"""

import json
import os
import subprocess
import sys
from collections import Counter

import pytest

from tests.support.prometheus_text import samples
from tests.support.tokens import token

pytestmark = pytest.mark.slow

EXAMPLES = int(os.environ.get("BANKLLM_FUZZ_EXAMPLES", "100"))
"""Random cases per operation. Read at import time, because the test fixtures remove such variables."""
# Mostly the token's customer; otherwise nearly all requests would end with a 403.
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
negative_data_rejection.expected-statuses = [400, 401, 403, 404, 405, 413, 415, 422]
"""


@pytest.mark.timeout(60 + EXAMPLES)
def test_server_conforms_to_its_openapi_description(server, client, tmp_path):
    (tmp_path / "schemathesis.toml").write_text(CONFIG)
    report = tmp_path / "report.json"
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{server.url}/openapi.json"]
    command += ["--continue-on-failure", "--checks", "all", "--seed", "77", "--generation-database", "none"]
    command += ["--header", f"Authorization: Bearer {token(exp=4e9)}", "--max-examples", str(EXAMPLES)]
    command += ["--report-json-path", str(report)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    results = json.loads(report.read_text()) if report.exists() else {}
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    assert results["operations"]["tested"] == results["operations"]["total"] == 21
    assert not results["warnings"]["unresolvable_reference"] + results["warnings"]["missing_auth"]
    by_status: Counter[str] = Counter()
    for (name, key), count in samples(client.get("/metrics").content).items():
        labels = dict(key)
        if name == "http_requests_total" and labels["route"].startswith(("/v1/", "/api/v1/")):
            by_status[labels["status"]] += int(count)
    assert by_status["200"] > EXAMPLES, f"too few requests were accepted: {by_status}"
    assert not [status for status in by_status if status >= "500"]
