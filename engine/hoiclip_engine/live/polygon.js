// A polygon drawn over an image: points are added by clicks, dragged, and moved by the arrow keys. Coordinates are
// relative to the image, from 0 to 1.

const HANDLE_PX = 9, COARSE_HANDLE_PX = 13;
const STEP = 0.01, LARGE_STEP = 0.05;
const MOVES = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const SVG = "http://www.w3.org/2000/svg";

export class PolygonEditor {
  constructor(svg, onChange) {
    Object.assign(this, { svg, onChange, points: [], isClosed: false, others: [], width: 16, height: 9 });
    this.handlePx = matchMedia("(pointer: coarse)").matches ? COARSE_HANDLE_PX : HANDLE_PX;
    svg.setAttribute("preserveAspectRatio", "none");
    svg.addEventListener("click", (event) => {
      if (!this.isClosed && !event.target.classList.contains("handle")) this.add(this.position(event));
    });
    new ResizeObserver(() => this.draw()).observe(svg);
  }

  setSize(width, height) { Object.assign(this, { width, height }); }

  // others: [{name, points, line}] that are shown, and not edited.
  show(points, others) {
    this.points = points.map((point) => [...point]);
    this.isClosed = points.length >= 3;
    this.others = others;
    this.draw();
  }

  position(event) {
    const box = this.svg.getBoundingClientRect();
    return [clamp((event.clientX - box.left) / box.width), clamp((event.clientY - box.top) / box.height)];
  }

  add(point) {
    this.points.push(point);
    this.changed(this.points.length - 1);
  }

  // By keyboard: in the middle of the side after the focused point, or of the image.
  addBetween() {
    const at = this.focused() ?? this.points.length - 1, point = this.points[at], next = this.points[(at + 1) % this.points.length];
    const isSide = this.points.length > 1 && (this.isClosed || at + 1 < this.points.length);
    const middle = isSide ? [(point[0] + next[0]) / 2, (point[1] + next[1]) / 2]
      : point ? [clamp(point[0] + 2 * LARGE_STEP), clamp(point[1] + 2 * LARGE_STEP)] : [0.5, 0.5];
    this.points.splice(at + 1, 0, middle);
    this.changed(at + 1);
  }

  close() {
    if (this.points.length < 3) return;
    this.isClosed = true;
    this.changed(0);
  }

  clear() {
    this.points = [];
    this.isClosed = false;
    this.changed();
  }

  remove(index) {
    this.points.splice(index, 1);
    if (this.points.length < 3) this.isClosed = false;
    this.changed(Math.min(index, this.points.length - 1));
  }

  move(index, x, y) {
    this.points[index] = [clamp(x), clamp(y)];
    this.changed(index);
  }

  focused() {
    const index = [...this.svg.querySelectorAll(".handle")].indexOf(document.activeElement);
    return index < 0 ? null : index;
  }

  changed(focus = null) {
    this.draw(focus);
    this.onChange();
  }

  draw(focus = this.focused()) {
    const { svg, width, height } = this;
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    this.scale = width / Math.max(1, svg.clientWidth);
    const shapes = this.others.flatMap((other) => this.shapesOf(other));
    if (this.points.length) {
      const outline = element(this.isClosed ? "polygon" : "polyline", { class: "zone own", points: this.text(this.points) });
      shapes.push(outline);
    }
    const handles = this.points.map((point, index) => this.handle(point, index));
    svg.replaceChildren(...shapes, ...handles);
    if (focus !== null && handles[focus]) handles[focus].focus({ preventScroll: true });
  }

  shapesOf({ name, points, line }) {
    const shapes = [];
    if (points.length) shapes.push(element("polygon", { class: "zone", points: this.text(points) }));
    if (line.length) shapes.push(element("polyline", { class: "zone line", points: this.text(line) }));
    const [x, y] = points[0] || line[0] || [0, 0];
    if (shapes.length) {
      const label = element("text", { x: (x * this.width) + 4 * this.scale, y: (y * this.height) + 16 * this.scale });
      label.style.fontSize = `${13 * this.scale}px`;
      label.textContent = name;
      shapes.push(label);
    }
    return shapes;
  }

  handle([x, y], index) {
    const count = this.points.length, percent = (value) => `${Math.round(100 * value)} %`;
    const circle = element("circle", {
      class: index === 0 && !this.isClosed && count >= 3 ? "handle first" : "handle",
      cx: x * this.width, cy: y * this.height, r: this.handlePx * this.scale, tabindex: 0, role: "button",
      "aria-label": `Point ${index + 1} of ${count}, ${percent(x)} from the left, ${percent(y)} from the top`,
    });
    circle.addEventListener("keydown", (event) => this.key(event, index));
    circle.addEventListener("pointerdown", (event) => this.drag(event, circle, index));
    circle.addEventListener("click", () => { if (index === 0 && !this.isClosed && !circle.dataset.moved) this.close(); });
    return circle;
  }

  key(event, index) {
    const move = MOVES[event.key], step = event.shiftKey ? LARGE_STEP : STEP;
    if (move) this.move(index, this.points[index][0] + step * move[0], this.points[index][1] + step * move[1]);
    else if (event.key === "Delete" || event.key === "Backspace") this.remove(index);
    else if (event.key === "Enter" && !this.isClosed) this.close();
    else return;
    event.preventDefault();
  }

  // The element stays while it is dragged, so that the pointer stays captured.
  drag(event, circle, index) {
    circle.setPointerCapture(event.pointerId);
    delete circle.dataset.moved;
    const moved = (move) => {
      circle.dataset.moved = "yes";
      this.points[index] = this.position(move);
      circle.setAttribute("cx", this.points[index][0] * this.width);
      circle.setAttribute("cy", this.points[index][1] * this.height);
      this.svg.querySelector(".own").setAttribute("points", this.text(this.points));
    };
    const ended = () => {
      circle.removeEventListener("pointermove", moved);
      this.onChange();
    };
    circle.addEventListener("pointermove", moved);
    circle.addEventListener("pointerup", ended, { once: true });
    circle.addEventListener("pointercancel", ended, { once: true });
  }

  text(points) { return points.map(([x, y]) => `${x * this.width},${y * this.height}`).join(" "); }
}

function clamp(value) { return Math.round(1e4 * Math.min(1, Math.max(0, value))) / 1e4; }

function element(name, attributes) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}
