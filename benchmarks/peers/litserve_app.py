"""Peer server: the same classifier in LitServe, with dynamic batching.

pip install --target build/peers -c requirements.lock litserve==0.2.19
PYTHONPATH=build/peers python benchmarks/peers/litserve_app.py --model FOLDER --port 8000
"""

import argparse

import litserve
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

LABELS = 84


class Classifier(litserve.LitAPI):
    """Takes `{"message": …}` and returns a label and its score. A batch is one pass of the encoder."""

    def __init__(self, folder: str) -> None:
        super().__init__(max_batch_size=32, batch_timeout=0.005)
        self.folder = folder

    def setup(self, device: str) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(self.folder)
        model = AutoModelForSequenceClassification.from_pretrained(self.folder, num_labels=LABELS)
        self.model = model.eval().to(device)

    def decode_request(self, request: dict[str, str]) -> str:
        return request["message"]

    def predict(self, messages: list[str]) -> list[tuple[int, float]]:
        tokens = self.tokenizer(messages, padding=True, truncation=True, return_tensors="pt").to(self.model.device)
        with torch.inference_mode():
            probabilities = self.model(**tokens).logits.softmax(dim=-1)
        scores, labels = probabilities.max(dim=-1)
        return list(zip(labels.tolist(), scores.tolist(), strict=True))

    def encode_response(self, output: tuple[int, float]) -> dict[str, str | float]:
        return {"label": self.model.config.id2label[output[0]], "score": output[1]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="folder of the encoder")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    options = parser.parse_args()
    # With `mcp` but without `fastmcp`, LitServe 0.2.19 does not start.
    litserve.server._MCP_AVAILABLE = False
    server = litserve.LitServer(Classifier(options.model), accelerator="cpu", healthcheck_path="/health/ready")
    server.run(host=options.host, port=options.port, generate_client_file=False, log_level="warning", access_log=False)


if __name__ == "__main__":
    main()
