/* Predicted against reference, as dots around the diagonal, with the errors as a histogram below.

   A dot is the cell of a grid and stands for some number of values; its shade tells how many, by the
   logarithm. Dots of one shade are one path, so that thousands of them cost five elements. A tooltip follows
   the pointer or, when the plot has the focus, the arrow keys, from the largest error down. */

const SHADES = 5;
const HISTOGRAM_HEIGHT = 96;
const REACH = 24;                // pixels from the pointer within which a dot is named

class ParityChart {
  /* host: empty element; data: one entry of the embedded `parity`. */
  constructor(host, data) {
    this.data = data;
    const worst = (index) => Math.abs(data.predicted[index] - data.true[index]);
    this.worstFirst = data.true.map((_, index) => index).sort((a, b) => worst(b) - worst(a));
    this.most = data.standsFor.reduce((a, b) => Math.max(a, b), 1);
    host.classList.add("chart", "parity");
    host.append(element("h3", {}, data.label), element("p", { class: "parity-figures" }, this.figures()));
    this.plot = host.appendChild(element("div", { class: "plot", tabindex: "0", role: "group" }));
    this.plot.setAttribute("aria-label", this.describe());
    this.tooltip = element("div", { class: "tooltip", role: "status", hidden: "" });
    host.append(this.shadeKey(), element("p", { class: "note" }, this.note()));
    this.listen();
    new ResizeObserver(() => this.draw()).observe(this.plot);
    this.draw();
  }

  /* ---- words ---- */

  quantity(value, digits = 4) { return withUnit(formatNumber(value, digits), this.data.unit); }

  error(value) { return withUnit(formatNumber(value, 3), this.data.errorUnit); }

  figures() {
    const { mae, rmse, r2 } = this.data.figures;
    const parts = [`MAE ${this.error(mae)}`, `RMSE ${this.error(rmse)}`];
    // Of a good model the digits after the nines are the news: 0.99997, not 1.
    if (r2 !== null) parts.push(`R² ${r2 > 0.99 ? r2.toFixed(Math.min(8, 2 - Math.floor(Math.log10(1 - r2 + 1e-9)))) : formatNumber(r2, 3)}`);
    return parts.join(" · ");
  }

  note() {
    const { figures, note } = this.data;
    const sentences = [note, `${figures.count.toLocaleString("en").replaceAll(",", "\u202f")} values.`];
    if (figures.outside) sentences.push(`${figures.outside} of them are off the axes or ${NOT_FINITE}.`);
    return sentences.filter(Boolean).join(" ");
  }

  describe() {
    return `Predicted against reference ${this.data.label}: ${this.figures()}. Arrow keys read the largest errors.`;
  }

  /* ---- drawing ---- */

  draw() {
    const width = this.plot.clientWidth;
    if (!width) return;
    const side = Math.min(width, 460);
    const height = side + HISTOGRAM_HEIGHT;
    const svg = svgElement("svg", { viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" });
    this.plot.replaceChildren(svg, this.tooltip);
    if (!this.data.true.length) {
      svg.append(svgElement("text", { x: width / 2, y: side / 2, "text-anchor": "middle" }, "No finite predictions"));
      return;
    }
    this.scale = this.makeScale(width, side);
    this.drawAxes(svg);
    this.drawDots(svg);
    this.drawHistogram(svg, side + 12, height - 34);
    this.cursor = svg.appendChild(svgElement("g"));
  }

  makeScale(width, side) {
    const all = [...this.data.true, ...this.data.predicted];
    const [least, most] = [all.reduce((a, b) => Math.min(a, b)), all.reduce((a, b) => Math.max(a, b))];
    const margin = 0.04 * (most - least) || 1;
    const [low, high] = [least - margin, most + margin];
    const [left, top] = [54, 8];
    const [across, down] = [width - left - 10, side - top - 40];
    return {
      left, top, across, down, low, high,
      x: (value) => left + across * (value - low) / (high - low),
      y: (value) => top + down * (high - value) / (high - low),
    };
  }

  drawAxes(svg) {
    const { left, top, across, down, low, high, x, y } = this.scale;
    const bottom = top + down;
    for (const tick of linearTicks(low, high, Math.max(3, Math.floor(down / 60)))) {
      svg.append(svgElement("line", { class: "grid", x1: left, x2: left + across, y1: y(tick), y2: y(tick) }));
      svg.append(svgElement("text", { x: left - 8, y: y(tick) + 4, "text-anchor": "end" }, formatNumber(tick)));
    }
    for (const tick of linearTicks(low, high, Math.max(2, Math.floor(across / 80)))) {
      svg.append(svgElement("line", { class: "grid", x1: x(tick), x2: x(tick), y1: top, y2: bottom }));
      svg.append(svgElement("text", { x: x(tick), y: bottom + 17, "text-anchor": "middle" }, formatNumber(tick)));
    }
    svg.append(svgElement("line", { class: "diagonal", x1: x(low), y1: y(low), x2: x(high), y2: y(high) }));
    const middle = top + down / 2;
    svg.append(svgElement("text", { x: left + across / 2, y: bottom + 34, "text-anchor": "middle" },
      quantity("reference", this.data.unit)));
    svg.append(svgElement("text", { x: 11, y: middle, "text-anchor": "middle", transform: `rotate(-90 11 ${middle})` },
      quantity("predicted", this.data.unit)));
  }

  shadeOf(index) {
    if (this.most <= 1) return SHADES - 2;
    return Math.round((SHADES - 1) * Math.log(this.data.standsFor[index]) / Math.log(this.most));
  }

  /* Dense cells last: they cover what lies around them, and single values away from the line stay visible. */
  drawDots(svg) {
    const { x, y } = this.scale;
    const paths = Array.from({ length: SHADES }, () => "");
    this.data.true.forEach((value, index) => {
      paths[this.shadeOf(index)] += `M${x(value).toFixed(1)} ${y(this.data.predicted[index]).toFixed(1)}h0`;
    });
    paths.forEach((path, shade) => {
      if (!path) return;
      const node = svg.appendChild(svgElement("path", { class: "dots", d: path }));
      node.style.stroke = `var(--shade-${shade})`;
    });
  }

  drawHistogram(svg, top, bottom) {
    const { edges, counts } = this.data;
    const { left, across } = this.scale;
    const [low, high] = [edges[0], edges[edges.length - 1]];
    const most = counts.reduce((a, b) => Math.max(a, b), 1);
    const x = (value) => left + across * (value - low) / (high - low);
    let path = "";
    counts.forEach((count, bin) => {
      const level = bottom - (bottom - top) * count / most;
      path += `M${x(edges[bin]).toFixed(1)} ${bottom}V${level.toFixed(1)}H${x(edges[bin + 1]).toFixed(1)}V${bottom}Z`;
    });
    svg.append(svgElement("path", { class: "bars", d: path }));
    svg.append(svgElement("line", { class: "axis", x1: left, x2: left + across, y1: bottom, y2: bottom }));
    for (const tick of linearTicks(low, high, Math.max(2, Math.floor(across / 90)))) {
      svg.append(svgElement("text", { x: x(tick), y: bottom + 16, "text-anchor": "middle" }, formatNumber(tick)));
    }
    svg.append(svgElement("text", { x: left + across / 2, y: bottom + 31, "text-anchor": "middle" },
      quantity("predicted − reference", this.data.errorUnit)));
  }

  shadeKey() {
    const key = element("p", { class: "shade-key", "aria-hidden": "true" });
    if (this.most <= 1) return key;
    key.append("1");
    for (let shade = 0; shade < SHADES; shade += 1) {
      const dot = key.appendChild(element("span"));
      dot.style.background = `var(--shade-${shade})`;
    }
    key.append(`${formatNumber(this.most)} values a dot`);
    return key;
  }

  /* ---- reading values ---- */

  listen() {
    const { plot } = this;
    plot.addEventListener("pointermove", (event) => this.pointAt(event));
    plot.addEventListener("pointerdown", (event) => this.pointAt(event));
    for (const name of ["pointerleave", "blur"]) plot.addEventListener(name, () => this.show(null));
    plot.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1 }[event.key];
      if (!step || !this.scale) return;
      event.preventDefault();
      this.rank = clamp((this.rank ?? -1) + step, 0, this.worstFirst.length - 1);
      this.show(this.worstFirst[this.rank]);
    });
  }

  pointAt(event) {
    if (!this.scale) return;
    const box = this.plot.getBoundingClientRect();
    const [px, py] = [event.clientX - box.left, event.clientY - box.top];
    let [nearest, distance] = [null, REACH];
    this.data.true.forEach((value, index) => {
      const here = Math.hypot(this.scale.x(value) - px, this.scale.y(this.data.predicted[index]) - py);
      if (here < distance) [nearest, distance] = [index, here];
    });
    this.show(nearest);
  }

  show(index) {
    this.tooltip.hidden = index === null;
    if (this.cursor) this.cursor.replaceChildren();
    if (index === null) { this.rank = null; return; }
    const [truth, predicted, count] = [this.data.true[index], this.data.predicted[index], this.data.standsFor[index]];
    const at = { x: this.scale.x(truth), y: this.scale.y(predicted) };
    this.cursor.append(svgElement("circle", { class: "ring-mark", r: 6, cx: at.x, cy: at.y }));
    const rows = [["reference", this.quantity(truth)], ["predicted", this.quantity(predicted)],
      ["error", this.error(this.data.errorScale * (predicted - truth))]];
    this.tooltip.replaceChildren(...rows.map(([name, value]) => {
      const row = element("div", { class: "row" });
      row.append(element("span", {}, name), element("b", {}, value));
      return row;
    }));
    if (count > 1) this.tooltip.append(element("div", { class: "row" }, `the largest error of ${count} values here`));
    const onLeft = at.x > this.plot.clientWidth / 2;
    this.tooltip.style.left = onLeft ? "auto" : `${at.x + 14}px`;
    this.tooltip.style.right = onLeft ? `${this.plot.clientWidth - at.x + 14}px` : "auto";
  }
}
