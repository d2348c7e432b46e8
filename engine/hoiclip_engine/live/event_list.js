// The latest events with their snapshots and clips. A clip is loaded only when it is asked for.

const PAGE = 24;
const REFRESH_MS = 700;

export class EventList {
  constructor(root, api) {
    Object.assign(this, { root, api, cards: new Map(), limit: PAGE, timer: 0, version: -1 });
    this.kind = root.querySelector("#event-kind");
    this.select = root.querySelector("#event-source");
    for (const filter of [this.kind, this.select])
      filter.addEventListener("change", () => { this.limit = PAGE; this.refresh(); });
    root.querySelector(".more-events").addEventListener("click", () => { this.limit += PAGE; this.refresh(); });
  }

  // Called with every report of the server; the list is fetched when it has changed, and not too often.
  report(version, sources) {
    this.root.hidden = false;
    this.showSources(sources);
    if (version === this.version) return;
    this.version = version;
    this.timer ||= setTimeout(() => { this.timer = 0; this.refresh(); }, REFRESH_MS);
  }

  showSources(sources) {
    const known = [...this.select.options].slice(1).map((option) => `${option.value} ${option.text}`).join();
    if (known === sources.map((source) => `${source.id} ${source.name}`).join()) return;
    const chosen = this.select.value;
    this.select.replaceChildren(new Option("all", ""), ...sources.map((source) => new Option(source.name, source.id)));
    this.select.value = sources.some((source) => String(source.id) === chosen) ? chosen : "";
  }

  async refresh() {
    const query = new URLSearchParams({ limit: this.limit });
    if (this.select.value) query.set("source", this.select.value);
    if (this.kind.value) query.set("kind", this.kind.value);
    try { this.show(await this.api.get(`/api/events?${query}`)); }
    catch { this.version = -1; }  // the next report tries again
  }

  show({ events, total, stored }) {
    this.hasDatabase ||= stored;
    const ids = new Set(events.map((event) => event.id));
    for (const [id, card] of this.cards) if (!ids.has(id)) { card.remove(); this.cards.delete(id); }
    const list = this.root.querySelector("ol");
    events.forEach((event, index) => {
      if (!this.cards.has(event.id)) this.cards.set(event.id, document.createElement("li"));
      const card = this.cards.get(event.id);
      if (list.children[index] !== card) list.insertBefore(card, list.children[index] || null);
      this.fill(card, event);
    });
    this.root.querySelector(".count").textContent =
      (total ? `· ${total}` : "") + (this.hasDatabase && !stored ? " · the database does not answer: only the latest" : "");
    this.root.querySelector(".empty").hidden = total > 0;
    this.root.querySelector(".more-events").hidden = events.length >= total;
  }

  fill(card, event) {
    const key = JSON.stringify([event.end_s, event.is_open, event.score, event.evidence]);
    if (card.dataset.key === key) return;
    card.dataset.key = key;
    if (card.querySelector("video")) card.querySelector(".text").replaceWith(words(event));  // it may be playing
    else card.replaceChildren(this.media(event), words(event));
  }

  media(event) {
    const { snapshot, clip } = event.evidence || {};
    if (!snapshot && !clip) return none(event.is_open ? "in progress" : "no evidence kept");
    const media = document.createElement(clip ? "button" : "div");
    media.className = "media";
    if (snapshot) {
      const image = document.createElement("img");
      image.loading = "lazy";
      image.src = snapshot;
      image.alt = `Snapshot: ${title(event)}`;
      image.addEventListener("error", () => media.replaceWith(none("evidence removed")));  // by the limits of its folder
      media.append(image);
    }
    if (clip) {
      media.type = "button";
      media.ariaLabel = `Play the clip: ${title(event)}`;
      const play = document.createElement("span");
      play.className = "play";
      play.textContent = "▶";
      media.append(play);
      media.addEventListener("click", () => media.replaceWith(video(clip, snapshot, event)));
    }
    return media;
  }
}

function none(why) {
  const media = document.createElement("div");
  media.className = "media none";
  media.textContent = why;
  return media;
}

function video(clip, poster, event) {
  const player = document.createElement("video");
  player.className = "media";
  player.controls = player.autoplay = player.muted = player.playsInline = true;
  if (poster) player.poster = poster;
  player.src = clip;
  player.ariaLabel = `Clip: ${title(event)}`;
  return player;
}

function title(event) { return event.rule || event.verb.replaceAll("_", " "); }

function words(event) {
  const text = document.createElement("div");
  text.className = "text";
  const what = document.createElement("strong");
  what.textContent = title(event);
  const when = document.createElement("time");
  when.dateTime = event.time;
  when.textContent = new Date(event.time).toLocaleString();
  const duration = event.end_s !== null ? `${(event.end_s - event.start_s).toFixed(1)} s`
    : event.is_open ? "since then" : "end unknown";
  const object = event.object ? ` ${event.object.replaceAll("_", " ")} ${event.object_id ?? ""}` : "";
  const who = event.human === null ? "nobody" : `person ${event.human}: ${event.verb.replaceAll("_", " ")}${object}`;
  text.append(what, line(who.trim()), line(`${event.source_name} · ${duration}`), when);
  return text;
}

function line(content) {
  const element = document.createElement("span");
  element.textContent = content;
  return element;
}
