// Dialog that edits the rules of a source, with their zones over its image. What a rule has besides is kept as it is.

import { showError } from "./api_client.js";
import { PolygonEditor } from "./polygon.js";
import { VerbBox } from "./verb_box.js";

const NEW = -1;

export class ZoneEditor {
  constructor(dialog, api) {
    Object.assign(this, { dialog, api, rules: [], chosen: NEW });
    this.form = dialog.querySelector("#rule-form");
    this.image = dialog.querySelector("img");
    this.polygon = new PolygonEditor(dialog.querySelector("svg"), () => this.hint());
    const box = (id, list) => new VerbBox(dialog.querySelector(id), dialog.querySelector(list), () => {});
    this.verbs = box("#rule-verbs", "#rule-verb-choices");
    this.objects = box("#rule-objects", "#rule-object-choices");
    const button = (name, act) => dialog.querySelector(`[data-do=${name}]`).addEventListener("click", act);
    button("cancel", () => dialog.close());
    button("add-point", () => this.polygon.addBetween());
    button("close-zone", () => this.polygon.close());
    button("clear-zone", () => this.polygon.clear());
    button("delete-rule", () => this.save(this.rules.filter((_, index) => index !== this.chosen)));
    this.image.addEventListener("load", () => this.fit());
    dialog.addEventListener("close", () => { this.image.removeAttribute("src"); });
    this.form.elements.rule.addEventListener("change", (event) => this.choose(+event.target.value));
    this.form.addEventListener("submit", (event) => { event.preventDefault(); this.save(this.edited()); });
  }

  // description: of the running source, with its size and words; undefined where it does not run.
  async open(source, description) {
    this.source = source;
    this.dialog.querySelector("h2").textContent = `Rules and zones of ${source.name}`;
    this.verbs.addKnown(description?.verbs || []);
    this.objects.addKnown(description?.objects || []);
    this.polygon.setSize(description?.width_px || 16, description?.height_px || 9);
    this.image.hidden = !description;
    if (description) {
      this.image.width = description.width_px;
      this.image.height = description.height_px;
      this.image.src = `/stream.mjpg?source=${source.id}`;
    }
    showError(this.form, "");
    try { this.rules = (await this.api.get("/api/rules")).rule; }
    catch (error) { this.rules = []; showError(this.form, error.message); }
    if (!this.dialog.open) this.dialog.showModal();
    const own = this.ownIndices();
    this.choose(own.length ? own[0] : NEW);
  }

  ownIndices() {
    return [...this.rules.keys()].filter((index) => (this.rules[index].sources || [this.source.id]).includes(this.source.id));
  }

  fit() {
    const { naturalWidth, naturalHeight } = this.image;
    if (naturalWidth === this.polygon.width && naturalHeight === this.polygon.height) return;
    this.polygon.setSize(naturalWidth, naturalHeight);
    this.polygon.draw();
  }

  choose(index) {
    this.chosen = index;
    const rule = this.rules[index] || { name: this.unusedName(), sources: [this.source.id] };
    const { rule: select, name, min_duration_s: duration, only } = this.form.elements;
    select.replaceChildren(
      ...this.ownIndices().map((at) => new Option(this.rules[at].name, at, false, at === index)),
      new Option("New rule …", NEW, false, index === NEW),
    );
    name.value = rule.name;
    duration.value = rule.min_duration_s ?? (index === NEW ? 0.5 : 0);
    only.checked = !!rule.sources;
    this.verbs.setNames(rule.verbs || []);
    this.objects.setNames(rule.objects || []);
    this.dialog.querySelector("[data-do=delete-rule]").hidden = index === NEW;
    const others = this.ownIndices().filter((at) => at !== index).map((at) => this.drawn(this.rules[at]));
    this.polygon.show(this.drawn(rule).points, others);
    this.hint();
  }

  // Relative points of a rule; those in pixels are far above 1.
  drawn(rule) {
    const { width, height } = this.polygon;
    const isPixels = rule.unit === "px";
    const relative = (points) => (points || []).map(([x, y]) => (isPixels ? [x / width, y / height] : [x, y]));
    return { name: rule.name, points: relative(rule.zone), line: relative(rule.line) };
  }

  unusedName() {
    const names = new Set(this.rules.map((rule) => rule.name));
    for (let number = 1; ; number++) if (!names.has(`rule ${number}`)) return `rule ${number}`;
  }

  hint() {
    const { points, isClosed } = this.polygon;
    const button = (name) => this.dialog.querySelector(`[data-do=${name}]`);
    button("close-zone").disabled = isClosed || points.length < 3;
    button("clear-zone").disabled = !points.length;
    const texts = {
      none: "Click into the image to draw a zone, point by point. Without one, the whole image counts.",
      open: "Click the first point, or press Close polygon, to finish the zone.",
      closed: "Drag points, or move them with the arrow keys; Delete removes one.",
    };
    const text = texts[isClosed ? "closed" : points.length ? "open" : "none"];
    const hint = this.dialog.querySelector(".hint");
    if (hint.textContent !== text) hint.textContent = text;
  }

  // All rules, with the chosen one as the form has it.
  edited() {
    const { name, min_duration_s: duration, only } = this.form.elements;
    const rule = { ...this.rules[this.chosen], name: name.value.trim() };
    const set = (key, value, isEmpty) => { if (isEmpty) delete rule[key]; else rule[key] = value; };
    set("verbs", this.verbs.names, !this.verbs.names.length);
    set("objects", this.objects.names, !this.objects.names.length);
    set("min_duration_s", +duration.value, !+duration.value);
    set("zone", this.polygon.points, !this.polygon.isClosed);
    if (!rule.line) delete rule.unit;
    set("sources", rule.sources || [this.source.id], !only.checked);
    const rules = [...this.rules];
    if (this.chosen === NEW) rules.push(rule);
    else rules[this.chosen] = rule;
    return rules;
  }

  async save(rules) {
    if (this.polygon.points.length && !this.polygon.isClosed) this.polygon.close();
    if (this.polygon.points.length && !this.polygon.isClosed) {
      return showError(this.form, "A zone needs three points or more; add some, or clear it.");
    }
    try {
      const { name } = this.form.elements;
      this.rules = (await this.api.change("PUT", "/api/rules", { rule: rules })).rule;
      showError(this.form, "");
      const saved = this.rules.findIndex((rule) => rule.name === name.value.trim());
      this.choose(saved >= 0 ? saved : NEW);
      this.dialog.querySelector(".hint").textContent = "Saved.";
    } catch (error) {
      showError(this.form, error.message);
    }
  }
}
