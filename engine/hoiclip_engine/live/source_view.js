// One source on the page: its picture, numbers, pairs and events.

import { SPAN_S, Timeline, personColor } from "./timeline.js";

const EVENTS_SHOWN = 40;
const RESTING_SHOWN = 5;
const GONE_AFTER_S = 3;
const RETRY_MS = 2000;
const STATES = { live: "live", lost: "source lost", ended: "ended" };

export class SourceView {
  constructor(number, hello, template) {
    this.number = number;
    this.root = template.content.firstElementChild.cloneNode(true);
    this.find = (selector) => this.root.querySelector(selector);
    this.pairs = new Map();
    this.ageMs = null;
    this.find("h2").textContent = hello.name;
    this.picture = this.find(".picture");
    this.picture.alt = `Annotated picture of ${hello.name}`;
    this.picture.width = hello.width_px;
    this.picture.height = hello.height_px;
    this.picture.addEventListener("error", () => { this.address = null; setTimeout(() => this.watch(), RETRY_MS); });
    this.find(".notice").textContent = hello.notice;
    this.find(".notice").hidden = !hello.notice;
  }

  // filters: {minScore, minVerb, verbs: [names]}
  watch(filters = this.filters) {
    this.filters = filters;
    const query = new URLSearchParams({ source: this.number });
    if (filters.minScore) query.set("min_score", filters.minScore.toFixed(2));
    if (filters.minVerb) query.set("min_verb", filters.minVerb.toFixed(2));
    if (filters.verbs.length) query.set("verbs", filters.verbs.join(","));
    const address = `/stream.mjpg?${query}`;
    if (address !== this.address) { this.address = address; this.picture.src = address; }
  }

  update(now, events) {
    this.hasEnded = now.state === "ended";
    this.state(now);
    this.numbers(now);
    for (const event of events) this.event(event);
    if (now.pairs) this.showPairs(now.pts_s, now.pairs, now.state);
  }

  state(now) {
    const badge = this.find(".state"), veil = this.find(".veil");
    badge.dataset.state = now.state;
    const said = STATES[now.state];
    if (badge.textContent !== said) badge.textContent = said;
    veil.hidden = now.state !== "lost";
    veil.textContent = `Source lost, looking for it again: ${now.reason}`;
  }

  numbers(now) {
    const tell = (name, text) => { this.find(`[data-is="${name}"]`).textContent = text; };
    if (now.age_ms !== undefined) this.ageMs = this.ageMs === null ? now.age_ms : 0.8 * this.ageMs + 0.2 * now.age_ms;
    tell("age", this.ageMs === null ? "–" : `${this.ageMs.toFixed(this.ageMs < 10 ? 1 : 0)} ms`);
    tell("rate", `${now.frames_per_s.toFixed(1)} /s`);
    tell("decoded", now.decoded.toLocaleString("en"));
    const share = now.decoded ? ` (${(100 * now.dropped / now.decoded).toFixed(0)} %)` : "";
    tell("dropped", now.dropped.toLocaleString("en") + (now.dropped ? share : ""));
    tell("reconnects", now.reconnects.toLocaleString("en"));
    const stages = Object.entries(now.stage_ms || {});
    this.find(".stages").hidden = !stages.length;
    if (!this.find(".stages").open) return;
    const longest = Math.max(...stages.map(([, ms]) => ms), 1e-9);
    this.find(".stages tbody").replaceChildren(...stages.map(([name, ms]) => {
      const row = document.createElement("tr");
      row.append(cell(name), cell(`${ms.toFixed(1)} ms`), document.createElement("td"));
      const bar = document.createElement("i");
      bar.style.width = `${(100 * ms) / longest}%`;
      row.lastChild.append(bar);
      return row;
    }));
  }

  showPairs(nowS, found, state) {
    const { minScore, minVerb } = this.filters;
    for (const pair of found) {
      if (!this.pairs.has(pair.pair)) this.pairs.set(pair.pair, new PairView(pair));
      const active = pair.score < minScore ? [] : pair.verbs.filter((one) => one.active && one.score >= minVerb);
      this.pairs.get(pair.pair).update(nowS, pair, active);
    }
    const ids = new Set(found.map((pair) => pair.pair));
    for (const [id, view] of this.pairs) {
      if (!ids.has(id)) view.update(nowS, null, []);
      if (nowS - view.seenS > SPAN_S || nowS < view.seenS - 1) this.pairs.delete(id);
    }
    this.listPairs(nowS);
    if (state === "ended") this.find(".nobody").textContent = "This source has ended.";
  }

  // Those that do something come first, in the order they came; below them the latest of those that did.
  listPairs(nowS) {
    const wanted = new Set(this.filters.verbs), isWanted = (verb) => !wanted.size || wanted.has(verb);
    const known = [...this.pairs.values()].filter((view) => view.did(isWanted));
    const active = known.filter((view) => view.does(isWanted));
    const resting = known.filter((view) => !view.does(isWanted)).sort((a, b) => b.activeS - a.activeS);
    const shown = [...active, ...resting.slice(0, RESTING_SHOWN)];
    const list = this.find(".pairs"), roots = shown.map((view) => view.root);
    if (roots.length !== list.childElementCount || roots.some((root, at) => list.children[at] !== root)) {
      list.replaceChildren(...roots);
    }
    for (const view of shown) view.draw(nowS, isWanted);
    const left = known.length - shown.length;
    this.find(".more").textContent = `and ${left} more in the last ${SPAN_S} seconds`;
    this.find(".more").hidden = !left;
    this.find(".count").textContent = active.length ? `· ${active.length}` : "";
    this.find(".nobody").hidden = shown.length > 0;
  }

  event(event) {
    const item = document.createElement("li");
    item.className = event.event;
    const time = document.createElement("time");
    time.textContent = clock(event.pts_s);
    item.append(time, sentence(event));
    const list = this.find(".events");
    list.prepend(item);
    while (list.childElementCount > EVENTS_SHOWN) list.lastElementChild.remove();
  }
}

class PairView {
  constructor(pair) {
    this.timeline = new Timeline();
    this.color = personColor(pair.human);
    this.rows = new Map();
    this.root = document.createElement("li");
    this.root.className = "pair";
    this.root.style.setProperty("--pair", this.color);
    const head = document.createElement("header");
    const thing = pair.label ? ` · ${pair.label.replaceAll("_", " ")} ${pair.object}` : "";
    head.append(span("who", `person ${pair.human}${thing}`), span("score", ""));
    this.root.append(head);
    this.score = head.lastChild;
  }

  // pair: null once it is not there any more; active: the verbs that are going on.
  update(nowS, pair, active) {
    if (pair) { this.seenS = nowS; this.score.textContent = pair.score.toFixed(2); }
    if (active.length) this.activeS = nowS;
    this.now = new Map(active.map((one) => [one.verb, one]));
    this.timeline.add(nowS, this.now);
    this.root.classList.toggle("gone", !pair && nowS - this.seenS > GONE_AFTER_S);
  }

  does(isWanted) { return [...this.now.keys()].some(isWanted); }

  did(isWanted) { return [...this.timeline.verbs.keys()].some(isWanted); }

  draw(nowS, isWanted) {
    for (const [verb, row] of this.rows) {
      if (!this.timeline.verbs.has(verb) || !isWanted(verb)) { row.root.remove(); this.rows.delete(verb); }
    }
    for (const verb of [...this.timeline.verbs.keys()].filter(isWanted)) {
      if (!this.rows.has(verb)) this.rows.set(verb, verbRow(verb, this.root));
      const row = this.rows.get(verb), one = this.now.get(verb);
      row.root.classList.toggle("active", !!one);
      row.value.textContent = one ? one.score.toFixed(2) : "";
      this.timeline.draw(row.canvas, verb, nowS, this.color);
    }
  }
}

function verbRow(verb, parent) {
  const root = document.createElement("div"), canvas = document.createElement("canvas");
  root.className = "verb";
  const name = span("name", verb.replaceAll("_", " "));
  name.title = name.textContent;
  canvas.role = "img";
  canvas.ariaLabel = `when ${name.textContent} was going on during the last ${SPAN_S} seconds`;
  root.append(name, canvas, span("value", ""));
  parent.append(root);
  return { root, canvas, value: root.lastChild };
}

function sentence(event) {
  if (event.event === "source_lost") return `source lost: ${event.reason}`;
  if (event.event === "source_back") return `source back: ${event.reason}`;
  const thing = event.label ? ` ${event.label.replaceAll("_", " ")} ${event.object}` : "";
  const what = `person ${event.human}: ${event.verb.replaceAll("_", " ")}${thing}`;
  return event.event === "start" ? what : `${what} – over`;
}

function clock(seconds) {
  const whole = Math.max(0, seconds || 0), minutes = Math.floor(whole / 60), hours = Math.floor(minutes / 60);
  const rest = (whole % 60).toFixed(1).padStart(4, "0");
  return hours ? `${hours}:${String(minutes % 60).padStart(2, "0")}:${rest}` : `${minutes}:${rest}`;
}

function span(name, text) {
  const made = document.createElement("span");
  made.className = name;
  made.textContent = text;
  return made;
}

function cell(text) {
  const made = document.createElement("td");
  made.textContent = text;
  return made;
}
