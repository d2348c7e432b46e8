// Active times of the verbs of one pair over the last seconds, and their drawing.

export const SPAN_S = 30;

export class Timeline {
  constructor() { this.verbs = new Map(); }

  // active: verb → {score}, at a time of the source.
  add(timeS, active) {
    for (const verb of active.keys()) if (!this.verbs.has(verb)) this.verbs.set(verb, []);
    for (const [verb, spans] of this.verbs) {
      const current = active.get(verb), last = spans[spans.length - 1];
      if (current && last && last.open) { last.end = timeS; last.score = current.score; }
      else if (current) spans.push({ begin: timeS, end: timeS, score: current.score, open: true });
      else if (last) last.open = false;
      while (spans.length && spans[0].end < timeS - SPAN_S) spans.shift();
      if (!spans.length) this.verbs.delete(verb);
    }
  }

  draw(canvas, verb, nowS, color) {
    const ratio = window.devicePixelRatio || 1;
    const width = Math.round(canvas.clientWidth * ratio), height = Math.round(canvas.clientHeight * ratio);
    if (canvas.width !== width || canvas.height !== height) { canvas.width = width; canvas.height = height; }
    const context = canvas.getContext("2d");
    context.clearRect(0, 0, width, height);
    context.fillStyle = color;
    for (const span of this.verbs.get(verb) || []) {
      const left = (1 - (nowS - span.begin) / SPAN_S) * width, right = (1 - (nowS - span.end) / SPAN_S) * width;
      context.globalAlpha = 0.35 + 0.65 * Math.min(1, span.score);
      context.fillRect(left, 0, Math.max(2 * ratio, right - left), height);
    }
  }
}

// Colour of this person in the image (sinks/annotate.py: PALETTE).
const PALETTE = ["#e69f00", "#56b4e9", "#f0e442", "#cc79a7", "#009e73", "#d55e00"];
export function personColor(human) { return PALETTE[human % PALETTE.length]; }
