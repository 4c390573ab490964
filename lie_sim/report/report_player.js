/* The animated trajectories: rings for the true motion, discs for the predicted one, or for the only one.

   Positions arrive as flat lists, frame after frame, particle after particle, coordinate after
   coordinate. Time runs over a fractional frame number; between frames the path is a Catmull–Rom curve,
   which keeps fast orbits round although the page holds few frames. Systems in three dimensions are drawn
   in parallel projection and turned by dragging. */

const SECONDS_PER_RUN = 16;      // length of the whole animation at speed 1
const REDUCED_STEPS = 4;         // updates per second for readers who prefer reduced motion
const TRAIL_BANDS = 14;          // steps of opacity along a trail
const PIECES_PER_FRAME = 3;      // straight pieces that draw the curve between two frames
const FIRST_VIEW = { yaw: 0.6, pitch: 0.7, zoom: 1, panX: 0, panY: 0 };
const MAX_ZOOM = 60;
const BOND_WIDTH = 3;

const reducedMotion = matchMedia("(prefers-reduced-motion: reduce)");
const toTrack = (list) => Float64Array.from(list, (value) => value === null ? NaN : value);
const clamp = (value, low, high) => Math.min(high, Math.max(low, value));

class TrajectoryPlayer {
  /* root: the element with the markup of report_player.html; systems: list of trajectories;
     first: number of the one to begin with. */
  constructor(root, systems, first = 0) {
    this.root = root;
    this.systems = systems;
    this.part = Object.fromEntries([...root.querySelectorAll("[data-part]")].map((node) => [node.dataset.part, node]));
    this.canvas = this.part.canvas;
    this.context = this.canvas.getContext("2d");
    this.playing = false;
    this.fillSelector();
    this.listen();
    this.part.system.value = first;
    this.select(first);
    new ResizeObserver(() => this.draw()).observe(this.canvas);
  }

  fillSelector() {
    this.systems.forEach((system, index) => this.part.system.append(element("option", { value: index }, system.label)));
    this.part["system-field"].hidden = this.systems.length < 2;
  }

  /* ---- the chosen system ---- */

  select(index) {
    this.pause();
    const data = this.systems[index];
    this.system = data;
    this.frames = data.times.length;
    this.count = data.sizes.length;
    this.alone = data.predicted === null;
    this.tracks = this.alone ? { true: toTrack(data.true) }
      : { true: toTrack(data.true), predicted: toTrack(data.predicted) };
    this.radii = markerRadii(data.sizes);
    this.measure();
    this.distances = this.alone ? data.times.map(() => 0) : this.distanceByFrame();
    this.part.legend.hidden = this.alone;
    this.part.strip.toggleAttribute("hidden", this.alone && data.horizon === null);
    this.horizonFrame = frameOfTime(data.times, data.horizon);
    this.part.slider.max = this.frames - 1;
    if (data.bonds) this.part.trail.value = "0"; // trails of many atoms hide the molecule
    this.resetView();
    this.showNames();
    drawTimeline(this.part, this.distances, this.horizonFrame);
    this.showNote();
    this.seek(0);
  }

  /* Centre of the true motion and the half width that holds it; the prediction may leave the picture. */
  measure() {
    const { dimension } = this.system;
    const low = new Array(dimension).fill(Infinity);
    const high = new Array(dimension).fill(-Infinity);
    this.tracks.true.forEach((value, index) => {
      const axis = index % dimension;
      if (value < low[axis]) low[axis] = value;
      if (value > high[axis]) high[axis] = value;
    });
    this.centre = low.map((value, axis) => (value + high[axis]) / 2);
    this.halfWidth = low.map((value, axis) => Math.max((high[axis] - value) / 2, 1e-12));
    this.reach = 1e-12; // largest distance from the vertical axis: what any turn of the view must hold
    for (let index = 0; index < this.tracks.true.length; index += dimension) {
      const [x, y] = [this.tracks.true[index] - this.centre[0], this.tracks.true[index + 1] - this.centre[1]];
      this.reach = Math.max(this.reach, Math.hypot(x, y));
    }
  }

  /* Root mean square distance between true and predicted particles, frame by frame. */
  distanceByFrame() {
    const perFrame = this.count * this.system.dimension;
    const { true: truth, predicted } = this.tracks;
    return Array.from({ length: this.frames }, (_, frame) => {
      let sum = 0;
      for (let index = frame * perFrame; index < (frame + 1) * perFrame; index += 1) {
        sum += (truth[index] - predicted[index]) ** 2;
      }
      return Math.sqrt(sum / this.count);
    });
  }

  resetView() {
    this.view = { ...FIRST_VIEW };
    this.draw();
  }

  showNames() {
    const { names } = this.system;
    this.part.names.replaceChildren(...(names || []).map((name, index) => {
      const item = element("li");
      const dot = element("span", { class: "disc", "aria-hidden": "true" });
      dot.style.background = dot.style.borderColor = seriesColour(index);
      item.append(dot, document.createTextNode(name));
      return item;
    }));
    this.part.names.hidden = !names;
    this.part.hint.textContent = this.system.dimension === 3 ? "drag to rotate" : "drag to move";
  }

  showNote() {
    const { totalFrames, timeUnit, times } = this.system;
    const sentences = this.alone ? []
      : ["The strip above the slider is the root mean square distance between rings and discs."];
    if (totalFrames > this.frames) sentences.push(`The animation holds ${this.frames} of ${totalFrames} frames.`);
    const bad = this.distances.findIndex((value) => !Number.isFinite(value));
    if (bad >= 0) sentences.push(`The prediction is ${NOT_FINITE} from ${withUnit(`t = ${formatNumber(times[bad])}`, timeUnit)}.`);
    this.part.note.textContent = sentences.join(" ");
  }

  /* ---- time ---- */

  get ended() { return this.position >= this.frames - 1; }

  seek(position) {
    this.position = clamp(position, 0, this.frames - 1);
    this.part.slider.value = Math.round(this.position);
    this.showReadout();
    this.draw();
  }

  timeAt(position) {
    const frame = Math.min(Math.floor(position), this.frames - 2);
    if (this.frames === 1) return this.system.times[0];
    const { times } = this.system;
    return times[frame] + (position - frame) * (times[frame + 1] - times[frame]);
  }

  showReadout() {
    const { timeUnit, lengthUnit, horizon, times } = this.system;
    const time = this.timeAt(this.position);
    const digits = decimalsFor(times[times.length - 1] - times[0]);
    const timeText = withUnit(`t = ${time.toFixed(digits)}`, timeUnit);
    const distance = this.distances[Math.round(this.position)];
    const distanceText = this.alone ? "" : Number.isFinite(distance)
      ? withUnit(`distance ${formatNumber(distance, 3)}`, lengthUnit) : `prediction ${NOT_FINITE}`;
    const where = horizon === null ? "" : time <= horizon ? "within the training data" : "beyond the training data";
    const readout = element("span", {}, [timeText, distanceText].filter(Boolean).join(" · "));
    this.part.readout.replaceChildren(readout, element("span", { class: "aside" }, where && ` · ${where}`));
    this.part.slider.setAttribute("aria-valuetext", [timeText, distanceText, where].filter(Boolean).join(", "));
    this.root.dataset.time = time;
  }

  play() {
    if (this.ended) this.seek(0);
    this.setPlaying(true);
    this.lastTick = null;
    this.request = requestAnimationFrame((now) => this.tick(now));
  }

  pause() {
    if (this.request) cancelAnimationFrame(this.request);
    this.setPlaying(false);
  }

  setPlaying(playing) {
    this.playing = playing;
    this.part.play.textContent = playing ? "Pause" : "Play";
    this.part.play.setAttribute("aria-label", playing ? "Pause" : "Play");
  }

  toggle() { if (this.playing) this.pause(); else this.play(); }

  tick(now) {
    const elapsed = this.lastTick === null ? 0 : (now - this.lastTick) / 1000;
    // Readers who prefer reduced motion get a few still pictures a second.
    if (this.lastTick === null || !reducedMotion.matches || elapsed >= 1 / REDUCED_STEPS) {
      this.lastTick = now;
      this.advance(Math.min(elapsed, 0.5) * Number(this.part.speed.value) / SECONDS_PER_RUN);
    }
    if (this.ended) this.pause();
    else this.request = requestAnimationFrame((next) => this.tick(next));
  }

  /* Go on by a share of the whole time; frames need not be equally far apart. */
  advance(share) {
    const { times } = this.system;
    const last = this.frames - 1;
    const time = this.timeAt(this.position) + share * (times[last] - times[0]);
    this.seek(time >= times[last] ? last : frameOfTime(times, time));
  }

  /* ---- input ---- */

  listen() {
    const { part } = this;
    part.play.addEventListener("click", () => this.toggle());
    part.slider.addEventListener("input", () => { this.pause(); this.seek(Number(part.slider.value)); });
    part.system.addEventListener("change", () => this.select(Number(part.system.value)));
    part.trail.addEventListener("change", () => this.draw());
    part["zoom-in"].addEventListener("click", () => this.zoomBy(1.5));
    part["zoom-out"].addEventListener("click", () => this.zoomBy(1 / 1.5));
    part.reset.addEventListener("click", () => this.resetView());
    this.root.addEventListener("keydown", (event) => this.onKey(event));
    this.listenToDrag();
  }

  /* Keys work wherever the focus is inside the player, but leave buttons and selectors their own. */
  onKey(event) {
    if (event.target.matches("select") || (event.target.matches("button") && event.key === " ")) return;
    const step = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1 }[event.key];
    const turn = event.shiftKey && event.target === this.canvas;
    if (event.key === " ") this.toggle();
    else if (step && turn) this.turnBy(event.key.endsWith("t") ? 24 * step : 0, event.key.endsWith("t") ? 0 : -24 * step);
    else if (step) { this.pause(); this.seek(Math.round(this.position) + step); }
    else if (event.key === "Home") this.seek(0);
    else if (event.key === "End") { this.pause(); this.seek(this.frames - 1); }
    else return;
    event.preventDefault();
  }

  listenToDrag() {
    let last = null;
    this.canvas.addEventListener("pointerdown", (event) => {
      last = event;
      this.canvas.setPointerCapture(event.pointerId);
    });
    this.canvas.addEventListener("pointermove", (event) => {
      if (last) this.turnBy(event.clientX - last.clientX, event.clientY - last.clientY);
      if (last) last = event;
    });
    for (const name of ["pointerup", "pointercancel"]) this.canvas.addEventListener(name, () => { last = null; });
  }

  /* A drag by so many pixels: turns three-dimensional systems, moves flat ones. */
  turnBy(dx, dy) {
    if (this.system.dimension === 3) {
      this.view.yaw += dx * 0.008;
      this.view.pitch = clamp(this.view.pitch + dy * 0.008, -Math.PI / 2, Math.PI / 2);
    } else {
      this.view.panX += dx;
      this.view.panY += dy;
    }
    this.draw();
  }

  zoomBy(factor) {
    const zoom = clamp(this.view.zoom * factor, 0.2, MAX_ZOOM);
    this.view.panX *= zoom / this.view.zoom;
    this.view.panY *= zoom / this.view.zoom;
    this.view.zoom = zoom;
    this.draw();
  }

  /* ---- drawing ---- */

  /* Width and height in CSS pixels; the canvas itself has the resolution of the screen. */
  fitCanvas() {
    const ratio = devicePixelRatio || 1;
    const { clientWidth: width, clientHeight: height } = this.canvas;
    if (this.canvas.width !== Math.round(width * ratio) || this.canvas.height !== Math.round(height * ratio)) {
      this.canvas.width = Math.round(width * ratio);
      this.canvas.height = Math.round(height * ratio);
    }
    this.context.setTransform(ratio, 0, 0, ratio, 0, 0);
    return { width, height };
  }

  /* A function from a position (array of d numbers) to {x, y, depth} in CSS pixels. */
  makeProjection(width, height) {
    const { yaw, pitch, zoom, panX, panY } = this.view;
    const [cx, cy, cz] = this.centre;
    const [hx, hy, hz] = this.halfWidth;
    const [midX, midY] = [width / 2 + panX, height / 2 + panY];
    const margin = 26;
    if (this.system.dimension === 2) {
      this.scale = zoom * Math.min((width / 2 - margin) / hx, (height / 2 - margin) / hy);
      return ([x, y]) => ({ x: midX + this.scale * (x - cx), y: midY - this.scale * (y - cy), depth: 0 });
    }
    const [cosYaw, sinYaw, cosPitch, sinPitch] = [Math.cos(yaw), Math.sin(yaw), Math.cos(pitch), Math.sin(pitch)];
    const tall = Math.hypot(Math.sin(FIRST_VIEW.pitch) * this.reach, Math.cos(FIRST_VIEW.pitch) * hz);
    this.scale = zoom * Math.min((width / 2 - margin) / this.reach, (height / 2 - margin) / tall);
    return ([x, y, z]) => {
      const across = cosYaw * (x - cx) - sinYaw * (y - cy);
      const away = sinYaw * (x - cx) + cosYaw * (y - cy);
      const up = sinPitch * away + cosPitch * (z - cz);
      return { x: midX + this.scale * across, y: midY - this.scale * up, depth: cosPitch * away - sinPitch * (z - cz) };
    };
  }

  /* Position of a particle at a fractional frame, by Catmull–Rom through the frames around it. */
  positionAt(track, particle, position) {
    const { dimension, times } = this.system;
    const frame = Math.min(Math.floor(position), Math.max(this.frames - 2, 0));
    const share = position - frame;
    const inside = (index) => clamp(index, 0, this.frames - 1);
    const at = (index, axis) => track[(inside(index) * this.count + particle) * dimension + axis];
    const span = (first, last) => times[inside(last)] - times[inside(first)];
    const step = span(frame, frame + 1);
    return Array.from({ length: dimension }, (_, axis) => {
      const here = at(frame, axis);
      const next = at(frame + 1, axis);
      if (share === 0) return here;
      const before = orElse(at(frame - 1, axis), here);
      const after = orElse(at(frame + 2, axis), next);
      const slope = (next - before) * step / span(frame - 1, frame + 1);
      const nextSlope = (after - here) * step / span(frame, frame + 2);
      return here + share * (slope + share * (3 * (next - here) - 2 * slope - nextSlope
        + share * (2 * (here - next) + slope + nextSlope)));
    });
  }

  draw() {
    if (!this.view || this.position === undefined) return;
    const { width, height } = this.fitCanvas();
    if (!width || !height) return;
    this.context.clearRect(0, 0, width, height);
    this.project = this.makeProjection(width, height);
    this.colours = themeColours();
    this.drawScaleBar(height);
    const trail = Number(this.part.trail.value) * this.frames;
    for (let particle = 0; particle < this.count && trail > 0; particle += 1) {
      this.drawTrail(this.tracks.true, particle, trail, this.alone ? 2.4 : 1, 0.75);
      if (!this.alone) this.drawTrail(this.tracks.predicted, particle, trail, 2.4, 0.5);
    }
    this.drawBonds();
    this.drawMarkers();
  }

  /* The recent path, fading towards the past; a few bands of equal opacity keep it fast. */
  drawTrail(track, particle, length, lineWidth, opacity) {
    const { context } = this;
    const start = Math.max(0, this.position - length);
    const pieces = clamp(Math.ceil((this.position - start) * PIECES_PER_FRAME), 1, 240);
    const points = Array.from({ length: pieces + 1 }, (_, index) =>
      this.project(this.positionAt(track, particle, start + (this.position - start) * index / pieces)));
    context.lineWidth = lineWidth;
    context.lineJoin = "round";
    context.strokeStyle = this.colourOf(particle);
    for (let band = 0; band < TRAIL_BANDS; band += 1) {
      const first = Math.floor(pieces * band / TRAIL_BANDS);
      const last = Math.floor(pieces * (band + 1) / TRAIL_BANDS);
      context.globalAlpha = opacity * (band + 1) / TRAIL_BANDS;
      context.beginPath();
      let pen = false;
      for (let index = first; index <= last; index += 1) {
        const { x, y } = points[index];
        const usable = Number.isFinite(x) && Number.isFinite(y);
        if (usable && pen) context.lineTo(x, y);
        else if (usable) context.moveTo(x, y);
        pen = usable;
      }
      context.stroke();
    }
    context.globalAlpha = 1;
  }

  colourOf(particle) {
    const { colours } = this.system;
    return colours ? colours[particle] : this.colours.series[particle % SERIES_COLOURS];
  }

  drawBonds() {
    const { context } = this;
    context.strokeStyle = this.colours.muted;
    context.lineWidth = BOND_WIDTH;
    context.lineCap = "round";
    for (const bond of this.system.bonds || []) {
      const ends = bond.map((particle) => this.project(this.positionAt(this.tracks.true, particle, this.position)));
      if (!ends.every(({ x, y }) => Number.isFinite(x) && Number.isFinite(y))) continue;
      context.beginPath();
      context.moveTo(ends[0].x, ends[0].y);
      context.lineTo(ends[1].x, ends[1].y);
      context.stroke();
    }
  }

  /* Far particles first, so that near ones cover them. */
  drawMarkers() {
    const marks = [];
    for (let particle = 0; particle < this.count; particle += 1) {
      for (const kind of Object.keys(this.tracks)) {
        const point = this.project(this.positionAt(this.tracks[kind], particle, this.position));
        if (Number.isFinite(point.x) && Number.isFinite(point.y)) marks.push({ kind, particle, ...point });
      }
    }
    marks.sort((a, b) => b.depth - a.depth);
    for (const mark of marks) this.drawMarker(mark);
    // Where the first true particle stands on the canvas, for anything that watches the page from outside.
    const first = marks.find((mark) => mark.kind === "true" && mark.particle === 0);
    this.canvas.dataset.firstX = first ? first.x.toFixed(2) : "";
    this.canvas.dataset.firstY = first ? first.y.toFixed(2) : "";
  }

  drawMarker({ kind, particle, x, y }) {
    const { context } = this;
    const colour = this.colourOf(particle);
    context.beginPath();
    const disc = this.alone || kind === "predicted";
    context.arc(x, y, this.radii[particle] + (disc ? 0 : 3.5), 0, 2 * Math.PI);
    if (disc) {
      context.fillStyle = colour;
      context.fill();
      if (this.system.colours) { // white atoms on a white page
        context.strokeStyle = this.colours.muted;
        context.lineWidth = 1;
        context.stroke();
      }
    } else {
      context.strokeStyle = colour;
      context.lineWidth = 1.8;
      context.stroke();
    }
  }

  /* A bar of a round length in the lower left corner. */
  drawScaleBar(height) {
    const { context } = this;
    const wanted = 90 / this.scale;
    const power = 10 ** Math.floor(Math.log10(wanted));
    const length = power * [5, 2, 1].find((factor) => factor * power <= wanted * 1.0001);
    context.strokeStyle = context.fillStyle = this.colours.muted;
    context.lineWidth = 1.5;
    context.beginPath();
    context.moveTo(14, height - 20);
    context.lineTo(14, height - 14);
    context.lineTo(14 + length * this.scale, height - 14);
    context.lineTo(14 + length * this.scale, height - 20);
    context.stroke();
    context.font = "12px system-ui, sans-serif";
    context.fillText(withUnit(formatNumber(length), this.system.lengthUnit), 20, height - 20);
  }
}
