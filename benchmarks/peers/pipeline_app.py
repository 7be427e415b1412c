"""Peer server: the simplest implementation, with FastAPI and one call of transformers' pipeline per request.

python benchmarks/peers/pipeline_app.py --model FOLDER --port 8000
"""

import argparse

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline


class Question(BaseModel):
    message: str


class Answer(BaseModel):
    label: str
    score: float


def create_app(folder: str) -> FastAPI:
    app = FastAPI()
    model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=84)
    classify = pipeline("text-classification", model=model, tokenizer=AutoTokenizer.from_pretrained(folder))

    @app.get("/health/ready")
    async def ready() -> dict[str, str]:
        return {"status": "ready"}

    @app.post("/predict")
    def predict(question: Question) -> Answer:
        return Answer(**classify(question.message)[0])

    return app


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="folder of the encoder")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    options = parser.parse_args()
    uvicorn.run(create_app(options.model), host=options.host, port=options.port, access_log=False)


if __name__ == "__main__":
    main()
