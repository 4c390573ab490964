/* What the player needs besides its own state: the strip above the slider, sizes, and times.

   report_player.js uses these functions; they know nothing of the player. */

/* Draws the distance between true and predicted, frame by frame, and marks where training data ends.
   part: the player's elements by name; horizonFrame: fractional frame of the mark, or null. */
function drawTimeline(part, distances, horizonFrame) {
  const { strip } = part;
  const last = Math.max(distances.length - 1, 1);
  strip.setAttribute("viewBox", `0 0 ${last} 1`);
  const finite = distances.filter(Number.isFinite);
  const top = finite.reduce((a, b) => Math.max(a, b), 0) || 1;
  const heights = distances.map((value) => Number.isFinite(value) ? 1 - 0.92 * value / top : 1);
  const outline = heights.map((value, frame) => `L${frame} ${value.toFixed(4)}`).join("");
  strip.replaceChildren(
    svgElement("path", { class: "strip-error", d: `M0 1${outline}L${heights.length - 1} 1Z` }),
    svgElement("line", { class: "strip-base", x1: 0, x2: last, y1: 1, y2: 1 }),
  );
  const label = part["horizon-label"];
  label.hidden = horizonFrame === null;
  if (horizonFrame === null) return;
  strip.prepend(svgElement("rect", { class: "strip-seen", x: 0, y: 0, width: horizonFrame, height: 1 }));
  strip.append(svgElement("line", { class: "strip-horizon", x1: horizonFrame, x2: horizonFrame, y1: 0, y2: 1.5 }));
  label.textContent = "training data ends";
  label.style.left = `clamp(58px, calc(8px + (100% - 16px) * ${horizonFrame / last}), calc(100% - 58px))`;
}

const orElse = (value, other) => Number.isFinite(value) ? value : other;

/* Decimals that resolve a five-hundredth of a range. */
const decimalsFor = (range) => range > 0 ? clamp(Math.ceil(-Math.log10(range / 500)), 0, 8) : 0;

/* Radii in pixels, by the logarithm of size: suns and planets can be seen together. */
function markerRadii(sizes) {
  const logarithms = sizes.map((size) => size > 0 ? Math.log(size) : null);
  const known = logarithms.filter((value) => value !== null);
  const low = Math.min(...known);
  const spread = Math.max(...known) - low;
  if (!(spread > 1e-6)) return sizes.map(() => 5.5);
  // Sizes that differ little should look so: the full range is used from a ratio of 20 on.
  const range = 5 * Math.min(1, spread / Math.log(20));
  return logarithms.map((value) => 5.5 + range * ((value === null ? 0 : (value - low) / spread) - 0.5));
}

/* The fractional frame at which `time` is reached; null when it is not inside the trajectory. */
function frameOfTime(times, time) {
  if (time === null || time < times[0] || time > times[times.length - 1]) return null;
  const after = times.findIndex((value) => value >= time);
  if (after === 0) return 0;
  return after - 1 + (time - times[after - 1]) / (times[after] - times[after - 1]);
}

/* A canvas cannot use the style sheet's variables by name: read their present values. */
function themeColours() {
  const style = getComputedStyle(document.documentElement);
  const series = Array.from({ length: SERIES_COLOURS }, (_, index) => style.getPropertyValue(`--series-${index}`));
  return { series, muted: style.getPropertyValue("--muted"), page: style.getPropertyValue("--page") };
}
