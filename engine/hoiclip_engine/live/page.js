// Connects the socket, the filters, the source views and what changes a run. Data from the server is set as text,
// never as HTML.

import { ApiClient } from "./api_client.js";
import { EventList } from "./event_list.js";
import { SourceList } from "./source_list.js";
import { SourceView } from "./source_view.js";
import { VerbBox } from "./verb_box.js";
import { ZoneEditor } from "./zone_editor.js";

const FILTER_DELAY_MS = 300;
const FIRST_RETRY_MS = 500, LAST_RETRY_MS = 10000;

const byId = (id) => document.getElementById(id);
const sources = new Map();
let retryMs = FIRST_RETRY_MS, filterTimer = 0;

const api = new ApiClient(byId("token-dialog"));
const zones = new ZoneEditor(byId("zone-dialog"), api);
const sourceList = new SourceList(
  byId("control"), byId("source-row"), api, (source) => zones.open(source, sources.get(source.id)?.description),
);
const eventList = new EventList(byId("event-section"), api);
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

// A view whose source is the same pass as before stays, with its lists. After a lost connection its image is asked for
// again, because one that has begun reports no error.
function showSources(descriptions, isReconnected) {
  const before = new Map(sources);
  sources.clear();
  for (const description of descriptions) {
    const known = before.get(description.source);
    const isSame = known && !known.hasEnded && JSON.stringify(known.description) === JSON.stringify(description);
    const view = isSame ? known : new SourceView(description.source, description, byId("source"));
    if (!isSame) view.watch(filters());
    else if (isReconnected) view.renew();
    verbBox.addKnown(description.verbs);
    sources.set(description.source, view);
  }
  for (const [number, view] of before) if (sources.get(number) !== view) view.stop();
  byId("sources").replaceChildren(...[...sources.values()].map((view) => view.root));
}

function showControl({ sources: known, events }) {
  sourceList.show(known);
  eventList.report(events, known);
  if (!sources.size) {
    const empty = document.createElement("p");
    empty.className = "empty";
    empty.textContent = known.length ? "No source is running." : "There is no source yet. Add one above.";
    byId("sources").replaceChildren(empty);
  }
}

function connect() {
  const socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/events`);
  let isFirst = true;
  socket.addEventListener("open", () => { retryMs = FIRST_RETRY_MS; showConnection("connected", "live"); });
  socket.addEventListener("message", (event) => {
    const message = JSON.parse(event.data);
    if (message.type === "hello") {
      showSources(message.sources, isFirst);
      isFirst = false;
      return;
    }
    if (message.type === "control") return showControl(message);
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
