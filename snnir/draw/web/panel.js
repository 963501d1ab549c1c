"use strict";
// The panel: what is known about what is selected.

function html(tag, className = "", text = null, parent = null) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== null) element.textContent = text;
  if (parent) parent.append(element);
  return element;
}

function panel() {
  const place = $("details"), chosen = state.selected;
  place.replaceChildren();
  for (const button of document.querySelectorAll("#regions button")) {
    button.setAttribute("aria-pressed", String(Boolean(chosen) && Number(button.dataset.region) === regionOf(chosen)));
  }
  if ($("regions")) $("regions").classList.toggle("short", Boolean(chosen));
  if (!chosen) html("p", "hint", data.hint, place);
  else if (chosen.region !== undefined) regionPanel(place, chosen.region);
  else if (chosen.item[0] === "m") modulePanel(place, chosen.key, chosen.item.slice(1));
  else nodePanel(place, chosen.key, chosen.item.slice(1));
}

function regionOf(chosen) {
  if (chosen.region !== undefined) return chosen.region;
  return chosen.item[0] === "b" ? pictures[chosen.key].side.nodes[chosen.item.slice(1)].region : -1;
}

function nodePanel(place, key, id) {
  const node = pictures[key].side.nodes[id];
  html("h2", "", node.name, place);
  html("p", "what", node.what, place);
  table(place, node.facts);
  if (other(key)) twinList(place, key, `b${id}`);
  if (node.region >= 0) regionLine(place, node.region);
  said(place, node.said);
  if (node.parameters.length) {
    html("h3", "", "Parameters", place);
    table(place, node.parameters);
  }
  neighbours(place, key, id);
}

function modulePanel(place, key, path) {
  const module = pictures[key].modules.get(path);
  html("h2", "", path, place);
  html("p", "what", module.summary, place);
  const button = html("button", "", pictures[key].open.has(path) ? "close" : "open", place);
  button.addEventListener("click", () => { toggle(key, path); panel(); });
  table(place, module.facts);
  if (other(key)) twinList(place, key, `m${path}`);
  for (const number of new Set(module.members.map((id) => pictures[key].side.nodes[id].region))) {
    if (number >= 0) regionLine(place, number);
  }
}

function regionPanel(place, number) {
  const region = data.regions[number];
  html("h2", "", region.name, place);
  for (const key of keys) {
    html("h3", "", key, place);
    links(place, key, region[key]);
  }
  said(place, region.said);
}

function table(place, rows) {
  const body = html("table", "", null, place);
  for (const [name, value] of rows) {
    const row = html("tr", "", null, body);
    html("th", "", name, row).scope = "row";
    html("td", "", value, row);
  }
}

function links(place, key, ids) {
  const list = html("ul", "links", null, place);
  if (!ids.length) html("li", "none", "nothing", list);
  for (const id of ids) {
    const button = html("button", "", pictures[key].side.nodes[id].name, html("li", "", null, list));
    button.addEventListener("click", () => {
      select(key, `b${id}`, {go: true});
      const element = pictures[key].elements.get(`b${id}`);
      if (element) element.focus({preventScroll: true});
    });
  }
}

function twinList(place, key, item) {
  html("h3", "", `Twins ${other(key)}`, place);
  links(place, other(key), twinsOf(key, item));
}

function regionLine(place, number) {
  const line = html("p", "rewritten", "rewritten by ", place);
  const button = html("button", "", data.regions[number].name, line);
  button.style.setProperty("--pass", `var(--pass-${data.regions[number].colour})`);
  button.addEventListener("click", () => selectRegion(number));
}

function said(place, lines) {
  if (!lines.length) return;
  html("h3", "", "What the passes said", place);
  const list = html("ul", "said", null, place);
  for (const number of lines) {
    const line = data.said[number], item = html("li", line.kind, null, list);
    html("b", "", line.pass, item);
    item.append(` ${line.where}: ${line.kind === "declined" ? "declined: " : ""}${line.text}`);
  }
}

function neighbours(place, key, id) {
  const {before, after} = pictures[key].side.nodes[id];
  if (before.length) html("h3", "", "Reads", place);
  if (before.length) links(place, key, before);
  if (after.length) html("h3", "", "Is read by", place);
  if (after.length) links(place, key, after);
}
