"use strict";
const report = JSON.parse(document.getElementById("data").textContent);

// Figures: drawn in the palette of the page's scheme, and in the light one on paper.
const darkScheme = matchMedia("(prefers-color-scheme: dark)");
const chosen = {};
let printing = false;

function figure(name) {
  const palette = report.palette[darkScheme.matches && !printing ? "dark" : "light"];
  const text = JSON.stringify(report.figures[name][chosen[name]]);
  return JSON.parse(text.replace(/"var\(--(\w+)\)"/g, (_, colour) => `"${palette[colour]}"`));
}
function drawFigure(name) {
  const { data, layout } = figure(name);
  layout.width = printing ? 660 : undefined;
  return Plotly.react(name, data, layout, {
    responsive: true, displaylogo: false, modeBarButtonsToRemove: ["select2d", "lasso2d"],
  });
}
function drawFigures() {
  for (const name of Object.keys(report.figures)) drawFigure(name);
}
for (const [name, variants] of Object.entries(report.figures)) chosen[name] = Object.keys(variants)[0];
drawFigures();
darkScheme.addEventListener("change", drawFigures);
// A choice may appear again at a table (`anytime`, `anytime-costs`), and goes with the first.
const inputs = [...document.querySelectorAll(".axis input")];
const nameOf = input => input.name.split("-")[0];
for (const input of inputs)
  input.addEventListener("change", () => {
    const [name, value] = [nameOf(input), input.value];
    chosen[name] = value;
    drawFigure(name);
    for (const other of inputs) if (nameOf(other) === name) other.checked = other.value === value;
    for (const part of document.querySelectorAll(`[data-of="${name}"]`))
      part.hidden = part.dataset.variant !== value;
  });

const closed = [...document.querySelectorAll("details:not([open])")];
addEventListener("beforeprint", () => {
  printing = true;
  for (const each of closed) each.open = true;
  drawFigures();
});
addEventListener("afterprint", () => {
  printing = false;
  for (const each of closed) each.open = false;
  drawFigures();
});
