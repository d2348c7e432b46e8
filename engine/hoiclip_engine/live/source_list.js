// The sources of the run with their states: added, paused, resumed and removed.

import { showError } from "./api_client.js";

const SURE_MS = 4000;
const LABELS = {
  starting: "starting", running: "live", lost: "lost, reconnecting", waiting: "waiting to retry", paused: "paused",
  ended: "ended", failed: "failed",
};
const BADGES = { running: "live", lost: "lost", waiting: "lost", failed: "lost" };
const STOPPED = new Set(["paused", "ended", "failed"]);

export class SourceList {
  constructor(root, template, api, onZones) {
    Object.assign(this, { root, template, api, onZones, rows: new Map(), sources: [] });
    this.form = root.querySelector("form");
    this.form.addEventListener("submit", (event) => { event.preventDefault(); this.add(); });
  }

  show(sources) {
    this.sources = sources;
    this.root.hidden = false;
    const list = this.root.querySelector("ul");
    const ids = new Set(sources.map((source) => source.id));
    for (const [id, row] of this.rows) if (!ids.has(id)) { row.remove(); this.rows.delete(id); }
    for (const source of sources) {
      if (!this.rows.has(source.id)) {
        this.rows.set(source.id, this.row(source.id));
        list.append(this.rows.get(source.id));
      }
      this.fill(this.rows.get(source.id), source);
    }
  }

  row(id) {
    const row = this.template.content.firstElementChild.cloneNode(true);
    const button = (name) => row.querySelector(`[data-do=${name}]`);
    button("zones").addEventListener("click", () => this.onZones(this.source(id)));
    button("pause").addEventListener("click", () => {
      this.change(row, "POST", `/api/sources/${id}/${STOPPED.has(this.source(id).state) ? "resume" : "pause"}`);
    });
    let sureTimer = 0;
    button("remove").addEventListener("click", () => {
      const remove = button("remove");
      clearTimeout(sureTimer);
      if (remove.dataset.sure) return this.change(row, "DELETE", `/api/sources/${id}`);
      remove.dataset.sure = "yes";
      remove.textContent = "Really remove?";
      sureTimer = setTimeout(() => { delete remove.dataset.sure; remove.textContent = "Remove"; }, SURE_MS);
    });
    return row;
  }

  fill(row, source) {
    const set = (selector, text) => {
      const element = row.querySelector(selector);
      if (element.textContent !== text) element.textContent = text;
      return element;
    };
    set(".name", source.name);
    set(".address", source.address === source.name ? "" : source.address);
    set(".state", LABELS[source.state]).dataset.state = BADGES[source.state] || "";
    const restarts = source.restarts ? `restarted ${source.restarts === 1 ? "once" : `${source.restarts} times`} by the watch-dog` : "";
    set(".reason", [source.error, restarts].filter(Boolean).join(" · ")).hidden = !source.error && !restarts;
    set("[data-do=pause]", { paused: "Resume", ended: "Play again", failed: "Try again" }[source.state] || "Pause");
    for (const button of row.querySelectorAll("button")) {
      const word = { zones: "Rules and zones", pause: row.querySelector("[data-do=pause]").textContent, remove: "Remove" };
      button.ariaLabel = `${word[button.dataset.do]}: ${source.name}`;
    }
  }

  source(id) { return this.sources.find((source) => source.id === id); }

  async add() {
    const { address, name } = this.form.elements;
    const body = { address: address.value.trim() };
    if (name.value.trim()) body.name = name.value.trim();
    if (await this.change(this.form, "POST", "/api/sources", body)) this.form.reset();
  }

  // Buttons of the part are off meanwhile. The server reports the new state to every viewer.
  async change(part, method, path, body) {
    const buttons = part.querySelectorAll("button");
    for (const button of buttons) button.disabled = true;
    try {
      await this.api.change(method, path, body);
      showError(this.root, "");
      return true;
    } catch (error) {
      showError(this.root, error.message);
      return false;
    } finally {
      for (const button of buttons) button.disabled = false;
    }
  }
}
