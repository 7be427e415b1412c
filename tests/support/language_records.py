"""Records of a language model as the notebooks make them: understanding, wording, streams, load, conversations."""

from pathlib import Path
from typing import Any

from bankllm.evidence.run import Run
from bankllm.profiles import PROFILES, ProfileName
from tests.support.sealed_run import BANKING77

RIGHT = {"untuned": 2, "lora_r8": 60, "packaged": 82, "rules": 64}
"""Model → right answers of 100."""


def add_language_records(folder: Path, profile: ProfileName = "quick") -> None:
    """Adds records of notebooks 01, 02 and 03 to a run that `sealed_run.fill` filled."""
    shares: dict[str, Any] = {"unit": "share", "statistic": "proportion"}
    first = Run(folder, "01_local_validation", PROFILES[profile])
    first.write_rows("conversations", [{"passed": "no" if n == 0 else "yes"} for n in range(24)])
    first.measure(
        "chat.conversations.passed", raw="conversations", title="Graded", column="passed", equals="yes", **shares
    )
    first.write_rows("stream", [{"latency_ms": 900 + n, "ttft_ms": 300 + n} for n in range(140)])
    first.measure_percentiles("chat.stream", "stream", title="Streamed chat", column="latency_ms")
    first.measure_percentiles("chat.stream.first", "stream", title="First word", column="ttft_ms")

    load = Run(folder, "02_load_testing", PROFILES[profile])
    for rate, by_model, wrong in (("0_5", 100, 0), ("16", 20, 3)):
        rows = [
            {"served_by": "model" if n < by_model else "", "answer": "wrong" if n < wrong else "right"}
            for n in range(100)
        ]
        load.write_rows(f"curve_{rate}", rows)
        load.write_rows(f"curve_{rate}_once", [{"requests_per_s": 4.5}])
        key = f"load.model.at_{rate}"
        load.measure(
            f"{key}.share", raw=f"curve_{rate}", title="By the model", column="served_by", equals="model", **shares
        )
        load.measure(f"{key}.wrong", raw=f"curve_{rate}", title="Wrong", column="answer", equals="wrong", **shares)
        once: dict[str, Any] = {"raw": f"curve_{rate}_once", "column": "requests_per_s", "unit": "requests/s"}
        load.measure(f"{key}.goodput", "single", title="Goodput", **once)
    load.measure("load.model.knee", "single", title="Knee", **once)
    load.write_rows("model_locust", [{"latency_ms": 5 * n} for n in range(1, 200)])
    users = {"conditions": {"users": 100}}
    load.measure_percentiles("load.model.locust", "model_locust", title="Locust, model", column="latency_ms", **users)

    tuned = Run(folder, "03_finetuning_benchmark", PROFILES[profile])
    tuned.conditions |= {"corpus": "tellerchat", "model": "SmolLM2-135M-Instruct"}
    answers = [
        {"model": name, "actual": "a", "predicted": "a" if n < right else "b", "tokens": 20, "seconds": 0.125}
        for name, right in RIGHT.items()
        for n in range(100)
    ]
    tuned.write_rows("language", [row | {"grounded": "yes" if row["predicted"] == "a" else "no"} for row in answers])
    for name in RIGHT:
        mine: dict[str, Any] = {"raw": "language", "where": {"model": name}}
        key = f"language.{name}"
        tuned.measure(f"{key}.understand_exact", "accuracy", title=f"{name}: right calls", unit="share", **mine)
        if name != "rules":
            tuned.measure(f"{key}.word_grounded", title="Grounded", column="grounded", equals="yes", **shares, **mine)
            speed: dict[str, Any] = {"amount": "tokens", "seconds": "seconds", "unit": "tokens/s"}
            tuned.measure(f"{key}.tokens_per_s", "rate", title="Generated", **speed, **mine)
    as_classifier: dict[str, Any] = {"raw": "language", "where": {"model": "lora_r8"}, "conditions": BANKING77}
    key = "training.smollm2_lora_r_8"
    tuned.measure(f"{key}.accuracy", "accuracy", title="SmolLM2 LoRA r=8: accuracy", unit="share", **as_classifier)
