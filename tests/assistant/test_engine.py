"""The chat engine with the packaged classifier and a real store."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bankllm.assistant.bank.backends.demo_bank import CUSTOMERS
from bankllm.assistant.bank.ledger import TransactionQuery, UnknownCustomer, format_money, open_bank
from bankllm.assistant.bank.statement import line
from bankllm.assistant.care.replies import OFFER
from bankllm.assistant.engine import ChatEngine
from bankllm.assistant.language.language_model import MAX_ASKED, LanguageUnderstanding
from bankllm.assistant.runtime import DEFAULT_ADAPTER
from bankllm.assistant.turn import MAX_MESSAGE_CHARACTERS, ChatReply
from bankllm.assistant.wording.generating import GeneratingResponder
from bankllm.assistant.wording.responders.template import TemplateResponder
from bankllm.errors import ModelError, UsageError
from bankllm.model.torch_classifier import IntentClassifier
from bankllm.settings import Settings
from bankllm.vectors.embedder import CacheCounts, Embedder
from bankllm.vectors.service import open_service
from tests.support.said import said

BALANCE, LATE, AGAIN = "What is my account balance?", "My new card has not arrived", "my new card still has not arrived"
VAGUE_WORDS = "is the moon made of cheese"
LATEST, THREE, VAGUE = "show me my last transactions", "and the last three transactions?", "what about my savings?"


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """As the server sets it: on a busy machine, threads that share a short text mostly wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def classifier() -> IntentClassifier:
    return IntentClassifier.load(DEFAULT_ADAPTER)


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return Embedder()


@pytest.fixture
def engine(classifier: IntentClassifier, embedder: Embedder, tmp_path: Path) -> Iterator[ChatEngine]:
    embedder.clear_cache()
    embedder.counts = CacheCounts()
    memory = open_service(tmp_path / "memory.sqlite", Settings(pinecone_api_key=None), embedder=embedder)
    with closing(ChatEngine(classifier, memory, open_bank(), TemplateResponder())) as made:
        yield made


def changed(engine: ChatEngine, **changes: object) -> ChatEngine:
    """An engine with the same memory, and with changes of its artifact."""
    classifier: Any = engine.classifier
    artifact = classifier.artifact.model_copy(update=changes)
    other = IntentClassifier(classifier.module, classifier.tokenizer, artifact, "cpu")
    return ChatEngine(other, engine.memory, open_bank(), TemplateResponder())


def asked(engine: ChatEngine, customer: str) -> list[str]:
    return [turn["user_message"] for turn in engine.memory.for_user(customer).export()]


def test_account_numbers_are_said_but_not_kept(engine: ChatEngine) -> None:
    engine.chat("my new card 4111 1111 1111 1111 has not arrived", "CUST002")
    assert "IBAN GB" in engine.chat("what is my IBAN?", "CUST002").reply
    first, second = engine.memory.for_user("CUST002").export()
    assert first["user_message"] == "my new card [card …1111] has not arrived"
    assert "[IBAN …" in second["assistant_response"]
    assert "IBAN GB" not in second["assistant_response"]


def test_each_kind_of_intent_gets_its_kind_of_answer(engine: ChatEngine) -> None:
    for customer in CUSTOMERS[:3]:
        reply = engine.chat(BALANCE, customer)
        accounts = open_bank().accounts(customer)
        assert reply.intent == "account_balance"
        assert all(format_money(a.balance_minor, a.currency) in reply.reply for a in accounts)
        assert reply.sources == tuple(f"ledger:{a.account_id}" for a in accounts)
    assert (reply.responder, reply.model) == ("template", "all-MiniLM-L6-v2+probe")
    assert 0.5 < reply.confidence <= 1
    with pytest.raises(ValueError, match="frozen"):
        reply.reply = "changed"
    assert "Your 5 latest transactions:\n- " in engine.chat("Show me my last payments", "CUST001").reply
    assert "IBAN GB47DEMO10000110000101" in engine.chat("what is my IBAN?", "CUST001").reply
    assert "knowledge:card_arrival" in engine.chat(LATE, "CUST001").sources


def test_chats_finished_together_are_answered_as_each_alone(
    engine: ChatEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    messages = [(BALANCE, "CUST001"), (LATE, "CUST002"), ("hello", "CUST003")]
    alone = [engine.chat(*each) for each in messages]
    commits, upsert = [], engine.memory.store.upsert_many
    monkeypatch.setattr(engine.memory.store, "upsert_many", lambda groups: commits.append(upsert(groups)))
    together: list[Any] = engine.finish_together([engine.begin(*each) for each in messages])
    assert len(commits) == 1
    for reply, expected in zip(together, alone, strict=True):
        assert reply.reply.startswith(expected.reply)  # which may go on: “You asked about this before”
        assert (reply.intent, reply.unavailable) == (expected.intent, ())
        # Texts in one pass give the last digits otherwise than each by itself.
        assert reply.confidence == pytest.approx(expected.confidence, abs=1e-5)
    for reply in (*together, *alone):
        stages = reply.latency_ms.model_dump()
        total = stages.pop("total")
        assert set(stages) == {"queue", "tokenise", "encode", "classify", "retrieve", "respond"}
        assert all(stage >= 0 for stage in stages.values())
        assert sum(stages.values()) == pytest.approx(total, abs=0.01)
    for message, customer in messages:
        assert asked(engine, customer) == [message] * 2


def test_in_a_batch_a_failed_chat_affects_only_itself_and_an_unclear_one_waits(
    engine: ChatEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    talk = engine.chat(BALANCE, "CUST001").conversation_id
    messages = [
        ("hello", "CUST002"),
        ("and the last three, and also my balance?", "CUST001", talk),
        ("what is my IBAN?", "CUST003"),
    ]
    pending = [engine.begin(*each) for each in messages]
    accounts = engine.bank.accounts
    monkeypatch.setattr(engine.bank, "accounts", lambda who, on=None: 1 / 0 if who == "CUST003" else accounts(who, on))
    clear, unclear, failed = engine.finish_together(pending)
    assert getattr(clear, "intent", None) == "greeting"
    assert unclear is None
    assert isinstance(failed, ZeroDivisionError)
    assert [len(asked(engine, customer)) for customer in ("CUST002", "CUST001", "CUST003")] == [1, 1, 0]


def test_a_reply_says_when_the_template_stands_in_for_a_model(engine: ChatEngine) -> None:
    class Silent:
        name, is_remote = "silent", False

        def write(self, messages: list[dict[str, str]], emit: object, stop: object) -> None:
            assert "£" in messages[1]["content"]

    engine.responder = GeneratingResponder(Silent(), timeout_s=5)
    reply = asyncio.run(engine.reply(engine.begin(BALANCE, "CUST001")))
    assert (reply.responder, reply.fallback) == ("template", "not grounded")
    assert reply.reply.startswith("Your account balance")


def test_repeated_question_rests_on_the_earlier_one_of_the_same_customer(engine: ChatEngine) -> None:
    reply = engine.chat(LATE, "CUST001")
    (kept,) = engine.memory.for_user("CUST001").export()
    assert (kept["user_message"], kept["assistant_response"], kept["intent"]) == (LATE, reply.reply, "card_arrival")
    again = engine.chat(AGAIN, "CUST001")
    assert again.sources[-2:] == ("knowledge:card_arrival", f"memory:{kept['message_id']}")
    assert engine.chat(AGAIN, "CUST002").sources[-1] == "knowledge:card_arrival"
    assert [engine.chat("hello there", "CUST001").sources for _ in range(2)] == [("knowledge:greeting",)] * 2


def test_unsure_classifier_hands_over_with_the_relevant_messages(engine: ChatEngine) -> None:
    engine.chat(LATE, "CUST001")
    unsure = changed(engine, threshold=1.1)
    assert "£" in unsure.chat(BALANCE, "CUST001").reply, "the rules understand it"
    reply = unsure.chat(VAGUE_WORDS, "CUST002")
    assert (reply.intent, reply.sources, reply.calls) == ("out_of_scope", (), ())
    assert reply.confidence < 1.1
    assert "handing you over to a person" in reply.reply
    assert reply.reply.count("“") == 2
    assert engine.handovers is not None
    summary = unsure.handovers.read(reply.handover_id, "an agent")
    assert (summary.customer_id, summary.asked) == ("CUST002", (VAGUE_WORDS,))


@pytest.mark.parametrize("text", [LATE, f"{LATE}. " * 60])
def test_one_encoder_pass_serves_intent_and_memory(engine: ChatEngine, text: str) -> None:
    engine.chat(BALANCE, "CUST001")
    counts = engine.memory.embedder.counts
    assert (counts.hits, counts.misses) == (0, 0)
    np.testing.assert_allclose(engine.embed([text]), engine.memory.embedder.encode([text]), atol=1e-5)


@pytest.mark.parametrize(
    "change", [{"method": "lora"}, {"max_length": 64}, {"base_sha256": "0" * 64}, {"base_sha256": None}]
)
def test_other_embeddings_are_not_shared(engine: ChatEngine, change: dict[str, object]) -> None:
    other = changed(engine, **change)
    before = engine.memory.embedder.counts.misses
    other.chat(BALANCE, "CUST001")
    assert engine.memory.embedder.counts.misses == before + 1


def test_bad_input_leaves_no_trace(engine: ChatEngine) -> None:
    with pytest.raises(UnknownCustomer):
        engine.chat(BALANCE, "CUST999")
    for message in ("", " \n\t", "x" * (MAX_MESSAGE_CHARACTERS + 1)):
        with pytest.raises(UsageError, match="1 to 2000 characters"):
            engine.chat(message, "CUST001")
    assert engine.memory.store.count() == 0


def test_concurrent_chats_share_passes_and_keep_customers_apart(engine: ChatEngine) -> None:
    sizes: list[int] = []
    engine.observe_batch = sizes.append
    askers = CUSTOMERS * 6
    with ThreadPoolExecutor(20) as pool:
        replies = list(pool.map(engine.chat, [BALANCE] * len(askers), askers))
    assert sum(sizes) == len(replies) == len(askers)
    assert max(sizes) > 1
    for customer, reply in zip(askers, replies, strict=True):
        own = {f"ledger:{a.account_id}" for a in open_bank().accounts(customer)}
        assert {source for source in reply.sources if source.startswith("ledger:")} == own
        assert len(asked(engine, customer)) == 6


def test_load_from_folders_and_what_cannot_be_loaded(engine: ChatEngine, tmp_path: Path) -> None:
    with closing(ChatEngine.load(Settings(store=tmp_path / "own.sqlite", pinecone_api_key=None))) as loaded:
        assert loaded.chat(BALANCE, "CUST001").intent == "account_balance"
    with pytest.raises(ModelError, match="No trained classifier"):
        ChatEngine.load(Settings(adapter=tmp_path / "nothing"))
    labels = (*engine.classifier.label_names[1:], "book_a_flight")
    with pytest.raises(ModelError, match=r"intents without an answer: book_a_flight.*add articles.*add a tool"):
        changed(engine, label_names=labels)


def test_a_follow_up_is_understood_from_its_conversation(engine: ChatEngine) -> None:
    assert engine.chat(BALANCE, "CUST001", "talk").conversation_id == "talk"
    reply = engine.chat(THREE, "CUST001", "talk")
    assert (reply.intent, reply.conversation_id) == ("recent_transactions", "talk")
    head, *listed = reply.reply.split("\n- ")
    booked = open_bank().transactions("CUST001", TransactionQuery(limit=3))
    assert (head, listed) == ("Your 3 latest transactions:", list(map(line, booked)))
    vague = engine.chat(VAGUE, "CUST001", "talk")
    assert vague.intent == "recent_transactions"
    assert vague.confidence > engine.chat(VAGUE, "CUST001").confidence


def test_no_context_without_an_id_or_from_another_conversation_or_customer(engine: ChatEngine) -> None:
    alone = engine.chat(VAGUE, "CUST002")
    for customer, conversation in (("CUST001", None), ("CUST001", "own"), ("CUST002", "foreign")):
        engine.chat(LATEST, "CUST001", conversation and "foreign")
        reply = engine.chat(VAGUE, customer, conversation)
        assert (reply.intent, reply.confidence) == ("out_of_scope", pytest.approx(alone.confidence, abs=1e-5))
        assert reply.conversation_id != alone.conversation_id
    kept = engine.memory.for_user("CUST002").export()
    assert [turn["user_message"] for turn in kept if turn["conversation_id"] == "foreign"] == [VAGUE]


def test_two_wishes_get_one_reply_in_their_order(engine: ChatEngine) -> None:
    reply = engine.chat("my balance and my last 2 transactions", "CUST001")
    understood = [(call.tool, call.arguments.get("limit")) for call in reply.calls]
    assert understood == [("balance", None), ("transactions", 2)]
    balances, payments = reply.reply.split("\n\n")
    results = [call.result or {} for call in reply.calls]
    assert all(format_money(row["balance_minor"], row["currency"]) in balances for row in results[0]["rows"])
    assert all(row["description"] in payments for row in results[1]["rows"])
    assert len(results[1]["rows"]) == 2


def test_an_action_is_asked_about_proposed_and_done_once(engine: ChatEngine) -> None:
    def balance() -> int:
        return engine.bank.accounts("CUST001")[0].balance_minor

    before = balance()
    asked = engine.chat("please transfer £50", "CUST001", "talk")
    assert asked.question is not None
    assert (asked.question.slot, asked.pending_action) == ("to", None)
    assert "Mum" in asked.question.options
    proposal = engine.chat("Mum", "CUST001", "talk").pending_action
    assert proposal is not None
    assert (proposal["tool"], proposal["arguments"]["amount_minor"]) == ("transfer", 5000)
    assert "nothing to confirm" in engine.chat("yes", "CUST001", "elsewhere").reply
    only_proposing = engine.begin("yes", "CUST001", "talk", rights="propose")
    assert "cannot confirm" in engine.finish(only_proposing).reply
    assert balance() == before
    done = engine.chat("yes", "CUST001", "talk")
    assert done.calls[0].result is not None
    assert (done.calls[0].tool, done.calls[0].result["state"], balance()) == ("transfer", "booked", before - 5000)
    assert "done already" in engine.chat("yes", "CUST001", "talk").reply
    assert balance() == before - 5000


@pytest.mark.parametrize("between", ["please cancel the transfer", "that is wrong", "🤔"])
def test_a_yes_after_another_message_books_nothing(engine: ChatEngine, between: str) -> None:
    accounts = engine.bank.accounts("CUST001")
    assert engine.chat("move £200 from savings to current", "CUST001", "talk").pending_action is not None
    assert "I have not done this" in engine.chat(between, "CUST001", "talk").reply
    assert "nothing was done" in engine.chat("yes", "CUST001", "talk").reply
    assert engine.bank.accounts("CUST001") == accounts


def test_after_a_question_the_same_action_is_proposed_again(engine: ChatEngine) -> None:
    first = engine.chat("move £200 from savings to current", "CUST001", "talk").pending_action
    reply = engine.chat("what is my balance?", "CUST001", "talk")
    assert first is not None
    assert reply.pending_action is not None
    assert [call.tool for call in reply.calls] == ["balance", "transfer"]
    assert reply.reply.endswith(f"{first['text']}. Shall I do that? Answer yes or no within ten minutes.")
    assert reply.pending_action["digest"] == first["digest"]
    assert engine.chat("sure, go for it", "CUST001", "talk").reply.startswith(f"Done: {first['text']}")


def test_a_customer_in_distress_gets_a_person_and_what_waited_is_withdrawn(engine: ChatEngine) -> None:
    assert engine.actions is not None
    assert engine.handovers is not None
    assert engine.chat("transfer £50 to Mum", "CUST001", "talk").pending_action is not None
    reply = engine.chat("I'm going to kill myself", "CUST001", "talk")
    assert "person" in reply.reply
    assert engine.actions.pending("CUST001", "talk") is None
    assert asked(engine, "CUST001") == ["transfer £50 to Mum"], "such a message is not kept"
    assert reply.handover_id is not None
    assert engine.handovers.read(reply.handover_id, "an agent").asked[-1] == "I'm going to kill myself"


def test_a_connection_that_may_only_read_proposes_nothing(engine: ChatEngine) -> None:
    reply = engine.finish(engine.begin("transfer £50 to Mum", "CUST001", rights="read"))
    assert reply.pending_action is None
    assert "may only read" in reply.reply


@pytest.mark.parametrize(
    ("written", "confidence", "tool", "reason"),
    [
        ('[{"tool":"account_details"}]', 0.96, "account_details", None),
        ('[{"tool":"account_details"}]', 0.9, "balance", "unsure"),
        ('[{"tool":"account_details"}]', 0.5, "balance", "unsure"),
        ('[{"tool":"balance","account":"invented"}]', 1, "balance", "unsure"),
        ("I think you want your balance", 1, "balance", "unreadable"),
        (None, 1, "balance", "time-out"),
    ],
)
def test_rules_take_over_from_a_model_that_is_late_unsure_or_unreadable(
    engine: ChatEngine, written: str | None, confidence: float, tool: str, reason: str | None
) -> None:
    engine.understanding.model = LanguageUnderstanding(said(written, confidence))
    reply = engine.chat("Could you please tell me what my account balance is?", "CUST001")
    assert ([call.tool for call in reply.calls], reply.understanding_fallback) == ([tool], reason)
    assert reply.understood_by == ("rules" if reason else "said")
    assert "invented" not in reply.reply


def test_more_messages_than_the_model_can_read_are_read_by_rules_at_once(engine: ChatEngine) -> None:
    language = said('[{"tool":"standing_orders"}]')
    language.go.clear()
    engine.understanding.model = LanguageUnderstanding(language)
    text = "Could you please tell me what my account balance is?"

    async def ask() -> list[ChatReply]:
        customers = [*(f"CUST00{number + 1}" for number in range(MAX_ASKED + 1)), "CUST001"]
        chats = [engine.begin(text, customer) for customer in customers]
        first = asyncio.as_completed(list(map(engine.reply, chats)))
        replies = [await next(first), await next(first)]
        language.go.set()
        return [*replies, *[await each for each in first]]

    replies = asyncio.run(ask())
    found = [(reply.calls[0].tool, reply.understood_by, reply.understanding_fallback) for reply in replies]
    assert found == [("balance", "rules", "busy")] * 2 + [("standing_orders", "said", None)] * MAX_ASKED
    assert engine.chat(text, "CUST001").understood_by == "said", "there is room again"


def test_a_model_does_not_propose_again_what_an_earlier_message_said(engine: ChatEngine) -> None:
    assert engine.chat("transfer £50 to Mum", "CUST001", "talk").pending_action is not None
    engine.understanding.model = LanguageUnderstanding(said('[{"tool":"transfer","amount":"£50","to":"Mum"}]'))
    reply = engine.chat("maybe", "CUST001", "talk")
    assert (reply.pending_action, reply.understanding_fallback) == (None, "unsure")


def test_a_short_message_about_one_tool_needs_no_model(engine: ChatEngine) -> None:
    engine.understanding.model = LanguageUnderstanding(said('[{"tool":"standing_orders"}]'))
    reply = engine.chat(BALANCE, "CUST001")
    assert ([call.tool for call in reply.calls], reply.understood_by) == (["balance"], "rules")
    assert reply.understanding_fallback is None


def test_a_correction_says_what_it_withdraws_although_it_needs_two_passes(engine: ChatEngine) -> None:
    assert engine.chat("transfer £50 to Mum", "CUST001", "talk").pending_action is not None
    pending = engine.begin("that is wrong", "CUST001", "talk")
    tries: list[Any] = engine.finish_together([pending])
    while tries[-1] is None:
        wait(pending.waits_for)
        tries += engine.finish_together([pending])
    assert len(tries) > 1, "the message is read with the one before it"
    reply = tries[-1]
    assert isinstance(reply, ChatReply)
    assert "I have not done this: Transfer £50.00" in reply.reply


def test_a_known_problem_that_may_be_distress_is_answered_with_the_offer_of_a_person(engine: ChatEngine) -> None:
    reply = engine.chat("a stranger has my card number and is buying things", "CUST001")
    assert OFFER in reply.reply
    assert "knowledge:compromised_card" in reply.sources
    assert engine.actions is not None
    assert not engine.actions.holds_payments("CUST001")
    [turn] = engine.memory.for_user("CUST001").recent(1)
    assert OFFER not in turn.assistant_response, "memory holds no sign of distress"


def test_a_follow_up_in_a_conversation_of_distress_is_answered(engine: ChatEngine) -> None:
    reply = engine.chat("I want to die", "CUST001", "talk")
    assert (reply.intent, reply.calls) == ("human_agent", ())
    reply = engine.chat("what happens if I go over it", "CUST001", "talk")
    assert "knowledge:unarranged_overdraft" in reply.sources
