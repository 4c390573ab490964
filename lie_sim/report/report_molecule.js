/* Molecules to turn: balls and sticks on a canvas, with an arrow for the force error of every atom.

   Atoms, halves of bonds and arrows are sorted by depth and painted from far to near, in a mild perspective. Drag
   or the arrow keys turn the molecule; buttons, two fingers and the keys + and − zoom, 0 resets. */

const BALL = 0.42;               // drawn radius of an atom, as a share of its covalent radius
const STICK = 0.13;              // half width of a bond in Å
const LONGEST_ARROW = 1.3;       // Å that the largest force error of a molecule is drawn
const EYE = 4;                   // distance of the eye in units of the size of the molecule
const EDGE = 0.6;                // Å around the outermost nuclei
const WIDER = 1.35;              // the first view lays a molecule across: turned, it may be taller than the canvas
const TURN = 0.01;               // radians a pixel
// From the edge to the middle of a stick: share of its width, and what is laid over its colour.
const STICK_SHADES = [[1, null], [1, "rgb(0 0 0 / 34%)"], [0.8, null], [0.8, "rgb(0 0 0 / 18%)"], [0.55, null],
  [0.55, "rgb(0 0 0 / 6%)"], [0.25, "rgb(255 255 255 / 45%)"]];
const ERROR_COLOURS = { light: ["#dfe3e8", "#c03a12"], dark: ["#4a525d", "#ff8c42"] };

const rgbOf = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
const mix = (from, to, share) => `rgb(${rgbOf(from).map((part, axis) => Math.round(part + share * (rgbOf(to)[axis] - part))).join(" ")})`;
const milli = (value) => Number.isFinite(value) ? `${formatNumber(1000 * value, 3)} meV/Å` : NOT_FINITE;

class MoleculeViewer {
  /* root: the element with the markup of report_molecule.html; molecules: the embedded structures. */
  constructor(root, molecules) {
    this.root = root;
    this.molecules = molecules;
    this.part = Object.fromEntries([...root.querySelectorAll("[data-part]")].map((node) => [node.dataset.part, node]));
    this.canvas = this.part.canvas;
    this.context = this.canvas.getContext("2d");
    this.fillSelector();
    this.listen();
    this.select(0);
    new ResizeObserver(() => this.draw()).observe(this.canvas);
  }

  fillSelector() {
    const groups = new Map();
    this.molecules.forEach(({ group, label }, index) => {
      if (!groups.has(group)) groups.set(group, this.part.structure.appendChild(element("optgroup", { label: group })));
      groups.get(group).append(element("option", { value: index }, label));
    });
  }

  select(index) {
    this.molecule = this.molecules[index];
    const { symbols, positions, error, facts } = this.molecule;
    this.errors = (error || []).map((vector) => vector.some((part) => part === null) ? NaN : Math.hypot(...vector));
    this.largest = this.errors.filter(Number.isFinite).reduce((a, b) => Math.max(a, b), 0);
    this.reach = symbols.map((symbol) => Math.max(EDGE, BALL * this.molecule.radii[symbol]));
    this.size = positions.reduce((most, place, atom) => Math.max(most, Math.hypot(...place) + this.reach[atom]), 0);
    for (const name of ["colour-field", "arrows-field"]) this.part[name].hidden = !error;
    this.part.facts.replaceChildren(...Object.entries(facts).map(([name, value]) => {
      const row = element("div");
      row.append(element("dt", {}, name), element("dd", {}, value));
      return row;
    }));
    this.showLegend();
    this.canvas.setAttribute("aria-label", `Molecule of ${symbols.length} atoms, ${this.formula()}. `
      + Object.entries(facts).map(([name, value]) => `${name}: ${value}`).join("; ") + ". Arrow keys turn it.");
    this.resetView();
  }

  formula() {
    const counts = new Map();
    for (const symbol of this.molecule.symbols) counts.set(symbol, (counts.get(symbol) || 0) + 1);
    return [...counts].map(([symbol, count]) => `${symbol}${count > 1 ? count : ""}`).join(" ");
  }

  /* Colours by element, or from no error to the largest; and what the longest arrow stands for. */
  showLegend() {
    const { colours, error } = this.molecule;
    const byError = this.part.colour.value === "error" && error;
    const entries = byError ? [["no error", 0], [milli(this.largest), 1]].map(([name, share]) => [name, this.errorColour(share)])
      : Object.keys(colours).sort().map((symbol) => [symbol, colours[symbol]]);
    this.part.legend.replaceChildren(...entries.map(([name, colour]) => {
      const item = element("li");
      const dot = item.appendChild(element("span", { class: "disc", "aria-hidden": "true" }));
      dot.style.background = colour;
      item.append(name);
      return item;
    }));
    if (error && this.part.arrows.checked) this.part.legend.append(element("li", {}, `longest arrow ${milli(this.largest)}`));
    this.part.hint.textContent = "drag to turn";
  }

  errorColour(share) {
    const [none, most] = ERROR_COLOURS[document.documentElement.dataset.theme] || ERROR_COLOURS.light;
    return mix(none, most, share);
  }

  colourOf(atom) {
    const { symbols, colours } = this.molecule;
    if (this.part.colour.value !== "error" || !this.errors.length) return colours[symbols[atom]];
    return Number.isFinite(this.errors[atom]) && this.largest > 0 ? this.errorColour(this.errors[atom] / this.largest) : "#ff00ff";
  }

  /* ---- input ---- */

  listen() {
    const { part } = this;
    part.structure.addEventListener("change", () => this.select(Number(part.structure.value)));
    for (const name of ["colour", "labels", "arrows"]) {
      part[name].addEventListener("change", () => { this.showLegend(); this.draw(); });
    }
    part["zoom-in"].addEventListener("click", () => this.zoomBy(1.25));
    part["zoom-out"].addEventListener("click", () => this.zoomBy(1 / 1.25));
    part.reset.addEventListener("click", () => this.resetView());
    this.canvas.addEventListener("keydown", (event) => this.onKey(event));
    this.listenToPointers();
  }

  onKey(event) {
    const turn = { ArrowLeft: [-24, 0], ArrowRight: [24, 0], ArrowUp: [0, -24], ArrowDown: [0, 24] }[event.key];
    if (turn) this.turnBy(...turn);
    else if (event.key === "+" || event.key === "=") this.zoomBy(1.25);
    else if (event.key === "-") this.zoomBy(1 / 1.25);
    else if (event.key === "0") this.resetView();
    else return;
    event.preventDefault();
  }

  /* One pointer turns, two zoom by their distance; without a button the atom below is named. */
  listenToPointers() {
    const down = new Map();
    const apart = () => { const [a, b] = [...down.values()]; return Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY); };
    this.canvas.addEventListener("pointerdown", (event) => {
      down.set(event.pointerId, event);
      this.canvas.setPointerCapture(event.pointerId);
    });
    this.canvas.addEventListener("pointermove", (event) => {
      const before = down.get(event.pointerId);
      if (!before) { this.nameAtomAt(event); return; }
      const distance = down.size === 2 ? apart() : 0;
      down.set(event.pointerId, event);
      if (down.size === 2) this.zoomBy(apart() / Math.max(distance, 1));
      else this.turnBy(event.clientX - before.clientX, event.clientY - before.clientY);
    });
    for (const name of ["pointerup", "pointercancel"]) this.canvas.addEventListener(name, (event) => down.delete(event.pointerId));
  }

  nameAtomAt(event) {
    const box = this.canvas.getBoundingClientRect();
    const [x, y] = [event.clientX - box.left, event.clientY - box.top];
    const hit = (this.balls || []).findLast((ball) => Math.hypot(ball.x - x, ball.y - y) < ball.radius);
    this.part.hint.textContent = hit ? this.atomText(hit.atom) : "drag to turn";
  }

  atomText(atom) {
    const name = `${this.molecule.symbols[atom]} ${atom}`;
    return this.errors.length ? `${name}: force error ${milli(this.errors[atom])}` : name;
  }

  /* The view is a rotation matrix, turned about the axes of the screen, so that a drag does what it seems to. */
  turnBy(dx, dy) {
    this.rotation = product(rotationX(dy * TURN), product(rotationY(dx * TURN), this.rotation));
    this.draw();
  }

  zoomBy(factor) {
    this.zoom = clamp(this.zoom * factor, 0.3, 8);
    this.draw();
  }

  resetView() {
    this.rotation = product(rotationX(0.35), product(rotationY(-0.5), flatten(this.molecule.positions)));
    this.zoom = 1;
    this.measure();
    this.draw();
  }

  /* Half the width and height of the first view in Å, with the perspective; less than a round molecule would need. */
  measure() {
    [this.wide, this.tall] = [this.size, this.size / WIDER];
    const { positions, error } = this.molecule;
    const tips = (error && this.largest > 0 ? positions : []).map((place, atom) =>
      place.map((part, axis) => part + LONGEST_ARROW / this.largest * (Number.isFinite(this.errors[atom]) ? error[atom][axis] : 0)));
    [...positions.map((place, atom) => [place, this.reach[atom]]), ...tips.map((tip) => [tip, 0])].forEach(([place, reach]) => {
      const [x, y, z] = apply(this.rotation, place);
      const nearer = EYE * this.size / (EYE * this.size - z);
      this.wide = Math.max(this.wide, nearer * (Math.abs(x) + reach));
      this.tall = Math.max(this.tall, nearer * (Math.abs(y) + reach));
    });
  }

  /* ---- drawing ---- */

  fitCanvas() {
    const ratio = devicePixelRatio || 1;
    const { clientWidth: width, clientHeight: height } = this.canvas;
    this.canvas.width = Math.round(width * ratio);
    this.canvas.height = Math.round(height * ratio);
    this.context.setTransform(ratio, 0, 0, ratio, 0, 0);
    return { width, height };
  }

  /* From Å to the screen: {x, y, near, pixels}; `near` grows towards the reader. */
  makeProjection({ width, height }) {
    const scale = this.zoom * Math.min((width / 2 - 16) / this.wide, (height / 2 - 16) / this.tall);
    return (place) => {
      const [x, y, z] = apply(this.rotation, place);
      const pixels = scale * EYE * this.size / (EYE * this.size - z);
      return { x: width / 2 + pixels * x, y: height / 2 - pixels * y, near: z, pixels };
    };
  }

  draw() {
    if (!this.rotation) return;
    const size = this.fitCanvas();
    if (!size.width || !size.height) return;
    this.project = this.makeProjection(size);
    const { positions, symbols, radii } = this.molecule;
    this.balls = positions.map((place, atom) => {
      const at = this.project(place);
      return { ...at, atom, radius: Math.max(BALL * radii[symbols[atom]] * at.pixels, 2), paint: () => this.paintBall(this.ballOf[atom]) };
    });
    this.ballOf = [...this.balls];
    const arrows = this.part.arrows.checked && this.molecule.error && this.largest > 0 ? this.arrows() : [];
    this.balls.sort((a, b) => a.near - b.near);
    for (const item of [...this.balls, ...this.sticks(), ...arrows].sort((a, b) => a.near - b.near)) item.paint();
    for (const ball of this.balls) this.paintLabel(ball); // over all else: a label that is half hidden says nothing
    this.canvas.dataset.firstX = this.ballOf[0].x.toFixed(2);
    this.canvas.dataset.firstY = this.ballOf[0].y.toFixed(2);
  }

  paintBall({ atom, x, y, radius }) {
    const { context } = this;
    const colour = this.colourOf(atom);
    context.beginPath();
    context.arc(x, y, radius, 0, 2 * Math.PI);
    context.fillStyle = colour;
    context.fill();
    const shade = context.createRadialGradient(x - 0.35 * radius, y - 0.4 * radius, 0.05 * radius, x, y, radius);
    shade.addColorStop(0, "rgb(255 255 255 / 55%)");
    shade.addColorStop(0.45, "rgb(255 255 255 / 0%)");
    shade.addColorStop(1, "rgb(0 0 0 / 38%)");
    context.fillStyle = shade;
    context.fill();
  }

  paintLabel({ atom, x, y, radius }) {
    const { context } = this;
    const kind = this.part.labels.value;
    if (kind === "none") return;
    const error = this.errors.length ? formatNumber(1000 * this.errors[atom], 2) : "";
    const text = { symbol: this.molecule.symbols[atom], number: String(atom), error }[kind];
    context.font = `600 ${clamp(radius * 0.8, 10, 16)}px system-ui, sans-serif`;
    context.textAlign = "center";
    context.textBaseline = "middle";
    context.lineWidth = 3;
    context.strokeStyle = "rgb(255 255 255 / 85%)";
    context.strokeText(text, x, y);
    context.fillStyle = "#14171b";
    context.fillText(text, x, y);
    context.textAlign = "start";
    context.textBaseline = "alphabetic";
  }

  /* Two halves of a bond, each in the colour of its atom, from just below the surface of the atom to the middle. */
  sticks() {
    const { positions, bonds, symbols, radii } = this.molecule;
    return bonds.flatMap(([a, b]) => {
      const length = Math.hypot(...positions[a].map((part, axis) => positions[b][axis] - part)) || 1;
      const along = (from, to, share) => from.map((part, axis) => part + share * (to[axis] - part));
      return [[a, b], [b, a]].map(([atom, other]) => {
        const surface = Math.min(0.85 * BALL * radii[symbols[atom]] / length, 0.5);
        const [from, to] = [surface, 0.5].map((share) => this.project(along(positions[atom], positions[other], share)));
        return { near: (from.near + to.near) / 2 - 0.05, paint: () => this.paintStick(from, to, this.colourOf(atom)) };
      });
    });
  }

  paintStick(from, to, colour) {
    const { context } = this;
    const width = 2 * STICK * (from.pixels + to.pixels) / 2;
    context.lineCap = "butt";
    for (const [share, style] of STICK_SHADES) {
      context.lineWidth = Math.max(width * share, 1);
      context.strokeStyle = style || colour;
      context.beginPath();
      context.moveTo(from.x, from.y);
      context.lineTo(to.x, to.y);
      context.stroke();
    }
  }

  arrows() {
    const { positions, error } = this.molecule;
    const stretch = LONGEST_ARROW / this.largest;
    return this.errors.flatMap((size, atom) => {
      if (!Number.isFinite(size) || size < 0.02 * this.largest) return [];
      const from = this.ballOf[atom];
      const to = this.project(positions[atom].map((part, axis) => part + stretch * error[atom][axis]));
      return [{ near: Math.max(from.near, to.near) + 0.2, paint: () => this.paintArrow(from, to) }];
    });
  }

  paintArrow(from, to) {
    const { context } = this;
    const [colour, page] = [themeColours().series[1], themeColours().page];
    const angle = Math.atan2(to.y - from.y, to.x - from.x);
    const head = clamp(Math.hypot(to.x - from.x, to.y - from.y) * 0.4, 3, 10);
    const at = (back, side) => [to.x - back * Math.cos(angle) - side * Math.sin(angle), to.y - back * Math.sin(angle) + side * Math.cos(angle)];
    context.lineCap = context.lineJoin = "round";
    const outline = () => {
      context.beginPath();
      context.moveTo(from.x, from.y);
      context.lineTo(...at(head * 0.8, 0));
      context.moveTo(to.x, to.y);
      context.lineTo(...at(head, head * 0.5));
      context.lineTo(...at(head, -head * 0.5));
      context.closePath();
    };
    // A rim in the colour of the page: an arrow along a bond is seen as well.
    for (const [width, style] of [[5.2, page], [2.4, colour]]) {
      outline();
      context.lineWidth = width;
      context.strokeStyle = context.fillStyle = style;
      context.stroke();
      context.fill();
    }
  }
}
