"""The OpenAI-compatible routes, called by OpenAI's own client over a real connection."""

import time

import numpy as np
import openai
import pytest

from bankllm.assistant.bank.ledger import format_money, open_bank
from bankllm.vectors.embedder import Embedder
from tests.support.live_server import bank
from tests.support.tokens import token

pytestmark = pytest.mark.slow

ASKED = [{"role": "user", "content": "What is my account balance?"}]
TEXTS = ["hello", "my card has not arrived", "💳 رصيدي", "word " * 300]


def client_of(server, key=None, **options):
    key = key or token(exp=time.time() + 600)
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=0, **options)


@pytest.fixture(scope="module")
def client(server):
    with client_of(server) as made:
        yield made


@pytest.fixture(scope="module")
def balances():
    return [format_money(a.balance_minor, a.currency) for a in open_bank().accounts("CUST001")]


def test_models_lists_the_served_model(client):
    (model,) = client.models.list().data
    assert (model.id, model.object, model.owned_by) == ("all-MiniLM-L6-v2+probe", "model", "bankllm")
    assert client.models.retrieve(model.id) == model
    with pytest.raises(openai.NotFoundError, match=r"There is no model org/other\. This server has only all-MiniLM"):
        client.models.retrieve("org/other")


def test_embeddings_equal_those_of_the_package(client):
    as_base64 = client.embeddings.create(model="any", input=TEXTS)  # the client's default
    as_floats = client.embeddings.create(model="any", input=TEXTS, encoding_format="float", dimensions=384)
    expected = Embedder().encode(TEXTS)
    for answer in (as_base64, as_floats):
        assert [item.index for item in answer.data] == list(range(len(TEXTS)))
        np.testing.assert_allclose([item.embedding for item in answer.data], expected, atol=1e-4)
    np.testing.assert_array_equal(
        np.float32([item.embedding for item in as_base64.data]), np.float32([i.embedding for i in as_floats.data])
    )
    assert as_base64.usage.prompt_tokens == as_base64.usage.total_tokens > 256


def test_completion_states_the_balances_of_the_ledger(client, balances):
    answer = client.chat.completions.create(model="any", messages=ASKED, temperature=0.2, max_tokens=50)
    (choice,) = answer.choices
    assert all(amount in choice.message.content for amount in balances)
    assert (choice.finish_reason, choice.message.role, answer.object) == ("stop", "assistant", "chat.completion")
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert answer.usage.completion_tokens > answer.usage.prompt_tokens > 0
    assert answer.id == f"chatcmpl-{answer._request_id}"


@pytest.mark.parametrize("options", [{}, {"stream_options": {"include_usage": True}}])
def test_streamed_completion_equals_the_plain_one(client, options):
    whole = client.chat.completions.create(model="any", messages=ASKED)
    chunks = list(client.chat.completions.create(model="any", messages=ASKED, stream=True, **options))
    usage = chunks.pop().usage if options else None
    assert "".join(c.choices[0].delta.content or "" for c in chunks) == whole.choices[0].message.content
    assert [c.choices[0].finish_reason for c in chunks] == [None] * (len(chunks) - 1) + ["stop"]
    assert chunks[0].choices[0].delta.role == "assistant"
    assert {c.id for c in chunks} == {chunks[0].id}
    assert all(c.usage is None for c in chunks)
    assert usage == (whole.usage if options else None)


def test_content_parts_are_joined_and_history_is_ignored(client, balances):
    """The requests of frameworks: nulls for absent options, tool calls, images and long texts in earlier messages."""
    parts = [{"type": "text", "text": part} for part in ("What is", "", "my account balance?")]
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    history = [
        {"role": "developer", "content": "You are CUST002's. " * 1000},
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}]},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": [{"type": "text", "text": "x" * 5000}]},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]},
        *[{"role": "function", "name": "f", "content": "1"}] * 300,
    ]
    absent = dict.fromkeys(("n", "stop", "stream", "stream_options", "user", "tools", "temperature", "model"))
    talk = [*history, {"role": "user", "content": parts, "name": None}]
    answer = client.chat.completions.create(model="any", messages=talk, extra_body=absent)
    assert all(amount in answer.choices[0].message.content for amount in balances)


def test_a_batch_of_texts_larger_than_the_queue_is_embedded(client):
    texts = [f"text {number}" for number in range(500)]
    absent = dict.fromkeys(("encoding_format", "dimensions", "user"))
    answer = client.embeddings.create(model="any", input=texts, extra_body=absent)
    assert [item.index for item in answer.data] == list(range(500))
    single = client.embeddings.create(model="any", input=texts[499]).data[0].embedding
    np.testing.assert_allclose(answer.data[499].embedding, single, atol=1e-4)


def test_token_identifies_the_customer(client, server, balances):
    mine = client.chat.completions.create(model="any", messages=ASKED, user="CUST001")
    assert balances[0] in mine.choices[0].message.content
    with pytest.raises(openai.PermissionDeniedError, match="does not give access to that customer"):
        client.chat.completions.create(model="any", messages=ASKED, user="CUST002")
    with client_of(server, token(sub="CUST999")) as stranger:
        for stream in (False, True):
            with pytest.raises(openai.NotFoundError, match="no customer with this id"):
                stranger.chat.completions.create(model="any", messages=ASKED, stream=stream)


@pytest.mark.parametrize("key", ["sk-made-up", token(exp=time.time() - 60), token(key="x" * 40)])
def test_invalid_key_is_rejected(server, key):
    with client_of(server, key) as stranger:
        for ask in (
            stranger.models.list,
            lambda: stranger.embeddings.create(model="any", input="hello"),
            lambda: stranger.chat.completions.create(model="any", messages=ASKED, stream=True),
        ):
            with pytest.raises(openai.AuthenticationError, match="The token was rejected") as caught:
                ask()
            assert caught.value.code == "401"
            assert caught.value.type == "invalid_request_error"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"messages": []}, "/messages: List should have at least 1 item"),
        ({"messages": [{"role": "user", "content": ""}]}, "/messages/0/content: Expected a message of 1 to 2000"),
        ({"messages": [{"role": "user", "content": "x" * 40_000}]}, "/messages/0/content: String should have at most"),
        ({"messages": [*ASKED, {"role": "assistant"}]}, "/messages/1/role: The last message does not have the role"),
        ({"messages": [*ASKED, {"role": "user", "content": 5}]}, "/messages/1/content: expected text, or a list"),
        ({"messages": [*ASKED, {}, *ASKED]}, "/messages/1/role: Field required"),
        (
            {"messages": [*ASKED, {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image_url"}]}]},
            "/messages/1/content/1/type: Input should be 'text'",
        ),
        ({"messages": ASKED, "n": 2}, "/n: Input should be 1"),
        ({"input": []}, "/input: List should have at least 1 item"),
        ({"input": ["hi"] * 2049}, "/input: List should have at most 2048 items"),
        ({"input": ["hi", ""]}, "/input/1: String should have at least 1 character"),
        ({"input": [[15339]]}, "/input: expected texts, found token ids; in LangChain, set check_embedding_ctx_length"),
        ({"input": "hi", "dimensions": 20}, "/dimensions: dimensions is 20. Expected 384"),
    ],
)
def test_invalid_requests_are_rejected_with_the_reason(client, change, message):
    create = client.embeddings.create if "input" in change else client.chat.completions.create
    for options in ({},) if "input" in change else ({}, {"stream": True}):
        with pytest.raises(openai.UnprocessableEntityError) as caught:
            create(**{"model": "any"} | change | options)
        assert message in str(caught.value)


def test_user_is_required_without_authentication(tmp_path, balances):
    with bank(tmp_path) as server, client_of(server, "any") as client:
        with pytest.raises(openai.UnprocessableEntityError, match="user is missing"):
            client.chat.completions.create(model="any", messages=ASKED)
        with pytest.raises(openai.NotFoundError, match="CUST001 to CUST012"):
            client.chat.completions.create(model="any", messages=ASKED, user="CUST999")
        answer = client.chat.completions.create(model="any", messages=ASKED, user="CUST001")
        assert balances[0] in answer.choices[0].message.content
        assert client.embeddings.create(model="any", input="hello").data
