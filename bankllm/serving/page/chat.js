"use strict";

const conversation = document.getElementById("conversation");
const form = document.getElementById("form");
const message = document.getElementById("message");
const send = document.getElementById("send");
const customer = document.getElementById("customer");
const token = document.getElementById("token");
let conversationId = null;

// Sets text with textContent, so that text from a customer or a model is never interpreted as markup.
function element(name, className, text) {
  const created = document.createElement(name);
  if (className) created.className = className;
  if (text !== undefined) created.textContent = text;
  return created;
}

function show(className, text) {
  const bubble = element("div", className, text);
  conversation.append(bubble);
  conversation.scrollTop = conversation.scrollHeight;
  return bubble;
}

function money(minor, currency) {
  const format = new Intl.NumberFormat("en-GB", { style: "currency", currency });
  return format.format(minor / 10 ** format.resolvedOptions().maximumFractionDigits).replace("-", "−");
}

function day(iso) {
  const options = { day: "numeric", month: "short", year: "numeric", timeZone: "UTC" };
  return new Date(iso).toLocaleDateString("en-GB", options);
}

// Tool → heading and text of each column, for the rows of its result. An amount is aligned to the right.
const PAYMENTS = [
  ["Date", (row) => day(row.booked)],
  ["Description", (row) => row.description + (row.status === "pending" ? " (pending)" : "")],
  ["Amount", (row) => money(row.amount_minor, row.currency)],
];
const COLUMNS = {
  spending: PAYMENTS,
  transactions: PAYMENTS,
  balance: [
    ["Account", (row) => `${row.name} …${row.ending}`],
    ["Balance", (row) => money(row.balance_minor, row.currency)],
    ["Available", (row) => ("available_minor" in row ? money(row.available_minor, row.currency) : "–")],
  ],
  card_status: [
    ["Card", (row) => `${row.name} …${row.last4}`],
    ["Status", (row) => row.status],
    ["Limit a day", (row) => money(row.limit_minor, row.currency)],
  ],
  standing_orders: [
    ["Payment", (row) => row.name],
    ["Next", (row) => day(row.next_due)],
    ["Amount", (row) => money(row.amount_minor, row.currency)],
  ],
};
const AMOUNTS = new Set(["Amount", "Balance", "Available", "Limit a day"]);
const SHOWN_ROWS = 10;

function table(rows, columns) {
  const made = element("table");
  const head = made.createTHead().insertRow();
  for (const [name] of columns) {
    const cell = element("th", AMOUNTS.has(name) ? "amount" : "", name);
    cell.scope = "col";
    head.append(cell);
  }
  const body = made.createTBody();
  for (const row of rows) {
    const line = body.insertRow();
    for (const [name, text] of columns) line.append(element("td", AMOUNTS.has(name) ? "amount" : "", text(row)));
  }
  return made;
}

function folded(title, ...contents) {
  const details = element("details");
  details.append(element("summary", "", title), ...contents);
  return details;
}

function svg(name, attributes, text) {
  const created = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) created.setAttribute(key, value);
  if (text !== undefined) created.textContent = text;
  return created;
}

// Horizontal bars, one line each: name, bar, amount.
function bars(title, sums) {
  const shown = sums.filter((each) => each.amount_minor > 0 && each.currency === sums[0].currency).slice(0, 12);
  if (shown.length < 2) return null;
  const most = Math.max(...shown.map((each) => each.amount_minor));
  const figure = element("figure");
  const chart = svg("svg", { viewBox: `0 0 320 ${22 * shown.length}`, role: "img" });
  const spoken = shown.map((each) => `${each.name} ${money(each.amount_minor, each.currency)}`).join(", ");
  chart.append(svg("title", {}, `${title}: ${spoken}`));
  shown.forEach((each, number) => {
    const y = 22 * number;
    const month = /^\d{4}-\d\d$/.test(each.name);
    const options = { month: "short", year: "numeric", timeZone: "UTC" };
    const name = month ? new Date(each.name).toLocaleDateString("en-GB", options) : each.name;
    chart.append(
      svg("text", { x: 0, y: y + 15 }, name),
      svg("rect", { x: 108, y: y + 4, width: Math.max(1, (134 * each.amount_minor) / most), height: 14, rx: 2 }),
      svg("text", { x: 320, y: y + 15, "text-anchor": "end" }, money(each.amount_minor, each.currency)),
    );
  });
  figure.append(element("figcaption", "", title), chart);
  return figure;
}

// What was understood, as a list of short labels: the tool, and the values that the reply rests on.
function understood(calls) {
  const list = element("ul", "chips");
  list.setAttribute("aria-label", "Understood as");
  for (const { tool, arguments: given, result } of calls) {
    if (tool === "small_talk") continue;
    const values = [result?.title, given.merchant, given.category, given.kind];
    if (given.date) values.push(day(given.date));
    if (given.date_from || given.date_to)
      values.push([given.date_from, given.date_to].map((iso) => (iso ? day(iso) : "…")).join(" – "));
    for (const [name, prefix] of [["minimum_minor", "≥ "], ["maximum_minor", "≤ "], ["amount_minor", ""]])
      if (name in given) values.push(prefix + money(given[name], given.currency || "GBP"));
    if (given.order) values.push(given.order);
    if (given.limit) values.push(`${given.limit}`);
    const text = [tool.replaceAll("_", " "), ...values.filter(Boolean)].join(" · ");
    list.append(element("li", "", text));
  }
  return list;
}

// The tables and charts of one call.
function shownResult({ tool, result }) {
  const parts = [];
  if (tool === "spending" && result?.by_month) {
    const chart = bars("By month", result.by_month) || bars("By category", result.by_category);
    if (chart) parts.push(chart);
  }
  const rows = result?.rows || [];
  const columns = COLUMNS[tool];
  if (!columns || rows.length < 2) return parts;
  const scroll = (made) => {
    const box = element("div", "scroll");
    box.append(made);
    return box;
  };
  if (tool === "spending") parts.push(folded(`${result.count} payments`, scroll(table(rows, columns))));
  else {
    parts.push(scroll(table(rows.slice(0, SHOWN_ROWS), columns)));
    const more = rows.slice(SHOWN_ROWS);
    if (more.length) parts.push(folded(`${more.length} more`, scroll(table(more, columns))));
  }
  return parts;
}

// Buttons that disappear once one of them is used, or the customer writes something else.
function buttons(label, choices) {
  const group = element("div", "choices");
  group.setAttribute("role", "group");
  group.setAttribute("aria-label", label);
  for (const [text, action] of choices) {
    const button = element("button", text === "No" ? "second" : "", text);
    button.type = "button";
    button.addEventListener("click", () => {
      group.remove();
      action();
    });
    group.append(button);
  }
  return group;
}

function dropChoices() {
  for (const group of conversation.querySelectorAll(".choices")) group.remove();
}

// Confirms or cancels exactly the action that was shown.
async function decide(action, decision) {
  try {
    const path = `api/v1/customers/${encodeURIComponent(customer.value.trim())}/actions/${action.action_id}/${decision}`;
    const response = await fetch(path, { method: "POST", headers: headers(), body: JSON.stringify({ digest: action.digest }) });
    const answer = await response.json();
    if (!response.ok) throw errorOf(answer);
    show("assistant", answer.result || "Cancelled. Nothing was done.");
  } catch (error) {
    show("error", error.message).setAttribute("role", "alert");
  }
  message.focus();
}

function complete(bubble, answer) {
  const withTable = answer.calls.some((call) => COLUMNS[call.tool] && call.result?.rows?.length > 1);
  const lines = answer.reply.split("\n").filter((line) => !withTable || !/^(- |… and )/.test(line));
  bubble.textContent = "";
  if (answer.calls.some((call) => call.tool !== "small_talk")) bubble.append(understood(answer.calls));
  bubble.append(element("p", "text", lines.join("\n").replace(/\n{3,}/g, "\n\n")));
  for (const call of answer.calls) bubble.append(...shownResult(call));
  const action = answer.pending_action;
  if (action)
    bubble.append(buttons("Confirm this action", [["Yes", () => decide(action, "confirm")], ["No", () => decide(action, "cancel")]]));
  if (answer.question?.options.length)
    bubble.append(buttons("Answers", answer.question.options.map((option) => [option, () => submit(option)])));
  bubble.append(folded("Details", facts(answer)));
}

function facts(answer) {
  const stages = Object.entries(answer.latency_ms).filter(([name]) => name !== "total");
  const list = element("dl", "facts");
  const rows = {
    Intent: `${answer.intent.replaceAll("_", " ")}, ${Math.round(100 * answer.confidence)} % confidence`,
    Sources: answer.sources.join(", ") || "none",
    Time: `${answer.latency_ms.total.toFixed(1)} ms (${stages.map(([name, ms]) => `${name} ${ms.toFixed(1)}`).join(", ")})`,
    "Generated by": answer.responder + (answer.fallback ? ` (language model: ${answer.fallback})` : ""),
    "Understood by": answer.understood_by + (answer.understanding_fallback ? ` (model: ${answer.understanding_fallback})` : ""),
    "Classified by": answer.model,
  };
  if (answer.unavailable.length) rows.Unavailable = answer.unavailable.join(", ");
  for (const [name, value] of Object.entries(rows)) list.append(element("dt", "", name), element("dd", "", value));
  return list;
}

// Yields the server-sent events of a response as [event, data] pairs.
async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    text += value;
    const complete = text.split("\n\n");
    text = complete.pop();
    for (const lines of complete) {
      const [event, data] = lines.split("\n").map((line) => line.slice(line.indexOf(": ") + 2));
      yield [event, JSON.parse(data)];
    }
  }
}

function errorOf(problem) {
  const fields = (problem.errors || []).map((field) => [field.pointer, field.detail].filter(Boolean).join(": ")).join("; ");
  return new Error([problem.detail, fields].filter(Boolean).join(" "));
}

function headers() {
  const made = { "Content-Type": "application/json" };
  if (token.value) made.Authorization = `Bearer ${token.value}`;
  return made;
}

// Shows the reply in `bubble` while it is generated, and returns the complete answer.
async function ask(text, bubble) {
  const body = { message: text, customer_id: customer.value.trim() };
  if (conversationId) body.conversation_id = conversationId;
  const response = await fetch("api/v1/chat/stream", { method: "POST", headers: headers(), body: JSON.stringify(body) });
  if (!response.ok) throw errorOf(await response.json());
  for await (const [event, data] of events(response)) {
    if (event === "token") bubble().textContent += data.text;
    else if (event === "error") throw errorOf(data);
    else return data;
  }
  throw new Error("The reply was interrupted. Please send the message again.");
}

async function submit(text) {
  if (!text || send.disabled) return;
  dropChoices();
  show("user", text);
  message.value = "";
  send.disabled = true;
  let shown = null;
  const bubble = () => (shown ??= show("assistant", ""));
  try {
    const answer = await ask(text, bubble);
    conversationId = answer.conversation_id;
    complete(bubble(), answer);
  } catch (error) {
    shown?.remove();
    const reason = error instanceof TypeError ? "The server cannot be reached. Is it still running?" : error.message;
    show("error", reason).setAttribute("role", "alert");
    message.value = text;
  } finally {
    send.disabled = false;
    conversation.scrollTop = conversation.scrollHeight;
    message.focus();
  }
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  submit(message.value.trim());
});

message.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    form.requestSubmit();
  }
});

customer.addEventListener("input", () => {
  document.getElementById("you").textContent = customer.value.trim() || "no customer";
  conversationId = null;
});

message.focus();
