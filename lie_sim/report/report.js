/* Brings the page to life: theme, player and charts from the embedded numbers. */

const report = JSON.parse(document.getElementById("report-data").textContent);
const hostOf = (name) => document.querySelector(`[data-chart="${name}"]`);
const views = []; // what draws on a canvas, and so must be told of another theme

/* ---- theme ---- */

const systemDark = matchMedia("(prefers-color-scheme: dark)");
const themeToggle = document.getElementById("theme-toggle");

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  themeToggle.setAttribute("aria-pressed", String(theme === "dark"));
  themeToggle.setAttribute("aria-label", "Dark theme");
  themeToggle.textContent = theme === "dark" ? "☀ Light" : "☾ Dark";
  for (const view of views) view.draw();
}

let readerChose = false;
themeToggle.addEventListener("click", () => {
  readerChose = true;
  setTheme(document.documentElement.dataset.theme === "dark" ? "light" : "dark");
});
systemDark.addEventListener("change", () => {
  if (!readerChose) setTheme(systemDark.matches ? "dark" : "light");
});

/* ---- charts ---- */

function showCurves(name, yName) {
  const curves = report[name];
  if (!curves) return;
  new LineChart(hostOf(name), {
    series: curves.series, limits: curves.limits, horizon: curves.horizon,
    xName: "time", xUnit: curves.timeUnit, yName,
  });
}

/* Rows of the learning curve that have a value in both columns, as one series. */
function learningSeries(columns, axis, key, name) {
  const rows = columns[axis].map((_, row) => row).filter((row) => columns[axis][row] !== null);
  // Validation is measured now and then: its points are joined across the rows between.
  const kept = !["train_loss", "learning_rate"].includes(key) ? rows.filter((row) => columns[key][row] !== null) : rows;
  return { name, x: kept.map((row) => columns[axis][row]), y: kept.map((row) => columns[key][row]) };
}

function showLearning() {
  if (!report.learning) return;
  const { columns, limits } = report.learning;
  const has = (key) => columns[key].some((value) => value !== null);
  const host = hostOf("learning");
  const losses = [["train_loss", "training loss"], ["validation_loss", "validation loss"]]
    .filter(([key]) => key === "train_loss" || has(key));
  const axisOptions = (axis, keys) => ({
    series: keys.map(([key, name]) => learningSeries(columns, axis, key, name)),
    xName: axis === "step" ? "step" : "CPU time", xUnit: axis === "step" ? "" : "s",
  });
  const charts = [{ keys: losses, limits: limits.loss, yName: "loss", height: 300 }];
  const several = (key) => columns[key].filter((value) => value !== null).length > 1 || report.learning.broken.includes(key);
  if (several("learning_rate")) {
    charts.push({ keys: [["learning_rate", "learning rate"]], limits: limits.learning_rate, yName: "rate", height: 150 });
  }
  for (const [key, name] of Object.entries(report.learning.metrics)) {
    if (several(key)) charts.push({ keys: [[key, name]], limits: limits[key], yName: "validation", height: 190 });
  }
  const drawn = charts.map(({ keys, ...options }) => ({
    keys, chart: new LineChart(host.appendChild(element("div")), { ...options, ...axisOptions("step", keys) }),
  }));
  if (has("cpu_seconds")) {
    addAxisSwitch(drawn[0].chart, (axis) => drawn.forEach(({ keys, chart }) => chart.update(axisOptions(axis, keys))));
  }
}

/* Two buttons of which one is pressed: steps or CPU time along the horizontal axis. */
function addAxisSwitch(chart, choose) {
  const group = element("div", { class: "switch", role: "group", "aria-label": "Horizontal axis" });
  for (const [axis, label] of [["step", "by step"], ["cpu_seconds", "by CPU time"]]) {
    const button = element("button", { type: "button", class: "button", "aria-pressed": String(axis === "step") }, label);
    button.addEventListener("click", () => {
      for (const other of group.children) other.setAttribute("aria-pressed", String(other === button));
      choose(axis);
    });
    group.append(button);
  }
  chart.top.append(group);
}

/* ---- printing: light paper, everything unfolded ---- */

let beforePrint = null;
addEventListener("beforeprint", () => {
  beforePrint = document.documentElement.dataset.theme;
  setTheme("light");
  for (const fold of document.querySelectorAll("details")) fold.open = true;
});
addEventListener("afterprint", () => setTheme(beforePrint));

/* ---- start ---- */

setTheme(document.documentElement.dataset.theme);
const playerRoot = document.getElementById("player");
if (playerRoot) views.push(new TrajectoryPlayer(playerRoot, report.trajectories, report.firstTrajectory));
showCurves("error", "mean squared error");
showCurves("energy", "energy change / mean kinetic energy");
for (const parity of report.parity) new ParityChart(hostOf("parity").appendChild(element("div")), parity);
const moleculesRoot = document.getElementById("molecules");
if (moleculesRoot) views.push(new MoleculeViewer(moleculesRoot, report.molecules));
report.plots.forEach(({ yName, yUnit, ...plot }, index) =>
  new LineChart(hostOf(`plot-${index}`), { ...plot, yName: quantity(yName, yUnit) }));
showLearning();
