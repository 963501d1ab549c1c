"use strict";
// The page is whole without this script: it reads out what lies under the pointer, and opens the section of a link.
for (const figure of document.querySelectorAll("figure[data-marks]")) {
  const svg = figure.querySelector("svg");
  const line = figure.querySelector(".readout");
  const { left, top, cell, height, from, neurons, marks } = JSON.parse(figure.dataset.marks);
  const known = new Map(marks.map(([t, row, want, got]) => [`${t},${row}`, [want, got]]));
  const still = line.textContent;
  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect();
    const t = Math.floor((event.clientX - box.left - left) / cell);
    const row = Math.floor((event.clientY - box.top - top) / height);
    if (row < 0 || row >= neurons.length || t < 0) { line.textContent = still; return; }
    const values = known.get(`${t},${row}`);
    const what = values ? `reference ${values[0]}, target ${values[1]}` : "the same";
    line.textContent = `step ${from + t}, neuron ${neurons[row]}: ${what}`;
  });
  svg.addEventListener("pointerleave", () => { line.textContent = still; });
}
function openTarget() {
  const found = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (found instanceof HTMLDetailsElement) { found.open = true; found.scrollIntoView(); }
}
addEventListener("hashchange", openTarget);
openTarget();
document.documentElement.dataset.ready = "yes";
