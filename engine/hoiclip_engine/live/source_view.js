// One source on the page: its image, numbers, pairs and events.

import { SPAN_S, Timeline, personColor } from "./timeline.js";

const MAX_EVENTS = 40;
const MAX_INACTIVE_PAIRS = 5;
const FADE_AFTER_S = 3;
const RETRY_MS = 2000;
const STATES = { live: "live", lost: "source lost", ended: "ended" };

export class SourceView {
  constructor(number, description, template) {
    this.number = number;
    this.description = description;
    this.root = template.content.firstElementChild.cloneNode(true);
    this.find = (selector) => this.root.querySelector(selector);
    this.pairs = new Map();
    this.ageMs = null;
    this.find("h2").textContent = description.name;
    this.image = this.find(".picture");
    this.image.alt = `Annotated image of ${description.name}`;
    this.image.width = description.width_px;
    this.image.height = description.height_px;
    this.image.addEventListener("error", () => { this.address = null; setTimeout(() => this.watch(), RETRY_MS); });
    this.isStopped = false;
    this.find(".notice").textContent = description.notice;
    this.find(".notice").hidden = !description.notice;
  }

  // filters: {minScore, minVerb, verbs: [names]}
  watch(filters = this.filters) {
    this.filters = filters;
    if (this.isStopped) return;
    const query = new URLSearchParams({ source: this.number });
    if (filters.minScore) query.set("min_score", filters.minScore.toFixed(2));
    if (filters.minVerb) query.set("min_verb", filters.minVerb.toFixed(2));
    if (filters.verbs.length) query.set("verbs", filters.verbs.join(","));
    const address = `/stream.mjpg?${query}`;
    if (address !== this.address) { this.address = address; this.image.src = address; }
  }

  // Asks for the image again.
  renew() {
    this.image.removeAttribute("src");
    this.address = null;
    this.watch();
  }

  // Ends the connection of the image.
  stop() {
    this.isStopped = true;
    this.image.removeAttribute("src");
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
    const label = STATES[now.state];
    if (badge.textContent !== label) badge.textContent = label;
    veil.hidden = now.state !== "lost";
    veil.textContent = `Source lost, reconnecting: ${now.reason}`;
  }

  numbers(now) {
    const set = (name, text) => { this.find(`[data-is="${name}"]`).textContent = text; };
    if (now.age_ms !== undefined) this.ageMs = this.ageMs === null ? now.age_ms : 0.8 * this.ageMs + 0.2 * now.age_ms;
    set("age", this.ageMs === null ? "–" : `${this.ageMs.toFixed(this.ageMs < 10 ? 1 : 0)} ms`);
    set("rate", `${now.frames_per_s.toFixed(1)} /s`);
    set("decoded", now.decoded.toLocaleString("en"));
    const percent = now.decoded ? ` (${(100 * now.dropped / now.decoded).toFixed(0)} %)` : "";
    set("dropped", now.dropped.toLocaleString("en") + (now.dropped ? percent : ""));
    set("reconnects", now.reconnects.toLocaleString("en"));
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
      const active = pair.score < minScore ? [] : pair.verbs.filter((verb) => verb.active && verb.score >= minVerb);
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

  // Pairs with an active verb come first, in order of appearance; below them those that were active last.
  listPairs(nowS) {
    const wanted = new Set(this.filters.verbs), isWanted = (verb) => !wanted.size || wanted.has(verb);
    const known = [...this.pairs.values()].filter((view) => view.wasActive(isWanted));
    const active = known.filter((view) => view.isActive(isWanted));
    const inactive = known.filter((view) => !view.isActive(isWanted)).sort((a, b) => b.activeS - a.activeS);
    const visible = [...active, ...inactive.slice(0, MAX_INACTIVE_PAIRS)];
    const list = this.find(".pairs"), roots = visible.map((view) => view.root);
    if (roots.length !== list.childElementCount || roots.some((root, at) => list.children[at] !== root)) {
      list.replaceChildren(...roots);
    }
    for (const view of visible) view.draw(nowS, isWanted);
    const hidden = known.length - visible.length;
    this.find(".more").textContent = `and ${hidden} more in the last ${SPAN_S} seconds`;
    this.find(".more").hidden = !hidden;
    this.find(".count").textContent = active.length ? `· ${active.length}` : "";
    this.find(".nobody").hidden = visible.length > 0;
  }

  event(event) {
    const item = document.createElement("li");
    item.className = event.event;
    const time = document.createElement("time");
    time.textContent = clock(event.pts_s);
    item.append(time, sentence(event));
    const list = this.find(".events");
    list.prepend(item);
    while (list.childElementCount > MAX_EVENTS) list.lastElementChild.remove();
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
    const object = pair.label ? ` · ${pair.label.replaceAll("_", " ")} ${pair.object}` : "";
    head.append(span("who", `person ${pair.human}${object}`), span("score", ""));
    this.root.append(head);
    this.score = head.lastChild;
  }

  // pair: null once it is missing; active: its active verbs.
  update(nowS, pair, active) {
    if (pair) { this.seenS = nowS; this.score.textContent = pair.score.toFixed(2); }
    if (active.length) this.activeS = nowS;
    this.now = new Map(active.map((verb) => [verb.verb, verb]));
    this.timeline.add(nowS, this.now);
    this.root.classList.toggle("gone", !pair && nowS - this.seenS > FADE_AFTER_S);
  }

  isActive(isWanted) { return [...this.now.keys()].some(isWanted); }

  wasActive(isWanted) { return [...this.timeline.verbs.keys()].some(isWanted); }

  draw(nowS, isWanted) {
    for (const [verb, row] of this.rows) {
      if (!this.timeline.verbs.has(verb) || !isWanted(verb)) { row.root.remove(); this.rows.delete(verb); }
    }
    for (const verb of [...this.timeline.verbs.keys()].filter(isWanted)) {
      if (!this.rows.has(verb)) this.rows.set(verb, verbRow(verb, this.root));
      const row = this.rows.get(verb), current = this.now.get(verb);
      row.root.classList.toggle("active", !!current);
      row.value.textContent = current ? current.score.toFixed(2) : "";
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
  canvas.ariaLabel = `${name.textContent}: active times in the last ${SPAN_S} seconds`;
  root.append(name, canvas, span("value", ""));
  parent.append(root);
  return { root, canvas, value: root.lastChild };
}

function sentence(event) {
  if (event.event === "source_lost") return `source lost: ${event.reason}`;
  if (event.event === "source_back") return `source back: ${event.reason}`;
  if (event.human === null) return event.event === "rule_end" ? `${event.rule}: ended` : event.rule;
  const object = event.label ? ` ${event.label.replaceAll("_", " ")} ${event.object}` : "";
  const rule = event.rule ? `${event.rule}: ` : "";
  const action = `${rule}person ${event.human}: ${event.verb.replaceAll("_", " ")}${object}`;
  return event.event.endsWith("start") ? action : `${action} ended`;
}

function clock(seconds) {
  const whole = Math.max(0, seconds || 0), minutes = Math.floor(whole / 60), hours = Math.floor(minutes / 60);
  const rest = (whole % 60).toFixed(1).padStart(4, "0");
  return hours ? `${hours}:${String(minutes % 60).padStart(2, "0")}:${rest}` : `${minutes}:${rest}`;
}

function span(name, text) {
  const element = document.createElement("span");
  element.className = name;
  element.textContent = text;
  return element;
}

function cell(text) {
  const element = document.createElement("td");
  element.textContent = text;
  return element;
}
