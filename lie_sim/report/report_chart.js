/* Line charts on a logarithmic or linear axis, drawn as SVG.

   A chart owns one host element: a legend whose buttons show and hide curves, the plot, and a tooltip
   that follows the pointer or, when the plot has the focus, the left and right arrow keys.
   A value of null is a gap. Colours come from the style sheet (--series-0 …), so that a change of theme
   needs no redraw; each curve has its own dash pattern as well. */

const SVG_NAMESPACE = "http://www.w3.org/2000/svg";
const SERIES_COLOURS = 8;
const DASHES = ["", "7 3", "2 2.5", "9 3 2 3"];
const NOT_FINITE = "not finite";

const seriesColour = (index) => `var(--series-${index % SERIES_COLOURS})`;

/* One element with attributes and, optionally, text; text is never parsed as markup. */
function element(tag, attributes = {}, text = null, namespace = null) {
  const node = namespace ? document.createElementNS(namespace, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  if (text !== null) node.textContent = text;
  return node;
}

const svgElement = (tag, attributes, text = null) => element(tag, attributes, text, SVG_NAMESPACE);

const superscript = (number) => String(number).replace(/[-0-9]/g,
  (character) => character === "-" ? "⁻" : "⁰¹²³⁴⁵⁶⁷⁸⁹"[Number(character)]);

/* A number as people write it: 4 significant digits, powers of ten set as such. */
function formatNumber(value, digits = 4) {
  if (value === null || !Number.isFinite(value)) return NOT_FINITE;
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 1e-3 && size < 1e5) return String(Number(value.toPrecision(Math.max(digits, size >= 1e4 ? 5 : digits))));
  const [mantissa, exponent] = value.toExponential(digits - 1).split("e");
  return `${Number(mantissa)}×10${superscript(Number(exponent))}`;
}

/* A number of an axis from `low` to `high`, with digits enough to tell it from its neighbours. */
function formatBetween(value, low, high) {
  const largest = Math.max(Math.abs(low), Math.abs(high));
  const digits = high > low ? Math.ceil(Math.log10(largest / (high - low))) + 3 : 4;
  const plain = digits > 4 && largest >= 1e3 && largest < 1e15 && value !== null && Number.isFinite(value);
  return plain ? String(Number(value.toPrecision(Math.min(digits, 17)))) : formatNumber(value, Math.max(digits, 4));
}

const withUnit = (text, unit) => unit ? `${text} ${unit}` : text;
const quantity = (name, unit) => unit ? `${name} (${unit})` : name;

/* Round numbers that divide [low, high] into about `count` parts. */
function linearTicks(low, high, count) {
  const rough = (high - low) / Math.max(count, 1);
  if (!(rough > 0)) return [low];
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= rough * 0.999);
  const ticks = [];
  for (let index = Math.ceil(low / step - 1e-9); index * step <= high + step * 1e-9; index += 1) {
    ticks.push(Number((index * step).toPrecision(15)));
  }
  return ticks;
}

/* Powers of ten, thinned to `count`; within about one decade also their multiples by 2 and 5. */
function logTicks(low, high, count) {
  const first = Math.ceil(Math.log10(low) - 1e-9);
  const last = Math.floor(Math.log10(high) + 1e-9);
  if (last - first < 1) {
    const ticks = [];
    for (let exponent = first - 1; exponent <= last + 1; exponent += 1) {
      for (const factor of [1, 2, 5]) ticks.push(factor * 10 ** exponent);
    }
    return ticks.filter((tick) => tick >= low && tick <= high);
  }
  const stride = Math.max(1, Math.ceil((last - first + 1) / count));
  const ticks = [];
  for (let exponent = first; exponent <= last; exponent += stride) ticks.push(10 ** exponent);
  return ticks;
}

/* Labels of logarithmic ticks: plain numbers when all are handy, powers of ten otherwise. */
function logTickLabels(ticks) {
  const handy = ticks.every((tick) => tick >= 0.99e-2 && tick <= 1.01e3);
  return ticks.map((tick) => {
    const exponent = Math.round(Math.log10(tick));
    const isPower = Math.abs(tick / 10 ** exponent - 1) < 1e-9;
    return isPower && !handy ? `10${superscript(exponent)}` : formatNumber(tick, 2);
  });
}

/* Index of the entry of the ascending list `values` that is nearest to `target`. */
function nearestIndex(values, target) {
  let low = 0;
  let high = values.length - 1;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (values[middle] < target) low = middle; else high = middle;
  }
  return Math.abs(values[low] - target) <= Math.abs(values[high] - target) ? low : high;
}

class LineChart {
  /* host: empty element. options:
       series   [{name, x, y, low, high}], x ascending, y with null for a gap; low and high of a band, if it has one
       xName, xUnit, yName
       limits   [low, high] of the vertical axis, or null when there is nothing to draw
       linear   whether that axis is linear; a logarithmic one has no place for zero and below
       marks    [{name, x}]: places on the horizontal axis with a short line above them
       shaded   [{name, spans: [[from, to], …]}]: stretches of the horizontal axis
       horizon  x at which training data ends, or null
       height   in CSS pixels
       detail   optional function of x that returns one more line for the tooltip */
  constructor(host, options) {
    this.options = { height: 300, horizon: null, detail: null, linear: false, marks: [], shaded: [], ...options };
    this.hidden = new Set();
    host.classList.add("chart");
    this.top = host.appendChild(element("div", { class: "chart-top" }));
    this.legend = this.top.appendChild(element("div", { class: "legend", role: "group", "aria-label": "Curves" }));
    this.plot = host.appendChild(element("div", { class: "plot", tabindex: "0", role: "group" }));
    this.tooltip = element("div", { class: "tooltip", role: "status", hidden: "" });
    this.note = host.appendChild(element("p", { class: "note" }));
    this.buildLegend();
    this.listen();
    new ResizeObserver(() => this.draw()).observe(this.plot);
    this.draw();
  }

  /* Other numbers on the same chart, for instance against another horizontal axis. */
  update(options) {
    Object.assign(this.options, options);
    this.hideCursor();
    this.draw();
  }

  /* A series that diverges says so beside its name; one without any finite value cannot be shown. */
  buildLegend() {
    this.options.series.forEach((series, index) => {
      const finite = series.y.some((value) => this.usable(value));
      const button = element("button", { type: "button", "aria-pressed": String(finite) });
      button.append(lineKey(index), element("span", {}, finite ? series.name : `${series.name} (${NOT_FINITE})`));
      button.disabled = !finite;
      button.addEventListener("click", () => {
        if (!this.hidden.delete(index)) this.hidden.add(index);
        button.setAttribute("aria-pressed", String(!this.hidden.has(index)));
        this.draw();
      });
      this.legend.append(button);
    });
    this.options.marks.forEach(({ name }, index) => {
      const key = element("span", { class: "mark-key" });
      const bar = key.appendChild(element("span", { "aria-hidden": "true" }));
      bar.style.background = seriesColour(this.options.series.length + index);
      key.append(name);
      this.legend.append(key);
    });
    for (const { name } of this.options.shaded) {
      const key = element("span", { class: "mark-key" });
      key.append(element("span", { "aria-hidden": "true", class: "stretch-key" }), name);
      this.legend.append(key);
    }
  }

  usable(value) { return value !== null && (this.options.linear || value > 0); }

  listen() {
    this.plot.addEventListener("pointermove", (event) => this.pointAt(event.clientX));
    this.plot.addEventListener("pointerdown", (event) => this.pointAt(event.clientX));
    this.plot.addEventListener("pointerleave", () => this.hideCursor());
    this.plot.addEventListener("blur", () => this.hideCursor());
    this.plot.addEventListener("keydown", (event) => this.onKey(event));
  }

  onKey(event) {
    const direction = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!direction || !this.scale) return;
    event.preventDefault();
    const { x0, x1 } = this.scale;
    const from = this.cursorX ?? (direction > 0 ? x0 : x1);
    this.showCursor(Math.min(x1, Math.max(x0, from + direction * (x1 - x0) / 60)));
  }

  pointAt(clientX) {
    if (!this.scale) return;
    const { left, innerWidth, x0, x1 } = this.scale;
    const share = (clientX - this.plot.getBoundingClientRect().left - left) / innerWidth;
    this.showCursor(x0 + Math.min(1, Math.max(0, share)) * (x1 - x0));
  }

  /* ---- drawing ---- */

  draw() {
    const width = this.plot.clientWidth;
    if (!width) return;
    const { limits, height } = this.options;
    const svg = svgElement("svg", { viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" });
    this.plot.replaceChildren(svg, this.tooltip);
    this.plot.setAttribute("aria-label", this.describe());
    const xs = this.options.series.flatMap((series) => series.x.filter((x) => x !== null));
    if (!limits || !xs.length) {
      this.scale = null;
      svg.append(svgElement("text", { x: width / 2, y: height / 2, "text-anchor": "middle" }, this.options.linear ? "No finite values" : "No finite positive values"));
      return;
    }
    this.scale = this.makeScale(width, height, xs, limits);
    this.drawShaded(svg);
    this.drawAxes(svg);
    this.drawHorizon(svg);
    this.drawMarks(svg);
    this.drawCurves(svg);
    this.cursor = svg.appendChild(svgElement("g"));
    this.note.textContent = this.noteText();
  }

  makeScale(width, height, xs, [y0, y1]) {
    const top = this.options.horizon === null ? 10 : 24;
    const innerHeight = height - top - 42;
    const count = Math.max(2, Math.floor(innerHeight / 36));
    const ticks = this.options.linear ? linearTicks(y0, y1, count) : logTicks(y0, y1, count);
    const labels = this.options.linear ? ticks.map((tick) => formatBetween(tick, y0, y1)) : logTickLabels(ticks);
    const longest = labels.reduce((most, label) => Math.max(most, label.length), 0);
    const left = Math.max(52, 26 + 8 * longest); // beside the name of the axis
    const innerWidth = width - left - 12;
    const x0 = xs.reduce((a, b) => Math.min(a, b));
    const x1 = Math.max(xs.reduce((a, b) => Math.max(a, b)), x0 + 1e-12);
    const level = this.options.linear ? (value) => value : Math.log10;
    const [low, high] = [level(y0), level(y1)];
    return {
      left, top, innerWidth, innerHeight, x0, x1, y0, y1, ticks, labels,
      x: (value) => left + innerWidth * (value - x0) / (x1 - x0),
      y: (value) => top + innerHeight * (high - level(value)) / (high - low),
    };
  }

  drawAxes(svg) {
    const { left, top, innerWidth, innerHeight, x0, x1, ticks, labels, x, y } = this.scale;
    const bottom = top + innerHeight;
    ticks.forEach((tick, index) => {
      const at = y(tick);
      svg.append(svgElement("line", { class: "grid", x1: left, x2: left + innerWidth, y1: at, y2: at }));
      svg.append(svgElement("text", { x: left - 8, y: at + 4, "text-anchor": "end" }, labels[index]));
    });
    for (const tick of linearTicks(x0, x1, Math.max(2, Math.floor(innerWidth / 90)))) {
      const at = x(tick);
      svg.append(svgElement("line", { class: "axis", x1: at, x2: at, y1: bottom, y2: bottom + 4 }));
      const label = formatBetween(tick, x0, x1);
      const anchor = at + 4 * label.length > left + innerWidth + 12 ? "end" : "middle"; // the page ends there
      svg.append(svgElement("text", { x: at, y: bottom + 18, "text-anchor": anchor }, label));
    }
    svg.append(svgElement("line", { class: "axis", x1: left, x2: left + innerWidth, y1: bottom, y2: bottom }));
    const middle = left + innerWidth / 2;
    const { xName, xUnit, yName } = this.options;
    svg.append(svgElement("text", { x: middle, y: bottom + 37, "text-anchor": "middle" }, quantity(xName, xUnit)));
    const centre = top + innerHeight / 2;
    svg.append(svgElement("text", { x: 11, y: centre, "text-anchor": "middle",
      transform: `rotate(-90 11 ${centre})` }, yName));
  }

  drawHorizon(svg) {
    const { horizon } = this.options;
    const { left, top, innerWidth, innerHeight, x0, x1, x } = this.scale;
    if (horizon === null || horizon < x0) return;
    const at = x(Math.min(horizon, x1));
    svg.append(svgElement("rect", { class: "seen", x: left, y: top, width: at - left, height: innerHeight }));
    if (horizon > x1) return;
    svg.append(svgElement("line", { class: "horizon", x1: at, x2: at, y1: top - 4, y2: top + innerHeight }));
    const text = svgElement("text", { y: top - 9, "text-anchor": "middle" }, "training data ends");
    text.setAttribute("x", Math.min(Math.max(at, left + 54), left + innerWidth - 54));
    svg.append(text);
  }

  drawShaded(svg) {
    const { top, innerHeight, x0, x1, x } = this.scale;
    for (const { spans } of this.options.shaded) {
      for (const [from, to] of spans) {
        const begin = x(Math.max(from, x0));
        const width = x(Math.min(to, x1)) - begin;
        if (width > 0) svg.append(svgElement("rect", { class: "shaded", x: begin, y: top, width, height: innerHeight }));
      }
    }
  }

  drawMarks(svg) {
    const { top, innerHeight, x0, x1, x } = this.scale;
    this.options.marks.forEach((marks, index) => {
      const inside = marks.x.filter((value) => value !== null && value >= x0 && value <= x1);
      const path = inside.map((value) => `M${x(value).toFixed(1)} ${top}v${innerHeight}`).join("");
      const node = svg.appendChild(svgElement("path", { class: "marks", d: path }));
      node.style.stroke = seriesColour(this.options.series.length + index);
    });
  }

  drawCurves(svg) {
    const { left, top, innerWidth, innerHeight } = this.scale;
    const clip = `clip-${LineChart.count += 1}`;
    const region = svg.appendChild(svgElement("clipPath", { id: clip }));
    region.append(svgElement("rect", { x: left, y: top, width: innerWidth, height: innerHeight }));
    const group = svg.appendChild(svgElement("g", { "clip-path": `url(#${clip})` }));
    this.options.series.forEach((series, index) => {
      if (this.hidden.has(index)) return;
      if (series.low) {
        const band = group.appendChild(svgElement("path", { class: "band", d: this.bandOf(series) }));
        band.style.fill = seriesColour(index);
      }
      const path = svgElement("path", { class: "curve", d: this.pathOf(series), "stroke-dasharray": DASHES[index % 4] });
      path.style.stroke = seriesColour(index);
      group.append(path);
      const alone = this.pointsOf(series);
      if (!alone) return;
      const only = series.x.filter((value, at) => value !== null && this.usable(series.y[at])).length === 1;
      const dots = (only ? svg : group).appendChild(svgElement("path", { class: only ? "dots only" : "dots", d: alone }));
      dots.style.stroke = seriesColour(index);
    });
  }

  /* Values of a curve between two that are missing, which no line shows. */
  pointsOf({ x, y }) {
    const usable = x.map((value, index) => value !== null && this.usable(y[index]));
    return x.map((value, index) => usable[index] && !usable[index - 1] && !usable[index + 1]
      ? `M${this.scale.x(value).toFixed(1)} ${this.scale.y(y[index]).toFixed(1)}h.01` : "").join("");
  }

  /* The path of one curve, broken wherever a value is missing, not finite or not positive. */
  pathOf({ x, y }) {
    let path = "";
    let pen = false;
    for (let index = 0; index < x.length; index += 1) {
      const usable = x[index] !== null && this.usable(y[index]);
      if (usable) path += `${pen ? "L" : "M"}${this.scale.x(x[index]).toFixed(1)} ${this.scale.y(y[index]).toFixed(1)}`;
      pen = usable;
    }
    return path;
  }

  /* Around every unbroken part of a curve: along its upper edge and back along its lower one. */
  bandOf({ x, low, high }) {
    const point = (index, values) => `${this.scale.x(x[index]).toFixed(1)} ${this.scale.y(values[index]).toFixed(1)}`;
    let path = "";
    let begin = 0;
    for (let index = 0; index <= x.length; index += 1) {
      if (index < x.length && this.usable(low[index]) && high[index] !== null) continue;
      const part = Array.from({ length: index - begin }, (_, k) => begin + k);
      if (part.length > 1) {
        const forth = part.map((k) => point(k, high));
        const back = part.reverse().map((k) => point(k, low));
        path += `M${[...forth, ...back].join("L")}Z`;
      }
      begin = index + 1;
    }
    return path;
  }

  /* What the picture alone would hide: curves that leave the axis, and curves that stop being finite. */
  noteText() {
    const { series, limits, linear } = this.options;
    const sentences = [];
    for (const { name, x, y } of series) {
      const finite = y.filter((value) => value !== null);
      const largest = finite.reduce((a, b) => Math.max(a, b), 0);
      if (!linear && largest > limits[1]) sentences.push(`${name} leaves the axis and reaches ${formatNumber(largest, 2)}.`);
      const last = y.findLastIndex((value) => value !== null);
      if (last >= 0 && last < y.length - 1) sentences.push(`${name} is ${NOT_FINITE} after ${this.xText(x[last])}.`);
    }
    return sentences.join(" ");
  }

  xText(value) {
    const { x0, x1 } = this.scale;
    return withUnit(`${this.options.xName} ${formatBetween(value, x0, x1)}`, this.options.xUnit);
  }

  yText(value) {
    const { linear, limits } = this.options;
    return linear && limits ? formatBetween(value, ...limits) : formatNumber(value);
  }

  /* The chart in words, for those who do not see it. */
  describe() {
    const { series, yName, xName } = this.options;
    const parts = series.map(({ name, y }) => {
      const finite = y.filter((value) => value !== null);
      return finite.length ? `${name} ends at ${this.yText(finite[finite.length - 1])}` : `${name} is ${NOT_FINITE}`;
    });
    return `Line chart of ${yName} against ${xName}: ${parts.join("; ")}. Arrow keys read values.`;
  }

  /* ---- reading values ---- */

  showCursor(value) {
    const { left, innerWidth, top, innerHeight, x, y, y0, y1 } = this.scale;
    this.cursorX = value;
    const at = x(value);
    this.cursor.replaceChildren(svgElement("line", { class: "cursor", x1: at, x2: at, y1: top, y2: top + innerHeight }));
    this.tooltip.replaceChildren(element("strong", {}, this.xText(value)));
    this.options.series.forEach((series, index) => {
      if (this.hidden.has(index) || !series.x.length) return;
      const nearest = nearestIndex(series.x, value);
      const reading = series.y[nearest];
      const row = element("div", { class: "row" });
      row.append(lineKey(index), element("span", {}, series.name), element("b", {}, this.yText(reading)));
      this.tooltip.append(row);
      if (reading === null || reading < y0 || reading > y1) return;
      const dot = svgElement("circle", { class: "dot", r: 4, cx: x(series.x[nearest]), cy: y(reading) });
      dot.style.fill = seriesColour(index);
      this.cursor.append(dot);
    });
    for (const marks of this.options.marks) {
      const near = marks.x.reduce((a, b) => Math.abs(b - value) < Math.abs(a - value) ? b : a, Infinity);
      const row = element("div", { class: "row" });
      row.append(element("span", {}, `nearest ${marks.name}`), element("b", {}, withUnit(formatBetween(near, this.scale.x0, this.scale.x1), this.options.xUnit)));
      this.tooltip.append(row);
    }
    const detail = this.options.detail && this.options.detail(value);
    if (detail) this.tooltip.append(element("div", { class: "row" }, detail));
    this.tooltip.hidden = false;
    // The tooltip keeps to the side of the cursor that has more room.
    const onLeft = at > left + innerWidth / 2;
    this.tooltip.style.left = onLeft ? "auto" : `${at + 12}px`;
    this.tooltip.style.right = onLeft ? `${this.plot.clientWidth - at + 12}px` : "auto";
  }

  hideCursor() {
    this.cursorX = null;
    this.tooltip.hidden = true;
    if (this.cursor) this.cursor.replaceChildren();
  }
}
LineChart.count = 0;

/* The short piece of line that stands for a curve in the legend and in the tooltip. */
function lineKey(index) {
  const svg = svgElement("svg", { class: "key", width: 24, height: 8, viewBox: "0 0 24 8", "aria-hidden": "true" });
  const line = svgElement("line", { x1: 0, x2: 24, y1: 4, y2: 4, "stroke-width": 2.2, "stroke-dasharray": DASHES[index % 4] });
  line.style.stroke = seriesColour(index);
  svg.append(line);
  return svg;
}
