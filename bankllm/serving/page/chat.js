"use strict";

const talk = document.getElementById("talk");
const form = document.getElementById("form");
const message = document.getElementById("message");
const send = document.getElementById("send");
const customer = document.getElementById("customer");
const token = document.getElementById("token");
let conversation = null;

// Text goes in as text: what a customer or a model wrote is never markup.
function element(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function show(className, text) {
  const bubble = element("div", className, text);
  talk.append(bubble);
  talk.scrollTop = talk.scrollHeight;
  return bubble;
}

function facts(answer) {
  const stages = Object.entries(answer.latency_ms).filter(([name]) => name !== "total");
  const list = element("dl", "facts");
  const rows = {
    Intent: `${answer.intent.replaceAll("_", " ")}, ${Math.round(100 * answer.confidence)} % sure`,
    Sources: answer.sources.join(", ") || "none",
    Time: `${answer.latency_ms.total.toFixed(1)} ms (${stages.map(([name, ms]) => `${name} ${ms.toFixed(1)}`).join(", ")})`,
    "Worded by": answer.responder + (answer.fallback ? ` (language model: ${answer.fallback})` : ""),
    "Understood by": answer.model,
  };
  if (answer.unavailable.length) rows.Unavailable = answer.unavailable.join(", ");
  for (const [name, value] of Object.entries(rows)) list.append(element("dt", "", name), element("dd", "", value));
  return list;
}

// Server-sent events of a response, as [event, data] pairs.
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

function complaint(problem) {
  const faults = (problem.errors || []).map((fault) => `${fault.pointer}: ${fault.detail}`).join("; ");
  return new Error([problem.detail, faults].filter(Boolean).join(" "));
}

// Shows the reply in `bubble` as it is worded, and gives the whole answer.
async function ask(text, bubble) {
  const headers = { "Content-Type": "application/json" };
  if (token.value) headers.Authorization = `Bearer ${token.value}`;
  const body = { message: text, customer_id: customer.value.trim() };
  if (conversation) body.conversation_id = conversation;
  const response = await fetch("api/v1/chat/stream", { method: "POST", headers, body: JSON.stringify(body) });
  if (!response.ok) throw complaint(await response.json());
  for await (const [event, data] of events(response)) {
    if (event === "token") bubble().textContent += data.text;
    else if (event === "error") throw complaint(data);
    else return data;
  }
  throw new Error("The answer broke off. Ask again.");
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const text = message.value.trim();
  if (!text || send.disabled) return;
  show("mine", text);
  message.value = "";
  send.disabled = true;
  let shown = null;
  const bubble = () => (shown ??= show("theirs", ""));
  try {
    const answer = await ask(text, bubble);
    conversation = answer.conversation_id;
    bubble().textContent = answer.reply;
    bubble().append(facts(answer));
  } catch (error) {
    shown?.remove();
    const why = error instanceof TypeError ? "The server does not answer. Is it still running?" : error.message;
    show("alarm", why).setAttribute("role", "alert");
    message.value = text;
  } finally {
    send.disabled = false;
    talk.scrollTop = talk.scrollHeight;
    message.focus();
  }
});

message.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    form.requestSubmit();
  }
});

customer.addEventListener("input", () => {
  document.getElementById("you").textContent = customer.value.trim() || "nobody yet";
  conversation = null;
});

message.focus();
