// Input for verbs or objects: comma-separated names, completed from the vocabulary.

const MAX_CHOICES = 12;

export class VerbBox {
  constructor(input, list, onChange) {
    Object.assign(this, { input, list, onChange, known: [], chosen: -1 });
    input.addEventListener("input", () => { this.offer(); this.onChange(); });
    input.addEventListener("keydown", (event) => this.key(event));
    input.addEventListener("focus", () => this.offer());
    input.addEventListener("blur", () => setTimeout(() => this.hide(), 150));
    list.addEventListener("mousedown", (event) => {
      if (event.target.dataset.verb) { event.preventDefault(); this.take(event.target.dataset.verb); }
    });
  }

  addKnown(verbs) { this.known = [...new Set([...this.known, ...verbs])].sort(); }

  setNames(names) { this.input.value = names.map((name) => name.replaceAll("_", " ")).join(", "); }

  // Lower case with underscores, as the vocabulary has them; empty: all.
  get names() {
    return this.input.value.split(",").map((name) => name.trim().toLowerCase().replace(/\s+/g, "_")).filter(Boolean);
  }

  offer() {
    const typed = this.input.value.split(",").pop().trim().toLowerCase().replace(/\s+/g, "_");
    const taken = new Set(this.names.slice(0, typed ? -1 : undefined));
    const fits = this.known.filter((verb) => !taken.has(verb) && verb !== typed && verb.includes(typed));
    fits.sort((a, b) => b.startsWith(typed) - a.startsWith(typed));
    this.list.replaceChildren(...fits.slice(0, MAX_CHOICES).map((verb, index) => {
      const item = document.createElement("li");
      item.id = `${this.list.id}-${index}`;
      item.role = "option";
      item.ariaSelected = "false";
      item.dataset.verb = verb;
      item.textContent = verb.replaceAll("_", " ");
      return item;
    }));
    this.choose(-1);
    this.list.hidden = !fits.length;
    this.input.ariaExpanded = String(!!fits.length);
  }

  choose(index) {
    const items = [...this.list.children];
    this.chosen = items.length ? Math.max(-1, Math.min(index, items.length - 1)) : -1;
    items.forEach((item, at) => { item.ariaSelected = String(at === this.chosen); });
    const item = items[this.chosen];
    if (item) { item.scrollIntoView({ block: "nearest" }); this.input.setAttribute("aria-activedescendant", item.id); }
    else this.input.removeAttribute("aria-activedescendant");
  }

  key(event) {
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      if (this.list.hidden) this.offer();
      this.choose(this.chosen + (event.key === "ArrowDown" ? 1 : -1));
    } else if (event.key === "Enter") {
      event.preventDefault();
      const item = this.list.children[this.chosen];
      if (item && !this.list.hidden) this.take(item.dataset.verb);
      else { this.hide(); this.onChange(); }
    } else if (event.key === "Escape") this.hide();
  }

  take(verb) {
    const before = this.input.value.split(",").slice(0, -1).map((name) => name.trim()).filter(Boolean);
    this.input.value = [...before, verb.replaceAll("_", " ")].join(", ") + ", ";
    this.offer();
    this.onChange();
  }

  hide() { this.list.hidden = true; this.input.ariaExpanded = "false"; this.choose(-1); }
}
