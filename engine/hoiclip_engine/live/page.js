// Connects the socket, the filters and the source views. Data from the server is set as text, never as HTML.

import { SourceView } from "./source_view.js";
import { VerbBox } from "./verb_box.js";

const FILTER_DELAY_MS = 300;
const FIRST_RETRY_MS = 500, LAST_RETRY_MS = 10000;

const byId = (id) => document.getElementById(id);
const sources = new Map();
let retryMs = FIRST_RETRY_MS, filterTimer = 0;

const verbBox = new VerbBox(byId("verbs"), byId("verb-choices"), filtersChanged);

function filters() {
  return { minScore: +byId("min-score").value, minVerb: +byId("min-verb").value, verbs: verbBox.names };
}

function filtersChanged() {
  for (const id of ["min-score", "min-verb"]) {
    byId(id).parentElement.querySelector("output").textContent = (+byId(id).value).toFixed(2);
  }
  clearTimeout(filterTimer);
  filterTimer = setTimeout(() => { for (const view of sources.values()) view.watch(filters()); }, FILTER_DELAY_MS);
}

function showConnection(text, state) {
  const badge = byId("connection");
  badge.dataset.state = state;
  if (badge.textContent !== text) badge.textContent = text;
}

function showSources(descriptions) {
  byId("sources").replaceChildren();
  sources.clear();
  for (const description of descriptions) {
    const view = new SourceView(description.source, description, byId("source"));
    view.watch(filters());
    verbBox.addKnown(description.verbs);
    sources.set(description.source, view);
    byId("sources").append(view.root);
  }
}

function connect() {
  const socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/events`);
  socket.addEventListener("open", () => { retryMs = FIRST_RETRY_MS; showConnection("connected", "live"); });
  socket.addEventListener("message", (event) => {
    const message = JSON.parse(event.data);
    if (message.type === "hello") return showSources(message.sources);
    sources.get(message.source)?.update(message.now, message.events);
  });
  socket.addEventListener("close", () => {
    const hasEnded = sources.size > 0 && [...sources.values()].every((view) => view.hasEnded);
    showConnection(hasEnded ? "the run has ended" : "no connection, reconnecting", hasEnded ? "ended" : "lost");
    setTimeout(connect, retryMs);
    retryMs = Math.min(2 * retryMs, LAST_RETRY_MS);
  });
}

for (const id of ["min-score", "min-verb"]) byId(id).addEventListener("input", filtersChanged);
byId("filters").addEventListener("submit", (event) => event.preventDefault());
byId("filters").addEventListener("reset", () => setTimeout(() => { verbBox.hide(); filtersChanged(); }));
connect();
