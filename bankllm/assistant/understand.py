"""What a message asks for: a fixed reply, or tool calls whose words code turns into values of the customer's own data.

`Understanding.items` gives what the reply covers, in this order. `rules` or the language model propose the calls.
"""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import date
from functools import cached_property, partial

import numpy as np

from bankllm.assistant.actions.proposals import PLANS, ActionDesk
from bankllm.assistant.actions.stored import Proposal
from bankllm.assistant.actions.yes_no import is_no, is_yes
from bankllm.assistant.articles import ArticleScores, ArticleSearch
from bankllm.assistant.bank import statement
from bankllm.assistant.bank.ledger import Bank
from bankllm.assistant.bank.tools import TOOL_NAMES, Call
from bankllm.assistant.care.complaints import complaint_reply
from bankllm.assistant.care.languages import language_reply
from bankllm.assistant.care.replies import OFFER, CareReply, care_reply
from bankllm.assistant.conversation_orders import ConversationOrders
from bankllm.assistant.customer_views import CustomerViews
from bankllm.assistant.decision import CLEAR, Decision, decide
from bankllm.assistant.due import of_due
from bankllm.assistant.facts import NEXT, TOOLS, Facts, Question, ReadyCall, tool_of
from bankllm.assistant.fallbacks import GenerationFailed
from bankllm.assistant.followups import asks, continued, earlier, is_follow_up, stands_alone
from bankllm.assistant.language_model import LanguageUnderstanding, needs_model, trusted
from bankllm.assistant.references import overdraft_interest, spelled_out, without_this
from bankllm.assistant.regular_orders import ended, orders_to_end
from bankllm.assistant.restated import refuses
from bankllm.assistant.shown import compared, of_shown
from bankllm.assistant.tools.standing_orders import kinds_named
from bankllm.assistant.turn import Encoded, PendingChat
from bankllm.assistant.understanding.beyond import asks_for_another, beyond, still_refused
from bankllm.assistant.understanding.certain import certain
from bankllm.assistant.understanding.completion import COMPLETED, SUBJECTS, only_account
from bankllm.assistant.understanding.orders import changed_order, declines, takes_back
from bankllm.assistant.understanding.problems import evident, names_nothing, names_shop, on_topic, told
from bankllm.assistant.understanding.readers import P as ANSWERS
from bankllm.assistant.understanding.resolve import CustomerView, answered, resolve
from bankllm.assistant.understanding.rules import Rules
from bankllm.assistant.understanding.slots import P
from bankllm.assistant.understanding.sum_wishes import SUMS
from bankllm.assistant.understanding.tool_head import ToolHead
from bankllm.assistant.waiting import (
    Item,
    answer_and_ask,
    answering,
    cannot,
    corrected,
    from_there,
    in_same_account,
    in_there,
    of_other_card,
    of_regular,
    on_that_day,
    only_asks,
    other_option,
    repeated,
    with_detail,
    with_other_card,
    with_same_card,
)
from bankllm.assistant.while_waiting import about_payee, changed_inside, topics
from bankllm.errors import ModelError
from bankllm.model.artifact import ClassifierConfig
from bankllm.settings import Settings
from bankllm.util.redaction import mask
from bankllm.vectors.embedder import Embedder
from bankllm.vectors.namespaces import Message

LATE_CARD = "card_arrival"
"""Intent of customers whose card has not arrived: they get its status, and the article."""
CARD_FRAUD = frozenset(("card_payment_not_recognised", "cash_withdrawal_not_recognised", "compromised_card"))
"""Intents of payments by a stranger with the customer's card: no criminal waits for the customer to pay."""
WITHOUT_NAMES = frozenset(("tool", "question", "reason", "answer", "order", "direction"))
"""Parts of a call that name nothing of the customer's."""
NAMING = COMPLETED | {"card_status"}
"""Reading tools whose calls get the account or card that the message names."""
ABOUT_DISTRESS = re.compile("abuse|scam|fraud|bereave|hardship|arrears|gambl|never_ask|missed|debt|power_of|support")
"""Parts of the ids of articles about what customers in distress tell."""
FEW_WORDS = 10
"""Words of a message that only asks for payments, and tells of nothing."""
SEVERAL = frozenset(("card", "category", "merchant"))
"""Arguments whose question is also answered by "both"."""
UNKNOWN = Facts(
    "I do not know the answer to that, and I would rather not guess. Ask me in other words, or say “person” and I will "
    "hand you over to our team."
)
HEARD = Facts("All right. Tell me what else you would like to know or do, or say “person” to reach our team.")
"""After a remark that asks nothing."""
NOTHING_ORDERED = ReadyCall("small_talk", {"answer": "no"})
Encode = Callable[[Sequence[str]], list[Encoded]]


class Understanding:
    """Thread-safe."""

    def __init__(
        self,
        bank: Bank,
        embedder: Embedder,
        artifact: ClassifierConfig,
        settings: Settings,
        model: LanguageUnderstanding | None,
        desk: ActionDesk | None,
    ) -> None:
        """Raises `ModelError` for a damaged head."""
        self.model, self._desk, self._artifact, self._settings = model, desk, artifact, settings
        self._embedder, self._bank = embedder, bank
        self.views = CustomerViews(bank)
        self._orders = ConversationOrders(desk, self.views)
        self._head = ToolHead.load()
        self._fits = self._head.fits(embedder.model_id, embedder.dim)

    @cached_property
    def articles(self) -> ArticleSearch:
        """Made when the first question needs it, and by `ChatEngine.load`: other encoders embed all articles first."""
        return ArticleSearch(self._embedder)

    def items(self, pending: PendingChat, encode: Encode) -> list[Item]:
        """Return what to answer, in this order; empty if the message is not understood.

        Sets `pending.decision`, `pending.kept` of what is not stored, and `pending.withdrawn`: a message that is no yes
        and no no cancels what waits for one, so that a later yes never means what the customer has corrected. If it
        only asks something, the same action is proposed again.
        """
        (encoded,) = encode([pending.message])
        pending.decision = self._decide(pending, pending.message, encode)
        cared = self._care(pending.message, encoded.vector)
        asks_on = pending.continues and asks(pending.message) and not stands_alone(pending.message)
        if cared and pending.continues and refuses(pending.message) and not cared.instead_of_answer(ambiguous=True):
            cared = None  # "better not, he would never forgive me" declines what was offered
        if cared and pending.decision.is_topic and pending.decision.intent in CARD_FRAUD:
            cared = cared.as_offer()
        ambiguous = asks_on or asks_for_another(pending.message)
        ambiguous = ambiguous or pending.decision.is_topic
        ambiguous = ambiguous or (
            cared is not None and (self._is_of_own(pending, encode) or self._asks_article(pending, encode))
        )
        if cared and cared.instead_of_answer(ambiguous):
            pending.decision, pending.kept = Decision(cared.intent), False
            self._orders.withdraw(pending)
            if cared.holds_payments and self._desk:
                self._desk.hold_payments(pending.customer_id)
            return [Facts(cared.text, sources=cared.sources)]
        if not self._orders.decides(pending):
            pending.withdrawn = pending.withdrawn or self._orders.withdraw(
                pending
            )  # a second try finds nothing that waits
        view = partial(self.views.of, pending.customer_id)
        if (waited := pending.withdrawn) and (changed := changed_order(waited.tool, waited.arguments, pending.message)):
            return [changed]
        if waited and (inside := changed_inside(waited, pending.message, view, self._settings.present_day)):
            return [inside]
        why = cannot(waited, pending.message) if waited else ""
        if waited and (beside := [Facts(why)] if why else self._beside(waited, pending, encode)):
            pending.withdrawn = None
            return [*beside, ReadyCall(waited.tool, waited.arguments)]
        items = self._understood(pending, encode)
        if pending.withdrawn and only_asks(pending.withdrawn, pending.message, items):
            withdrawn, pending.withdrawn = pending.withdrawn, None
            items = answer_and_ask(withdrawn, pending.message, items)
        elif items == [UNKNOWN] and pending.decision.alternatives:
            items = []
        regular = any(isinstance(item, ReadyCall) and item.tool == "standing_orders" for item in items)
        offers = cared and items and not regular and not names_shop(items, pending.message)
        return [*items, Facts(OFFER)] if offers else items

    def _beside(self, waited: Proposal, pending: PendingChat, encode: Encode) -> list[Item]:
        """Return what answers a question about the waiting kind of action, or about its payee; empty if none is."""
        if found := topics(waited, pending.message):
            return [*found]
        text = about_payee(waited, pending.message, partial(self.views.of, pending.customer_id))
        if not text or not self._fits:
            return []
        day = self._settings.present_day
        calls = [call for call in self._rules(pending, encode, day).propose([text]) if call["tool"] in SUMS]
        return self._resolved(calls, pending, text, encode, day, text) if calls else []

    def _understood(self, pending: PendingChat, encode: Encode) -> list[Item]:
        turns, withdrawn = pending.turns, pending.withdrawn
        day, asked = self._settings.present_day, pending.message
        question = Question(**json.loads(turns[0].question)) if turns and turns[0].question else None
        if question and question.slot == NEXT:
            decided = self._orders.decided(pending) if self._orders.agrees(pending) else None
            if decided:
                return [decided, ReadyCall(question.tool, question.call)]
            question = None
        declined = declines(pending.message)
        call = answered(question, pending.message, day) if question and not declined else None
        view = partial(self.views.of, pending.customer_id)
        if question and question.tool == "transfer" and not call and (source := only_account(pending.message, view())):
            call = {"tool": "transfer", **question.call, "from": source}
        if withdrawn and not call:
            call = other_option(withdrawn, pending.message, turns, view, day)
            call = call or with_detail(withdrawn, pending.message, view, day)
        last = None if withdrawn or question else self._orders.last(pending)
        if again := repeated(last, pending.message) or with_other_card(last, pending.message, view):
            return [again]
        ends = not question and orders_to_end(pending.message, turns) and not self._orders.waits(pending)
        if ends and (not withdrawn or kinds_named(pending.message)):
            regular = self._bank.standing_orders(pending.customer_id)
            if end := ended(pending.message, turns, regular):
                return [end]
        calls: Sequence[Call]
        if question and question.slot in SEVERAL and ANSWERS["both"].fullmatch(pending.message.strip(" .!,")):
            calls = [{"tool": question.tool, **question.call, question.slot: one} for one in question.options]
        elif call:
            calls = [call]
        elif question and is_yes(pending.message):
            return [question]  # the yes is no answer to it, and not to what was proposed before it
        else:
            fixed = (
                self._orders.decided(pending)
                or self._orders.done(pending)
                or language_reply(pending.message)
                or complaint_reply(pending.message)
                or (f"Today is {day:%A}, {statement.day(day)}." if P["today"].fullmatch(pending.message) else "")
            )
            if P["payees"].fullmatch(pending.message):
                return [ReadyCall("payees")]
            if fixed:
                return [fixed if isinstance(fixed, Facts) else Facts(fixed)]
            pending.decision, asked = self._in_context(pending, turns, encode)
            if not withdrawn and (
                found := of_shown(pending.message, turns, self.views.or_empty(pending.customer_id), day)
            ):
                return [*found]
            rules = self._rules(pending, encode, day)
            messages = self._messages(pending)
            asked_now = messages[-1]
            if not (withdrawn or question) and (due := of_due(asked_now, turns, view(), day, rules.names)):
                return [*due]
            if not (withdrawn or question) and (told_surely := certain(asked_now, rules, day)):
                return told_surely
            if not turns and P["vague"].fullmatch(pending.message):
                return []
            if turns and (refused := still_refused(pending.message, turns[0].assistant_response)):
                return [Facts(refused)]
            if turns and not (withdrawn or question) and _is_remark(asked_now):
                return [HEARD]
            calls = self._calls(pending, messages, rules)
            if turns and takes_back(calls, pending.message):
                return [NOTHING_ORDERED]
            if withdrawn and [call["tool"] for call in calls] == ["cancel_transfer"]:
                return []  # “actually cancel that” means what was proposed, and no other transfer
            calls = corrected(calls, withdrawn, pending.message, view, day) if withdrawn else calls
            calls = answering(calls, question) if question else calls
            if turns:
                customer = self.views.or_empty(pending.customer_id)
                calls = of_other_card(of_regular(calls, pending.message, turns), messages, customer)
                calls = in_same_account(from_there(calls, messages, customer), messages, customer)
                calls = with_same_card(calls, self._orders.last(pending), pending.message, customer)
            if refused := beyond(asked_now, calls, pending.customer_id, self._head.ordinary, view):
                return [Facts(refused)]
        items = self._resolved(calls, pending, asked, encode, day, "" if call else pending.message)
        items = without_this(compared(items, pending.message, turns, day), pending.message, last, day)
        unsaid = not items or items == [UNKNOWN] or ([call["tool"] for call in calls] == ["knowledge"])
        talk = [dict(call) for call in calls] == [{"tool": "small_talk"}] and not P["polite"].fullmatch(pending.message)
        if question and question.tool in PLANS and talk and not declined:
            return [question]
        if question and question.tool in PLANS and unsaid and not asks(pending.message):
            return [NOTHING_ORDERED if declined else question]  # what was said is no other wish, and no answer either
        return items

    def _resolved(
        self, calls: Sequence[Call], pending: PendingChat, asked: str, encode: Encode, day: date, said: str
    ) -> list[Item]:
        """Turn the words of the calls into values, and choose articles.

        `asked` is the text that the message asks; `said` is the message, from which calls are completed.
        """
        needs_names = any(call["tool"] in PLANS.keys() | NAMING or call.keys() - WITHOUT_NAMES for call in calls)
        view = self.views.of(pending.customer_id) if needs_names else CustomerView()
        ready = resolve(calls, view, day, said)
        decision = pending.decision
        off_topic = decision.intent == "out_of_scope" and decision.confidence >= CLEAR and not decision.alternatives
        answers = bool(pending.turns and pending.turns[0].question and not asks(pending.message))
        alone = asked == said and (not pending.turns or stands_alone(said))
        follows = bool(pending.turns) and is_follow_up(said)
        bare = (alone and names_nothing(ready, said)) or (len(ready) == 1 and not follows and _is_open(ready[0]))
        if off_topic and not answers and bare:
            bank = {"article": "out_of_scope"} if isinstance(ready[0], Question) else {"question": said}
            ready = [ReadyCall("knowledge", bank)]
        ready = evident(ready, said) if alone else ready
        found = self.articles.best(self._scores(pending, said, encode), decision) if alone else None
        if alone and decision.is_topic:
            ready = on_topic(ready, decision.intent, said)
        elif found and found.sure and names_nothing(ready, said):
            ready = [ReadyCall("knowledge", found.arguments)]
        elif found:
            ready = told(ready, found, said)
        texts = [asked] if len(ready) == 1 else []
        if texts and pending.turns and asked == pending.message:
            texts.append(mask(f"{pending.turns[0].user_message} {asked}"))
        return [self._with_article(item, pending, texts, encode) for item in ready]

    def ready(self, call: Call, customer_id: str) -> list[Item]:
        """Return a call of another program, with its words as values, or the question to ask."""
        return list(resolve([call], self.views.of(customer_id), self._settings.present_day))

    def _decide(self, pending: PendingChat, text: str, encode: Encode) -> Decision:
        decision = decide(encode([text])[0].probabilities, self._artifact)
        return decision._replace(is_topic=self.articles.is_topic(decision, self._scores(pending, text, encode)))

    def _scores(self, pending: PendingChat, text: str, encode: Encode) -> ArticleScores:
        if text not in pending.scores:
            pending.scores[text] = self.articles.scores(text, encode([text])[0].vector)
        return pending.scores[text]

    def _care(self, message: str, vector: np.ndarray) -> CareReply | None:
        """Return the fixed reply to a customer in distress; with another encoder only certain phrases are found."""
        try:
            return care_reply(message, vector if self._fits else np.empty(0), self._settings.helplines)
        except ModelError:
            return None

    def _calls(self, pending: PendingChat, messages: Sequence[str], rules: Rules) -> list[Call]:
        """Propose calls: by the model, else by rules. Without the head's encoder the intent chooses their tool."""
        decision = pending.decision
        if decision.intent in TOOLS and decision.intent not in TOOL_NAMES:
            return [{"tool": decision.intent}]  # a tool of another package
        polite = P["polite"].fullmatch(pending.message)
        insult = P["insult"].fullmatch(pending.message)
        if insult or (polite and not (pending.withdrawn or (pending.turns and pending.turns[0].question))):
            return [{"tool": "small_talk"}]
        if is_no(pending.message) or P["nothing"].fullmatch(pending.message):
            last = self._orders.last_booked(pending) if "cancel" in pending.message.lower() else None
            if last and last.tool == "transfer":  # one for a later day can be cancelled
                return [{"tool": "cancel_transfer"}]
            return [{"tool": "small_talk", "answer": pending.message}]
        if polite:
            return [{"tool": "small_talk"}]
        if decision.intent == LATE_CARD and decision.confidence >= CLEAR:
            return [{"tool": "card_status"}]  # and not a new card
        found, unclear = self._by_rules(messages, rules)
        if self.model is not None and unclear:
            pending.written = pending.written or self.model.ask(unclear, pending.caller)
            try:
                found = trusted(pending.result(pending.written), unclear, rules, found)
                pending.understood_by = self.model.name
            except GenerationFailed as failure:
                pending.understanding_fallback = failure.reason
        return found if found or decision.alternatives else rules.read(tool_of(decision.intent), messages)

    def _rules(self, pending: PendingChat, encode: Encode, day: date) -> Rules:
        return Rules(self._head, partial(_embedded, encode), day, self.views.or_empty(pending.customer_id))

    def _is_of_own(self, pending: PendingChat, encode: Encode) -> bool:
        """Whether a few words ask for payments to a merchant or of a category: "last thing i gave oxfam"."""
        message = pending.message
        if not self._fits or len(message.split()) > FEW_WORDS:
            return False
        calls = self._rules(pending, encode, self._settings.present_day).propose([message])
        return bool(calls) and all(call["tool"] in SUMS and call.keys() & SUBJECTS for call in calls)

    def _asks_article(self, pending: PendingChat, encode: Encode) -> bool:
        """Whether an article about no distress surely answers: "can me and my boyfriend have a joint account"."""
        found = self.articles.best(self._scores(pending, pending.message, encode))
        return bool(found and found.sure and found.clear and not ABOUT_DISTRESS.search(found.article))

    def _messages(self, pending: PendingChat) -> list[str]:
        """Return the message after those that it may continue, the oldest first."""
        told = [turn.user_message for turn in pending.turns if not _is_remark(turn.user_message)]
        said = [*reversed([*earlier(told)]), pending.message]
        customer, day = self.views.or_empty(pending.customer_id), self._settings.present_day
        last = spelled_out(on_that_day(said[-1], pending.turns), pending.turns, customer, day)
        return in_there([*(overdraft_interest(one, day) for one in said[:-1]), last], customer)

    def _by_rules(self, messages: Sequence[str], rules: Rules) -> tuple[list[Call], Sequence[str]]:
        """Return the calls that rules propose, and the messages that a model should read; none if rules are sure."""
        found: list[Call] = []
        said, message = messages[-1:], messages[-1]
        if self._fits:
            found = rules.propose(said, first=len(messages) == 1)
            polite = [call["tool"] for call in found] == ["small_talk"] and not asks(message)
            if len(messages) > 1 and not polite and not (found and stands_alone(message)):
                said = messages
                found = rules.propose(said)
        if self.model is None or not found:
            return found, messages
        return found, said if needs_model(said, rules, found) else ()

    def _in_context(self, pending: PendingChat, turns: Sequence[Message], encode: Encode) -> tuple[Decision, str]:
        """Classify an unclear message together with the turn before it; return the clearer decision, and its text."""
        alone = pending.decision
        unclear = alone.alternatives or (alone.confidence < CLEAR and is_follow_up(pending.message))
        if not turns or not unclear:
            return alone, pending.message
        text = mask(f"{turns[0].user_message} {continued(pending.message)}")
        together = self._decide(pending, text, encode)
        clearer = not together.alternatives and together.confidence > alone.confidence
        return (together if clearer else alone), (text if clearer or is_follow_up(pending.message) else pending.message)

    def _with_article(self, item: ReadyCall | Question, pending: PendingChat, texts: list[str], encode: Encode) -> Item:
        """Choose the article of a knowledge call: that of a sure intent, else the best one for the question.

        `texts` are what to search, the second one if nothing fits the first; empty if the call is one of several.
        """
        if not isinstance(item, ReadyCall) or item.tool != "knowledge" or "article" in item.arguments:
            return item
        decision = pending.decision
        if texts and decision.is_topic:
            return replace(item, arguments={**item.arguments, "article": decision.intent})
        for text in texts or [item.arguments["question"]]:
            asked = decision if texts and text == texts[0] else None
            if found := self.articles.best(self._scores(pending, text, encode), asked):
                return replace(item, arguments={**item.arguments, **found.arguments})
        if decision.is_topic or (decision.intent == "out_of_scope" and not decision.alternatives):
            return replace(item, arguments={**item.arguments, "article": decision.intent})
        return UNKNOWN


def _is_remark(message: str) -> bool:
    """Whether a message only remarks on what was shown: "that much!", "I should shop less"."""
    return P["remark"].match(message) is not None and not P["remark_asks"].search(message)


def _is_open(item: ReadyCall | Question) -> bool:
    """Whether it is a question for something else than which of several payees is meant, or how much one gets."""
    named = isinstance(item, Question) and (item.slot == "to" if item.options else "to" in item.call)
    return isinstance(item, Question) and not named


def _embedded(encode: Encode, texts: Sequence[str]) -> np.ndarray:
    return np.stack([each.vector for each in encode(texts)])
