"""One message with all that it is read with: the turns before it, the customer's names, what was classified and scored.

Each part is made when a step of `steps` first asks for it.
"""

from collections.abc import Callable, Sequence
from functools import cached_property

import numpy as np

from bankllm.assistant.actions.proposals import ActionDesk
from bankllm.assistant.actions.stored import Proposal
from bankllm.assistant.articles import ArticleScores, ArticleSearch
from bankllm.assistant.bank.knowledge import Found
from bankllm.assistant.bank.ledger import Bank
from bankllm.assistant.care.replies import RecentReplies
from bankllm.assistant.customer_views import CustomerViews
from bankllm.assistant.decision import CLEAR, Decision, decide
from bankllm.assistant.earlier.references import overdraft_interest, spelled_out
from bankllm.assistant.facts import NEXT, Question
from bankllm.assistant.followups import before, continued, earlier, ends_with_pronoun, is_follow_up, points_back
from bankllm.assistant.language.language_model import LanguageUnderstanding
from bankllm.assistant.orders.conversation_orders import ConversationOrders
from bankllm.assistant.orders.in_context import in_there, on_that_day
from bankllm.assistant.turn import Encoded, PendingChat
from bankllm.assistant.understanding.customer import CustomerView
from bankllm.assistant.understanding.rules import Rules
from bankllm.assistant.understanding.slots import P
from bankllm.assistant.understanding.tool_head import ToolHead
from bankllm.model.artifact import ClassifierConfig
from bankllm.settings import Settings
from bankllm.util.redaction import mask
from bankllm.vectors.embedder import Embedder

AHEAD = 0.2
"""By how much an article must be nearer than the first of several to be taken for it."""
Encode = Callable[[Sequence[str]], list[Encoded]]


class Understanding:
    """The parts with which every message is read. Thread-safe."""

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
        self.bank, self.artifact, self.settings, self.model, self.desk = bank, artifact, settings, model, desk
        self.views, self.cared = CustomerViews(bank), RecentReplies()
        self.orders = ConversationOrders(desk, self.views)
        self.head = ToolHead.load()
        self.head_fits = self.head.fits(embedder.model_id, embedder.dim)
        self._embedder = embedder

    @cached_property
    def articles(self) -> ArticleSearch:
        """Made when the first question needs it, and by `ChatEngine.load`: other encoders embed all articles first."""
        return ArticleSearch(self._embedder)


class Reading:
    """`encode` raises `NotYet` for a text that needs another encoder pass; the message is then read again from here."""

    def __init__(self, parts: Understanding, pending: PendingChat, encode: Encode) -> None:
        self.parts, self.pending, self._encode = parts, pending, encode
        self.message = P["aside"].sub("", pending.message) or pending.message
        self.message = P["and_how_much"].sub(r"\g<when>", self.message)
        self.message = P["own_pay"].sub(r"\g<my>wages", P["them"].sub("them", self.message))
        self.message = P["dd"].sub(r"direct debit\1", self.message)
        if P["card_trouble"].search(self.message):
            self.message = P["bare_card"].sub(r"\g<0> card", self.message)
        self.turns, self.today = pending.turns, parts.settings.present_day
        asked = Question.stored(self.turns[0].question) if self.turns else None
        self.offered = asked if asked and asked.slot == NEXT else None
        """The action that follows after a yes to the one that waits."""
        self.question = None if self.offered else asked
        """What the reply before this message asked."""
        pending.decision = self.decide(self.message)
        self.asked = self.message
        """The text for which an article is searched."""

    @property
    def withdrawn(self) -> Proposal | None:
        """The action that waited for a yes, which this message cancelled."""
        return self.pending.withdrawn

    @property
    def plain(self) -> bool:
        """Whether nothing waited for a yes, and nothing was asked."""
        return not (self.withdrawn or self.question)

    @property
    def customer(self) -> CustomerView:
        """The customer's names; no names if the ledger fails, which the tools then say."""
        return self.parts.views.or_empty(self.pending.customer_id)

    def view(self) -> CustomerView:
        """Return the customer's names. Raises what the bank raises."""
        return self.parts.views.of(self.pending.customer_id)

    @cached_property
    def rules(self) -> Rules:
        return Rules(self.parts.head, self._embedded, self.today, self.customer)

    @cached_property
    def messages(self) -> list[str]:
        """The message after those that it may continue, the oldest first; what it refers to is spelled out."""
        told = [turn.user_message for turn in self.turns if not is_remark(turn.user_message)]
        told = [P["aside"].sub("", one) or one for one in told]
        said = [overdraft_interest(one, self.today) for one in reversed([*earlier(told)])]
        last = spelled_out(on_that_day(self.message, self.turns), self.turns, self.customer, self.today)
        return in_there([*said, last], self.customer)

    @cached_property
    def last(self) -> Proposal | None:
        """The conversation's last action."""
        return self.parts.orders.last(self.pending)

    def vector(self, text: str) -> np.ndarray:
        """Return the embedding of a text, (dim,)."""
        return self._encode([text])[0].vector

    def decide(self, text: str) -> Decision:
        decision = decide(self._encode([text])[0].probabilities, self.parts.artifact)
        return decision._replace(is_topic=self.parts.articles.is_topic(decision, self._scores(text)))

    def article(self, text: str, decision: Decision | None = None) -> Found | None:
        """Return the best article for a text, see `ArticleSearch.best`."""
        return self.parts.articles.best(self._scores(text), decision)

    def nearest_first(self, text: str, sources: Sequence[str]) -> tuple[str, ...]:
        """Return `knowledge:<article>` of each, the first one first unless another is much nearer."""
        scores = self.parts.articles.by_article(self._scores(text))
        lead = {
            source: scores[source.removeprefix("knowledge:")] + AHEAD * (source == sources[0]) for source in sources
        }
        return tuple(sorted(sources, key=lambda source: lead[source] < max(lead.values())))

    def is_off_topic(self, text: str) -> bool:
        """Whether a text is nearer to a question that no article answers than to all others."""
        scored = self._scores(text)
        return bool(scored.unanswered > scored.near.max())

    def classify_in_context(self) -> None:
        """Classify an unclear message together with the turn before it; keep the clearer decision, and its text.

        A few words that point back ("and for cash there", "can I cancel it later") mean nothing alone.
        """
        if not self.turns:
            return
        alone, follows = self.pending.decision, is_follow_up(self.message) and not self._is_clear(near=True)
        points = ends_with_pronoun(self.message) or (points_back(self.message) and not self._is_clear())
        if not (alone.alternatives or points or (alone.confidence < CLEAR and follows)):
            return
        text = mask(before(self.message, [turn.user_message for turn in self.turns]))
        together = self.decide(text)
        if not together.alternatives and (points or together.confidence > alone.confidence):
            self.pending.decision, self.asked = together, text
        elif follows or points:
            self.pending.decision, self.asked = alone._replace(is_topic=alone.is_topic and not points), text

    def _is_clear(self, *, near: bool = False) -> bool:
        """Whether an article answers the message alone; with `near` one that is asked for in nearly its words."""
        found = self.article(continued(self.message) if near else self.message, self.pending.decision)
        return bool(found and found.sure and found.clear and (found.near or not near))

    def _scores(self, text: str) -> ArticleScores:
        known = self.pending.scores
        if text not in known:
            known[text] = self.parts.articles.scores(text, self.vector(text))
        return known[text]

    def _embedded(self, texts: Sequence[str]) -> np.ndarray:
        return np.stack([each.vector for each in self._encode(texts)])


def is_remark(message: str) -> bool:
    """Whether a message only remarks on what was shown: "that much!", "I should shop less"."""
    return P["remark"].match(message) is not None and not P["remark_asks"].search(message)
